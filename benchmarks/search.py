"""How long does a search take, from the command to its end, against the ways that people know?

Ours is `avsc-search run` with 16 and with 48 trials of three epochs of preset `demo`, two at a
time on a machine with two cores. The rivals in `benchmarks/rivals/` train as many trials of the
same model on the same data. Each is measured several times in turn, because other work on the
machine changes within minutes; a row has the median.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from avsc_core.data.features import build_features, open_data
from avsc_core.processes import no_progress
from avsc_core.record.recorder import Recorder
from avsc_core.resolve import resolve
from benchmarks.report import keep
from benchmarks.rivals.training import EPOCHS, HIGH, LOW, SEARCHED

REPEATS = 3
SIZES = (16, 48)
OURS = "avsc-search run"
RIVALS = Path(__file__).parent / "rivals"
PROGRAMS = Path(sys.executable).parent

STUDY = {
    "question": "How long does a search take?",
    "base": {"training.epochs": EPOCHS},
    "search": {
        "space": {name: {"low": LOW, "high": HIGH, "log": True} for name in SEARCHED},
        "scheduler": "none",
    },
}


def main() -> None:
    """Measure all and keep the result."""
    build_features(open_data(None, no_progress), resolve("demo"), no_progress)
    rows = []
    for trials in SIZES:
        seconds: dict[str, list[float]] = {}
        for _ in range(REPEATS):
            for name, command in list_commands(trials).items():
                seconds.setdefault(name, []).append(run(command))
        ours = statistics.median(seconds[OURS])
        for name, values in seconds.items():
            median = statistics.median(values)
            rows.append(
                {"runner": name, "trials": trials, "wall, s": median, "of ours": median / ours}
            )
    keep("search", "How long does a search take, from the command to its end?", rows)


def list_commands(trials: int) -> dict[str, list[str]]:
    """List the commands; each lacks the address of the record, its last argument."""
    program = [str(PROGRAMS / "avsc-search"), "run", "search.yaml", "--cpus", "1"]
    module = [sys.executable, "-m"]
    return {
        OURS: [*program, "--trials", str(trials), "--tracking-uri"],
        "Optuna's loop, two processes": [*module, "benchmarks.rivals.optuna_loop", str(trials)],
        "Ray Tune's tutorial": [*module, "benchmarks.rivals.ray_tutorial", str(trials)],
        "a shell loop, two processes": ["sh", str(RIVALS / "shell_loop.sh"), str(trials)],
    }


def run(command: list[str]) -> float:
    """Run a command in a new folder with a record made beforehand. Returns its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "search.yaml").write_text(yaml.safe_dump(STUDY))
        uri = f"sqlite:///{folder}/mlruns/mlflow.db"
        Recorder(uri)
        root = str(Path(__file__).parents[1])
        environment = os.environ | {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "PYTHONPATH": root,
        }
        start = time.perf_counter()
        done = subprocess.run([*command, uri], cwd=folder, env=environment, capture_output=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return seconds


if __name__ == "__main__":
    main()
