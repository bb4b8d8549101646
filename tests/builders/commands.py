"""The two command lines, called in this process or as a process of their own.

A process costs seconds before it does anything (an interpreter, torch, MLflow). So only the tests
that need one start one: for signals, for Ray, for exit codes as a shell sees them.
"""

import os
import signal
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import avsc_core.cli
import studies.cli

BIN = Path(sys.executable).parent
RECORD = Path("mlruns/mlflow.db")  # in the folder where commands run
MAINS = {"avsc-core": avsc_core.cli.main, "avsc-search": studies.cli.main}


class Done(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


def run(folder: Path, *command: str) -> Done:
    """Run a command in this process, as if it had been started in `folder`."""
    out = StringIO()
    err = StringIO()
    environment = dict(os.environ)
    if (folder / RECORD).is_file():
        # MLflow keeps one store for each address in a process, and the default address is relative:
        # under it a second folder would get the record of the first one.
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / RECORD}"

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            chdir(folder),
            patch.dict(os.environ, environment),
            patch.object(sys, "argv", list(command)),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            MAINS[command[0]]()
    except SystemExit as ending:
        return Done(int(ending.code or 0), out.getvalue(), err.getvalue())
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    raise AssertionError(f"{command} did not exit")


def start_process(folder: Path, *command: str) -> "subprocess.Popen[str]":
    """Start a command as a process of its own, the leader of a group as in a terminal."""
    return subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run_process(folder: Path, *command: str) -> Done:
    """Run a command as a process of its own."""
    process = start_process(folder, *command)
    out, err = process.communicate(timeout=240)
    assert "Traceback" not in err
    return Done(process.returncode, out, err)
