"""Records that are away: a real server that hangs or dies, a file that another process has locked.

And what a writer is told meanwhile.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from avsc_core.config import Config
from avsc_core.record.delivery.writer import Writer
from tests.builders.records import copy_empty_record

TAGS = {"avsc.kind": "trial", "avsc.study": "s", "avsc.role": "arm", "avsc.arm": "row 1"}
# Without these a server starts processes for jobs, of 240 MB each.
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def find_free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MlflowServer:
    """A server with a record in a folder, always on the same port. It serves artifacts too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = find_free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        copy_empty_record(folder / "mlflow.db")
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(self.port)),
                *("--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"),
                *("--artifacts-destination", str(self.folder / "artifacts")),
            ],
            cwd=self.folder,
            env=os.environ | QUIET,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + 120
        while not self._answers():
            assert time.monotonic() < end
            time.sleep(0.2)

    def freeze(self) -> None:
        """Stop all its processes as they are: connections are accepted, and nobody answers."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let a frozen server go on."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill all its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock an SQLite file from another process, as somebody's backup may."""
    code = (
        "import sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n"
        "database.execute('BEGIN EXCLUSIVE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "locked\n"
    try:
        yield
    finally:
        process.communicate()


def tell_trial(writer: Writer, config: Config) -> str:
    """Tell a writer everything that happens to a trial. Returns the name of its run."""
    run = writer.begin(config, TAGS, "parent")
    writer.add_environment(run, {"avsc.host": "here"})
    for epoch in (1, 2):
        writer.log_epoch(run, epoch, {"val_acc": epoch / 4, "seconds": float(epoch)})
    writer.log_text(run, "predictions_val.tsv", "text")
    writer.end(run, "complete", {"best_val_acc": 0.5}, {"avsc.note": "n"})
    return run
