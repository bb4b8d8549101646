"""What all cases share: scenes with their features in a cache, an empty record."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from avsc_core.record.recorder import Recorder
from benchmarks.faults import forked
from benchmarks.faults.place import BASE, ROOT, SETTINGS


def prepare() -> None:
    """Write the scenes, their features and an empty record, unless they are there."""
    if (BASE / "ready").is_file():
        return
    shutil.rmtree(BASE, ignore_errors=True)
    BASE.mkdir(parents=True)
    scenes = str(BASE / "scenes")
    sets = [word for item in SETTINGS.items() for word in ("--set", "=".join(item))]
    _run_core("demo-data", scenes, "--clips-per-scene", "3", "--seed", "1")
    _run_core("features", scenes, "--preset", "demo", *sets)
    forked.call(lambda: Recorder(f"sqlite:///{BASE / 'empty.db'}"))
    (BASE / "ready").touch()


def _run_core(*command: str) -> None:
    """Run a command of `avsc-core` with the cache of the harness."""
    program = str(Path(sys.executable).parent / "avsc-core")
    environment = {**os.environ, "AVSC_CACHE": str(BASE / "cache"), "PYTHONPATH": str(ROOT)}
    subprocess.run([program, *command], env=environment, check=True, stdout=subprocess.DEVNULL)
