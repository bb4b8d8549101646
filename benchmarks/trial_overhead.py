"""What does a trial cost beyond its training, against plain Ray Tune?

Ours is `avsc-search run` on 32 one-epoch trials of preset `demo`, with one worker and cached
features. Everything from the start of the command to its end counts: imports, Ray, MLflow, the
worker, the closing table. The rival trains such epochs in Ray Tune's plain way: a function per
trial, a process per trial, nothing recorded.
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
    """How long some trials took, in seconds."""

    trials: int  # how many
    wall: float  # from start to end
    training: float  # of that in training, over all trials


def main() -> None:
    """Measure both and keep the result."""
    # Both find the features in the cache.
    data = open_data(None, no_progress)
    build_features(data, resolve("demo"), no_progress)

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
    overhead = times.wall - times.training
    return {
        "runner": name,
        "trials": times.trials,
        "wall, s": times.wall,
        "training, s": times.training,
        "overhead per trial, s": overhead / times.trials,
    }


def run_study() -> tuple[Times, Times]:
    """Run a study; return the times of the whole command, and of all trials after the first."""
    # As many arms as trials; their settings differ only in a number that costs no time.
    arms = []
    for number in range(1, TRIALS + 1):
        settings = {"loss_weights.scene": number}
        arms.append({"name": f"arm {number}", "set": settings})
    study = {
        "question": "What does a trial cost?",
        "arms": arms,
        "base": {ONE_EPOCH.key: ONE_EPOCH.value},
    }

    with tempfile.TemporaryDirectory() as folder:
        # The command, of this environment.
        file = Path(folder) / "overhead.yaml"
        file.write_text(yaml.safe_dump(study))
        program = Path(sys.executable).parent / "avsc-search"
        command = [str(program), "run", file.name, "--cpus", "2"]
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        wall = time.perf_counter() - start

        # The ends of its trials, in seconds, from its record.
        recorder = Recorder(f"sqlite:///{folder}/mlruns/mlflow.db")
        trials = recorder.list_trials("overhead")
        ends = []
        for trial in trials:
            run = recorder.client.get_run(trial.run_id)
            ends.append(run.info.end_time / 1000)

    assert len(trials) == TRIALS
    seconds = [trial.metrics["seconds"] for trial in trials]
    whole = Times(trials=TRIALS, wall=wall, training=sum(seconds))
    later = Times(trials=TRIALS - 1, wall=ends[-1] - ends[0], training=sum(seconds[1:]))
    return whole, later


def run_plain_tune() -> Times:
    """Run the same trials in plain Ray Tune."""
    weights = list(range(1, RIVAL_TRIALS + 1))

    start = time.perf_counter()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(train_one, {"cpu": 2}),
            param_space={"scene": tune.grid_search(weights)},
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

    # One epoch, one report of it.
    (epoch,) = fit(config, features, parts.train, parts.validation)
    seconds = time.perf_counter() - start
    tune.report({**epoch.metrics, "seconds": seconds})


if __name__ == "__main__":
    main()
