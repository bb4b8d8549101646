"""What a trial costs beyond its training, against plain Ray Tune.

Ours: `avsc-search run` on 32 one-epoch trials of preset demo, one worker, features cached; everything counts, from the
start of the command to its end: imports, Ray, MLflow, worker, closing table. The rival trains the same epochs in Ray
Tune's plain way: a function per trial, a process per trial, nothing recorded.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import tune

from avsc_core.data.dataset import split_rows
from avsc_core.data.features import build_features, open_data
from avsc_core.processes import no_progress
from avsc_core.record.recorder import Recorder
from avsc_core.resolve import Override, resolve
from avsc_core.trainer.loop import fit
from benchmarks.report import keep

TRIALS, RIVAL_TRIALS, EPOCH = 32, 8, Override("training.epochs", 1, "benchmark")


def main() -> None:
    """Measure both and keep the result."""
    build_features(open_data(None, no_progress), resolve("demo"), no_progress)
    ours, between, ours_trained = run_study()
    theirs, theirs_trained = run_plain_tune()
    rows = [
        row("avsc-search run, whole command", TRIALS, ours, ours_trained),
        row("avsc-search run, second trial to last", TRIALS - 1, *between),
        row("plain Ray Tune, whole run", RIVAL_TRIALS, theirs, theirs_trained),
    ]
    for each in rows:
        each["of plain Ray Tune's"] = (
            each["overhead per trial, s"] / rows[-1]["overhead per trial, s"]
        )
    keep("trial_overhead", "What does a trial cost beyond its training?", rows)


def row(name: str, trials: int, wall: float, trained: float) -> dict[str, Any]:
    """One line of the table."""
    return {
        "runner": name,
        "trials": trials,
        "wall, s": wall,
        "training, s": trained,
        "overhead per trial, s": (wall - trained) / trials,
    }


def run_study() -> tuple[float, tuple[float, float], float]:
    """Wall seconds of the whole command, (wall, training) without its start and its first trial, training seconds."""
    arms = [
        {"name": f"arm {number}", "set": {"loss_weights.scene": number}}
        for number in range(1, TRIALS + 1)
    ]
    study = {"question": "What does a trial cost?", "arms": arms, "base": {EPOCH.key: EPOCH.value}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "overhead.yaml"
        file.write_text(yaml.safe_dump(study))
        command = [
            str(Path(sys.executable).parent / "avsc-search"),
            "run",
            file.name,
            "--cpus",
            "2",
        ]
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        wall = time.perf_counter() - began
        recorder = Recorder(f"sqlite:///{folder}/mlruns/mlflow.db")
        trials = recorder.list_trials("overhead")
        ends = [recorder.client.get_run(trial.run_id).info.end_time / 1000 for trial in trials]
    assert len(trials) == TRIALS
    seconds = [trial.metrics["seconds"] for trial in trials]
    return wall, (ends[-1] - ends[0], sum(seconds[1:])), sum(seconds)


def train_one(settings: dict[str, Any]) -> None:
    """A trial the plain way; its own clock starts when everything is imported and loaded."""
    began = time.perf_counter()
    config = resolve(
        "demo", [EPOCH, Override("loss_weights.scene", settings["scene"], "benchmark")]
    )
    features = build_features(open_data(None, no_progress), config, no_progress)
    parts = split_rows(features.data, config.split)
    (epoch,) = fit(config, features, parts.train, parts.validation)
    tune.report({**epoch.metrics, "seconds": time.perf_counter() - began})


def run_plain_tune() -> tuple[float, float]:
    """(wall seconds, training seconds) of the same trials in plain Ray Tune."""
    began = time.perf_counter()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        space = {"scene": tune.grid_search(list(range(1, RIVAL_TRIALS + 1)))}
        trainable = tune.with_resources(train_one, {"cpu": 2})
        results = tune.Tuner(
            trainable, param_space=space, run_config=tune.RunConfig(storage_path=folder, verbose=0)
        ).fit()
    ray.shutdown()
    return time.perf_counter() - began, sum(result.metrics["seconds"] for result in results)
