"""Python imports this file at its start, where its folder is on PYTHONPATH: it logs every epoch.

It writes a line of JSON into the file that FAULTS_LOG names each time the training loop yields an
epoch, in whatever process that is, so that the harness knows what was trained without asking the
record. FAULTS_CLOCK shifts the wall clock by so many seconds.
"""

import importlib.abc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from functools import wraps
from typing import Any

LOOP = "avsc_core.trainer.loop"


def log_epochs(module: Any) -> None:
    """Replace the training loop of the module by one that logs the epochs it yields."""
    fit = module.fit

    @wraps(fit)
    def logged(config: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        from avsc_core.resolve import trial_key

        for epoch in fit(config, *args, **kwargs):
            entry = {
                "key": trial_key(config),
                "epoch": epoch.number,
                "pid": os.getpid(),
                "invocation": int(os.environ.get("FAULTS_INVOCATION", "0")),
            }
            with open(os.environ["FAULTS_LOG"], "a") as file:
                file.write(json.dumps(entry) + "\n")
            yield epoch

    module.fit = logged


class LoopFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the training loop as Python would, and changes it once it is loaded."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != LOOP:
            return None
        sys.meta_path.remove(self)
        spec: Any = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def load(module: Any) -> None:
            execute(module)
            log_epochs(module)

        spec.loader.exec_module = load
        return spec


def shift_clock(seconds: float) -> None:
    """Shift the wall clock of this process."""
    real_time, real_time_ns = time.time, time.time_ns
    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_time_ns() + int(seconds * 1e9)


if "FAULTS_LOG" in os.environ:
    sys.meta_path.insert(0, LoopFinder())
if "FAULTS_CLOCK" in os.environ:
    shift_clock(float(os.environ["FAULTS_CLOCK"]))
