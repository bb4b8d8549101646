"""The worker processes of a study that runs, found from outside, to be hurt."""

import subprocess
import time

import psutil

NAMES = ("ray::StudyTrial", "ray::ResourceTrainable")  # while they train; Ray names them so


def wait_for_worker(study: "subprocess.Popen[str]", but: list[int], seconds: float = 600) -> int:
    """Wait for a worker of a study that is not one of `but`. Returns its process id."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and study.poll() is None:
        for process in psutil.Process(study.pid).children(recursive=True):
            try:
                name = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if name.startswith(NAMES) and process.pid not in but:
                return process.pid
        time.sleep(0.1)
    raise AssertionError("no worker")
