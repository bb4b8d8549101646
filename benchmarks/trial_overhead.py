"""What does a trial cost beyond its training, against plain Ray Tune?

Ours: `avsc-search run` on 32 one-epoch trials of preset demo, one worker, features cached;
everything counts, from the start of the command to its end: imports, Ray, MLflow, worker, closing
table. The rival trains the same epochs in Ray Tune's plain way: a function per trial, a process per
trial, nothing recorded.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

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

TRIALS = 32
RIVAL_TRIALS = 8
ONE_EPOCH = Override("training.epochs", 1, "benchmark")


class Times(NamedTuple):
    """Seconds of some trials."""

    trials: int
    wall: float
    training: float


def main() -> None:
    """Measure both and keep the result."""
    build_features(open_data(None, no_progress), resolve("demo"), no_progress)
    whole, later = run_study()
    rival = run_plain_tune()
    rows = [
        make_row("avsc-search run, whole command", whole),
        make_row("avsc-search run, second trial to last", later),
        make_row("plain Ray Tune, whole run", rival),
    ]
    unit = rows[-1]["overhead per trial, s"]
    for row in rows:
        row["of plain Ray Tune's"] = row["overhead per trial, s"] / unit
    keep("trial_overhead", "What does a trial cost beyond its training?", rows)


def make_row(name: str, times: Times) -> dict[str, Any]:
    """Make one line of the table."""
    return {
        "runner": name,
        "trials": times.trials,
        "wall, s": times.wall,
        "training, s": times.training,
        "overhead per trial, s": (times.wall - times.training) / times.trials,
    }


def run_study() -> tuple[Times, Times]:
    """Run a study; return the times of the whole command, and of all trials after the first."""
    arms = []
    for number in range(1, TRIALS + 1):
        arms.append({"name": f"arm {number}", "set": {"loss_weights.scene": number}})
    study = {
        "question": "What does a trial cost?",
        "arms": arms,
        "base": {ONE_EPOCH.key: ONE_EPOCH.value},
    }

    with tempfile.TemporaryDirectory() as folder:
        # the command
        file = Path(folder) / "overhead.yaml"
        file.write_text(yaml.safe_dump(study))
        program = str(Path(sys.executable).parent / "avsc-search")
        start = time.perf_counter()
        command = [program, "run", file.name, "--cpus", "2"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        wall = time.perf_counter() - start

        # its record
        recorder = Recorder(f"sqlite:///{folder}/mlruns/mlflow.db")
        trials = recorder.list_trials("overhead")
        ends = [recorder.client.get_run(trial.run_id).info.end_time / 1000 for trial in trials]

    assert len(trials) == TRIALS
    seconds = [trial.metrics["seconds"] for trial in trials]
    whole = Times(trials=TRIALS, wall=wall, training=sum(seconds))
    later = Times(trials=TRIALS - 1, wall=ends[-1] - ends[0], training=sum(seconds[1:]))
    return whole, later


def run_plain_tune() -> Times:
    """Run the same trials in plain Ray Tune."""
    start = time.perf_counter()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(train_one, {"cpu": 2}),
            param_space={"scene": tune.grid_search(list(range(1, RIVAL_TRIALS + 1)))},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    ray.shutdown()
    wall = time.perf_counter() - start
    training = sum(result.metrics["seconds"] for result in results)
    return Times(trials=RIVAL_TRIALS, wall=wall, training=training)


def train_one(settings: dict[str, Any]) -> None:
    """Train one trial the plain way; its clock starts when everything is imported and loaded."""
    start = time.perf_counter()
    weight = Override("loss_weights.scene", settings["scene"], "benchmark")
    config = resolve("demo", [ONE_EPOCH, weight])
    features = build_features(open_data(None, no_progress), config, no_progress)
    parts = split_rows(features.data, config.split)
    (epoch,) = fit(config, features, parts.train, parts.validation)
    tune.report({**epoch.metrics, "seconds": time.perf_counter() - start})


if __name__ == "__main__":
    main()
