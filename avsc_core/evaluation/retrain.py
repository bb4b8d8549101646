"""`avsc-core train`: one configuration trained and recorded, with the same loop and record as a study's trials.

Plain: train on the training split, watch validation, keep the last epoch's model; the test split stays unread.
The winner of a study (`--best`): train on train plus validation for as many epochs as its best epoch had, with nothing
left to select, then read the test split once, record `test_acc` and `test_logloss`, and register the model in MLflow.
A training that was interrupted continues in the same run when the same command is given again; while it runs, another
process is refused it.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.data.features import Features
from avsc_core.errors import Diverged, Fault, UserError
from avsc_core.evaluation.breakdown import draw_confusions
from avsc_core.evaluation.evaluate import Trained, evaluate_rows, save_trained
from avsc_core.metrics import format_confusions, format_predictions
from avsc_core.processes import Progress, no_progress
from avsc_core.record.address import CHECKPOINTS
from avsc_core.record.recorder import Recorder
from avsc_core.record.winner import Winner
from avsc_core.resolve import trial_key
from avsc_core.trainer.frozen import restore_encoders
from avsc_core.trainer.loop import Epoch, fit
from avsc_core.weights.pretrained import check_pretrained


class Result(NamedTuple):
    """What a training left behind."""

    run_id: str
    metrics: dict[str, float]  # test_* of a retrained winner, val_* of a plain training
    registered: str  # models:/NAME@ALIAS of a retrained winner


def check_data(winner: Winner, data: DataSet) -> None:
    """Refuse to retrain a winner on another data set than it won on. Raises UserError."""
    if winner.trial.tags["avsc.data_fingerprint"] != data.fingerprint:
        what = f"the study ran on {winner.trial.tags['avsc.data']}, this is {data.title}, or its files have changed"
        raise UserError(Fault("--data", what, todo="give --data as the study was given it"))


def train_recorded(
    recorder: Recorder,
    config: Config,
    features: Features,
    report: Callable[[Epoch, int], None],
    winner: Winner | None = None,
    progress: Progress = no_progress,
) -> Result:
    """Train `config`, plainly or as the retraining of `winner`; `report` gets each epoch and their number.

    Raises UserError when another process is at the same training.
    """
    experiment = winner.study if winner else "training"
    name = f"{experiment}-{trial_key(config)}-{features.data.fingerprint[:16]}"
    folder = CHECKPOINTS / "training"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"{name}.lock", timeout=0):
            return _train_locked(recorder, experiment, config, features, report, winner, progress)
    except Timeout:
        what = "the same training is running in another process"
        raise UserError(
            Fault("training", what, todo="wait for it, or train with another --set seed")
        ) from None


def _train_locked(
    recorder: Recorder,
    experiment: str,
    config: Config,
    features: Features,
    report: Callable[[Epoch, int], None],
    winner: Winner | None,
    progress: Progress,
) -> Result:
    parts = split_rows(features.data, config.split)
    if winner:
        rows, watched, scored = np.sort(np.concatenate(parts[:2])), parts.validation[:0], parts.test
        epochs, split = round(winner.trial.metrics["best_epoch"]), "test"
    else:
        rows, watched, scored = parts.train, parts.validation, parts.validation
        epochs, split = config.training.epochs, "val"
    accounts = [
        account._asdict() for account in check_pretrained(config)
    ]  # faults show before a run is opened
    run_id, recorded = _open_run(recorder, experiment, config, features.data, winner)
    if accounts:
        recorder.log_json(run_id, "weights.json", accounts)
    checkpoint = CHECKPOINTS / "training" / f"{run_id}.pt"
    try:
        for epoch in fit(
            config, features, rows, watched, epochs=epochs, checkpoint=checkpoint, progress=progress
        ):
            if epoch.number > recorded:
                recorder.log_epoch(run_id, epoch.number, epoch.metrics)
            report(epoch, epochs)
        evaluation = evaluate_rows(epoch.model, epoch.inputs, scored, config)
        metrics = {f"{split}_{name}": value for name, value in evaluation.metrics.items()}
        data, decided = (
            features.data,
            (evaluation.probability, evaluation.scenes, features.data.scene_names),
        )
        table = format_predictions(evaluation.names, evaluation.probability, data.scene_names)
        recorder.log_text(run_id, f"predictions_{split}.tsv", table)
        recorder.log_text(run_id, f"confusion_{split}.tsv", format_confusions(*decided))
        with TemporaryDirectory() as folder:
            names = (data.event_names, data.object_names, list(data.scene_names))
            whole = restore_encoders(epoch.model, config)
            save_trained(
                Path(folder) / "model",
                Trained(whole, config, epoch.inputs.scale, *names, data.title),
            )
            source = recorder.log_folder(run_id, Path(folder) / "model", "model")
            picture = Path(folder) / f"confusion_{split}.png"
            title = f"{split} clips of {data.title}"
            draw_confusions(picture, *decided, title)
            recorder.log_file(run_id, picture)
        registered = ""
        if winner:
            version = recorder.register_model(run_id, source, f"avsc-{winner.study}", "best")
            registered = f"models:/avsc-{winner.study}@best"
            metrics["model_version"] = float(version)
        recorder.end_run(run_id, "complete", metrics)
    except Diverged as error:
        recorder.end_run(run_id, "diverged", {})
        checkpoint.unlink(missing_ok=True)
        raise UserError(
            Fault("training", f"diverged, {error}", todo="a lower training.learning_rate")
        ) from None
    except BaseException:  # Ctrl-C and SIGTERM too: the run can be continued
        recorder.end_run(run_id, "interrupted", {})
        raise
    checkpoint.unlink(missing_ok=True)
    return Result(run_id, metrics, registered)


def _open_run(
    recorder: Recorder, experiment: str, config: Config, data: DataSet, winner: Winner | None
) -> tuple[str, int]:
    """A new run, or the unfinished one of the same training, and the last epoch that is recorded in it."""
    tags = {
        "avsc.kind": "training",
        "avsc.arm": "winner" if winner else "training",
        "avsc.study": winner.study if winner else "",
        "avsc.winner": winner.trial.run_id if winner else "",
        "avsc.data": data.title,
        "avsc.data_fingerprint": data.fingerprint,
    }
    for run in recorder.list_trials(experiment, "training"):
        same = run.key == trial_key(config) and all(
            run.tags.get(name) == value for name, value in tags.items()
        )
        if same and run.outcome in ("running", "interrupted"):
            return run.run_id, recorder.resume_run(run.run_id)
    return recorder.begin_run(experiment, config, tags), 0
