"""Records of studies as runs leave them, without the training, and the tables of their reports.

The effects in them are planted: see `skill`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.data.tables import Clip
from avsc_core.metrics import compute_scores, format_predictions
from avsc_core.record.recorder import Recorder
from avsc_core.record.study_document import FORMAT
from avsc_core.record.trials import CHEAP_RUNG, FULL_RUNG
from studies.engine.strategy import Strategy
from studies.report.blocks import Report
from studies.runner.prepare import define_study
from studies.study.metadata import (
    describe_invocation,
    describe_study,
    format_clips,
    list_seed_counts,
)
from studies.study.plan import Plan, PlannedTrial

SCENES = tuple(f"scene_{number}" for number in range(10))
Outcome = Callable[[PlannedTrial], str]
Measure = Callable[[PlannedTrial, int], dict[str, float]]  # of an epoch, by name
# trial, scenes (N,) -> (N,S), or (B*N,S) of B epochs, one after another
Predict = Callable[[PlannedTrial, np.ndarray], np.ndarray]
Plant = Callable[[PlannedTrial], Mapping[str, float]]  # figures in place of those of predictions


def make_dataset(embedded: bool = True) -> DataSet:
    """Make six clips at each of ten locations of each of ten scenes, without files."""
    clips = []
    for scene in range(10):
        for place in range(10):
            split = "train" if place < 9 else "test"
            for number in range(6):
                name = f"{scene}-{place}-{number}"
                clips.append(Clip(name, Path(), Path(), scene, f"city-{scene}{place}", split))

    none = np.zeros((len(clips), 64), np.uint8)
    names = [str(number) for number in range(64)]
    return DataSet(
        Path("/data/TAU"), clips, none, none, names, names, SCENES, {}, [], [], "f" * 64, embedded
    )


def skill(trial: PlannedTrial) -> float:
    """Return how good a configuration is.

    SF is worth much, lambda_5 something, CEOA and everything else nothing.
    """
    config = trial.config
    return (
        1.0
        + 0.8 * (config.fusion.kind == "semantic")
        + 0.3 * float(np.log10(config.loss_weights.scene))
    )


def predict(trial: PlannedTrial, scenes: np.ndarray) -> np.ndarray:
    """Return (N,S) probabilities, the surer of the true scene the more skill.

    Clips are equally easy or hard for every trial.
    """
    shared = np.random.default_rng(1).normal(size=(len(scenes), len(SCENES)))
    of_trial = np.random.default_rng(int(trial.key[:8], 16)).normal(size=shared.shape)
    logits = 0.8 * shared + 0.5 * of_trial + skill(trial) * np.eye(len(SCENES))[scenes]
    table: np.ndarray = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return table


def complete(trial: PlannedTrial) -> str:
    """Let every trial run to its end."""
    return "complete"


def measure_nothing(trial: PlannedTrial, epoch: int) -> dict[str, float]:
    """Return no further metrics of an epoch, as earlier versions did."""
    return {}


def plant_nothing(trial: PlannedTrial) -> dict[str, float]:
    """Leave the figures as the predictions give them."""
    return {}


def record_study(
    recorder: Recorder,
    plan: Plan,
    data: DataSet,
    outcome: Outcome = complete,
    predict: Predict = predict,
    plant: Plant = plant_nothing,
    measure: Measure = measure_nothing,
) -> None:
    """Record a study as a run leaves it.

    `outcome` says how each trial ends; with "killed" the study ends there. `measure` returns what
    else is recorded of an epoch.
    """
    study = plan.study
    tags = {
        "avsc.metric": study.metric,
        "avsc.data": data.title,
        "avsc.embedded": str(data.embedded).lower(),
    }
    run = recorder.find_study(study.name)
    earlier = recorder.read_study_document(run.run_id) if run else {}
    document = {
        "format": FORMAT,
        "definition": define_study(plan, data),
        "metadata": describe_study(plan),
        "invocations": [describe_invocation()],
        "cost": None,
        "weights": [],
        "skipped": {},
        "looks": earlier.get("looks", []),
        "earlier_seed_counts": list_seed_counts(earlier, study),
    }
    parent = recorder.open_study_run(study.name, tags, document)
    recorder.log_text(parent, "clips_val.tsv", format_clips(data, study.base))

    strategy = Strategy(plan, recorder.list_trials(study.name))
    while trial := strategy.next():
        ending = outcome(trial)
        scenes = data.scenes[split_rows(data, study.base.split).validation]
        table = predict(trial, scenes)
        best = _record_trial(
            recorder, plan, data, trial, ending, parent, table, plant(trial), measure
        )
        if ending == "killed":
            return
        strategy.finish(trial, ending, best)
    recorder.end_run(parent, "complete", {})


def _record_trial(
    recorder: Recorder,
    plan: Plan,
    data: DataSet,
    trial: PlannedTrial,
    ending: str,
    parent: str,
    table: np.ndarray,  # (B*N,S)
    planted: Mapping[str, float],
    measure: Measure,
) -> dict[str, float]:
    """Record one trial of three epochs; return its summary metrics."""
    study = plan.study
    rows = split_rows(data, study.base.split).validation

    tags = {
        "avsc.kind": "trial",
        "avsc.study": study.name,
        "avsc.role": trial.role,
        "avsc.arm": trial.arm,
        "avsc.data": data.title,
        "avsc.data_fingerprint": data.fingerprint,
    }
    if study.final:
        tags |= {
            "avsc.rung": FULL_RUNG if trial.origin else CHEAP_RUNG,
            "avsc.origin": trial.origin,
        }
    run_id = recorder.begin_run(study.name, trial.config, tags, parent)
    if ending == "killed":
        return {}

    # The second epoch is the best, not the last.
    tables = table.reshape(-1, len(rows), table.shape[1])  # (B,N,S)
    scores = [compute_scores(each, data.scenes[rows]) for each in tables]
    good = {f"val_{name}": float(np.mean([each[name] for each in scores])) for name in scores[0]}
    worse = {"val_acc": 0.5 * good["val_acc"], "val_logloss": 2 * good["val_logloss"]}
    for epoch, metrics in enumerate((worse, good, worse), start=1):
        seconds = 10.0 * epoch
        further = {"train_total": 1.0, "seconds": seconds, **measure(trial, epoch)}
        recorder.log_epoch(run_id, epoch, {**metrics, **further})

    if ending == "complete":
        names = [data.clips[row].name for row in rows] * len(tables)
        recorder.log_text(
            run_id, "predictions_val.tsv", format_predictions(names, table, data.scene_names)
        )

    # The second epoch is the best on either half, so it is what every clip is scored at.
    best = {}
    for prefix in ("best", "selected"):
        best |= {f"{prefix}_{name}": value for name, value in good.items()}
        best[f"{prefix}_epoch"] = 2.0
        if ending == "stopped":  # would win if it counted
            best |= {f"{prefix}_val_acc": 1.0, f"{prefix}_val_logloss": 0.0}
    best |= planted
    if ending == "failed":
        best = {}
    error = {"avsc.error": "Boom: it burst"} if ending == "failed" else {}
    recorder.end_run(run_id, ending, best, error)
    return best


def table(report: Report, key: str) -> list[dict[str, str]]:
    """Return a table's rows by the titles of their columns; of equal titles the first."""
    (found,) = [block for block in report.tables if block.key == key]
    rows = []
    for cells in found.rows:
        row: dict[str, str] = {}
        for title, cell in zip(found.header, cells, strict=True):
            row.setdefault(title, cell)
        rows.append(row)
    return rows
