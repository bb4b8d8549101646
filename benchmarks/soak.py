"""Does a long study grow: memory, overhead, open files, temporary files? `make soak [TRIALS=1000]`

A search of many trials of the smallest configuration that trains for real is run by the command,
with one worker, default sampler and default scheduler. Every few seconds its processes and its
temporary folder are looked at. Each quantity is given after a tenth of the trials, at the end, and
as a slope: by how much it grows with a trial, fitted to all between. The two differ where something
grows in steps.
"""

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import yaml

from benchmarks.report import keep
from tests.builders.configs import TINY

TRIALS = 1_000
CLIPS_PER_SCENE = 4
SECONDS_BETWEEN_LOOKS = 2.0
MIB = 2**20
ENDED = re.compile(r"^\d+/\d+ (complete|stopped) ", re.MULTILINE)  # a line of the display

STUDY = {
    "question": "Does a long study grow?",
    "base": dict(yaml.safe_load(item.replace("=", ": ")).popitem() for item in TINY)
    | {"training.epochs": 2},
    "search": {"space": {"loss_weights": None, "training.learning_rate": None}, "grace_epochs": 1},
}


class Look(NamedTuple):
    """What a look at a running study found."""

    trials: int  # that are over
    driver_memory: int  # bytes
    worker_memory: int  # of all workers together
    open_files: int  # of the driver
    temporary_files: int


def main() -> None:
    """Run the study and keep what was seen."""
    trials = int(sys.argv[1]) if sys.argv[1:] else TRIALS
    # Ray keeps its sockets among the temporary files only where the path of these is short.
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as short,
    ):
        folder, temporary = Path(name), Path(short)
        looks = run_study(folder, temporary, trials)
        overheads = read_overheads(folder)
        left = count_files(temporary)
    looks = [look for look in looks if look.trials >= trials / 10]
    places = [look.trials for look in looks]

    rows = [
        describe("driver memory, MiB", places, [look.driver_memory / MIB for look in looks]),
        describe("worker memory, MiB", places, [look.worker_memory / MIB for look in looks]),
        describe("open files of the driver", places, [look.open_files for look in looks]),
        describe("temporary files", places, [look.temporary_files for look in looks]),
        describe("overhead of a trial, ms", range(len(overheads)), overheads),
    ]
    rows.append(dict.fromkeys(rows[0], "") | {"quantity": "files left over", "at the end": left})
    keep("soak", f"Does a study of {trials} trials grow?", rows)


def run_study(folder: Path, temporary: Path, trials: int) -> list[Look]:
    """Run the study in a folder, with another one for its temporary files.

    Returns what was seen of it, look by look.
    """
    (folder / "soak.yaml").write_text(yaml.safe_dump(STUDY))
    environment = {**os.environ, "TMPDIR": str(temporary)}
    programs = Path(sys.executable).parent
    make_data = [str(programs / "avsc-core"), "demo-data", "data"]
    make_data += ["--clips-per-scene", str(CLIPS_PER_SCENE)]
    subprocess.run(make_data, cwd=folder, check=True, capture_output=True)

    one_worker = str(os.cpu_count())
    command = [str(programs / "avsc-search"), "run", "soak.yaml", "--preset", "demo"]
    command += ["--data", "data", "--trials", str(trials), "--cpus", one_worker]
    looks = []
    log = folder / "log"
    with log.open("wb") as errors:
        study = psutil.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        while study.poll() is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            with suppress(psutil.Error):  # a process that has just ended
                looks.append(look_at(study, folder, temporary))
    if study.returncode:
        raise RuntimeError(log.read_text()[-2000:])
    return looks


def look_at(study: psutil.Process, folder: Path, temporary: Path) -> Look:
    """Look at a running study."""
    workers = 0
    for child in study.children(recursive=True):
        with suppress(psutil.Error):
            if child.cmdline()[0].startswith("ray::"):
                workers += child.memory_info().rss
    return Look(
        trials=len(ENDED.findall((folder / "log").read_text())),
        driver_memory=study.memory_info().rss,
        worker_memory=workers,
        open_files=study.num_fds(),
        temporary_files=count_files(temporary),
    )


def count_files(folder: Path) -> int:
    """Count files and folders below a folder."""
    return sum(len(files) + len(folders) for _, folders, files in os.walk(folder))


def read_overheads(folder: Path) -> list[float]:
    """Read how many milliseconds each trial took beyond its training, in the order they ended."""
    query = """
        SELECT end_time, latest_metrics.value FROM runs
        JOIN tags USING (run_uuid) JOIN latest_metrics USING (run_uuid)
        WHERE tags.key = 'avsc.kind' AND tags.value = 'trial' AND latest_metrics.key = 'seconds'
        ORDER BY end_time
    """
    with closing(sqlite3.connect(folder / "mlruns/mlflow.db")) as database:
        rows = database.execute(query).fetchall()
    ends, seconds = zip(*rows, strict=True)
    overheads = np.diff(ends) - 1000 * np.array(seconds[1:])
    return [float(overhead) for overhead in overheads]


def describe(quantity: str, places: Sequence[int], values: Sequence[float]) -> dict[str, Any]:
    """Describe how a quantity, with a value at each of some numbers of trials, has grown.

    Both ends are medians of a tenth of the values, because a single one may be off.
    """
    few = max(1, len(values) // 10)
    slope, _ = np.polyfit(places, values, 1)
    return {
        "quantity": quantity,
        "after a tenth": float(np.median(values[:few])),
        "at the end": float(np.median(values[-few:])),
        "slope, for 1,000 trials": 1000 * float(slope),
    }


if __name__ == "__main__":
    main()
