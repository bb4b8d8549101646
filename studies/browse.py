"""Opens MLflow's pages on a record: `avsc-search ui`.

MLflow's server runs as a process of its own, reachable from this machine only, and ends with the
command. A record that is behind a server already has its pages there.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from avsc_core.errors import EnvironmentFault, Fault, UserError
from avsc_core.record.address import hide_secrets
from avsc_core.record.reading.record import Record, open_record
from avsc_core.terminal import err, out
from studies.study.page import TAG, make_link

HOST = "127.0.0.1"
START_SECONDS = 120.0  # MLflow's server takes some ten seconds, on a busy machine more
END_SECONDS = 5.0
# One process serves one person. Jobs of MLflow's own are for chats and agents.
OPTIONS = ("--workers", "1", "--uvicorn-opts", "--log-level warning")
SWITCHES = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def browse(study: str | None, uri: str | None, port: int) -> None:
    """Open MLflow on the trials of a study, or of the latest one, until Ctrl-C.

    Raises UserError when there is no record or no such study, or the port is taken.
    """
    record = open_record(uri)
    link = _find_link(record, study)
    if record.uri.startswith(("http://", "https://")):
        # The browser asks for a password that it needs; a command line can be read by everybody.
        parts = urlsplit(record.uri)
        host = parts.netloc.rpartition("@")[2]
        _show(f"{parts.scheme}://{host}{parts.path.rstrip('/')}{link}")
        return

    _check_port(port)
    # Ctrl-C is how people end it, and interrupts nothing that would have to continue. A terminal
    # that is closed sends SIGHUP, which `nohup` ignores.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    with suppress(KeyboardInterrupt), _serve(record.uri, port) as (server, log):
        _show(f"http://{HOST}:{port}{link}", "Ctrl-C ends it")
        server.wait()
        raise EnvironmentFault(Fault("ui", f"MLflow's server has ended: {_read_last(log)}"))


def _find_link(record: Record, study: str | None) -> str:
    """Return the end of the address of a study's trials; of all studies while there is none."""
    if study is None and not record.list_studies():
        return "/"
    name = record.get_study(study, "STUDY").tags["avsc.study"]
    experiment = record.find_experiment(name)
    if experiment is None:  # renamed in MLflow's pages
        return "/"
    return make_link(experiment.experiment_id, TAG in experiment.tags)


def _show(address: str, hint: str = "") -> None:
    """Print an address, and open it where there is a desktop."""
    out.print(f"{address}  ({hint})" if hint else address, soft_wrap=True)
    has_desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if has_desktop and sys.stdout.isatty():
        webbrowser.open(address)


def _check_port(port: int) -> None:
    """Raise UserError, which names a free port, when a port cannot be used."""
    with socket.socket() as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            ours.bind((HOST, port))
        except OSError as error:
            what = f"port {port} cannot be used ({error.strerror})"
            with socket.create_server((HOST, 0)) as free:
                todo = f"use another one, such as --port {free.getsockname()[1]}"
            raise UserError(Fault("--port", what, todo=todo)) from None


@contextmanager
def _serve(uri: str, port: int) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Start MLflow's server, wait until it answers, and end it at the end. Yields it and its log.

    Raises EnvironmentFault with its last line when it does not start.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    # Everybody on this machine can read a command line, and nobody else a variable.
    settings = {**os.environ, **SWITCHES, "MLFLOW_BACKEND_STORE_URI": uri}
    with TemporaryDirectory(prefix="avsc-ui-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            # A session of its own: Ctrl-C is ours, and all its processes end together.
            server = subprocess.Popen(
                [*command, *OPTIONS],
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            with err.status("starting MLflow"):
                _await_answer(server, f"http://{HOST}:{port}/health", log)
            yield server, log
        finally:
            _end(server)


def _await_answer(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    """Wait until the server answers at an address. Raises EnvironmentFault when it does not."""
    # Proxies of the environment are for other machines.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with suppress(OSError), opener.open(address, timeout=1.0):
            return
        time.sleep(0.1)
    raise EnvironmentFault(Fault("ui", f"MLflow's server did not start: {_read_last(log)}"))


def _read_last(log: Path) -> str:
    """Read the last line of a log, without passwords."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it says nothing"]
    return hide_secrets(lines[-1])


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End a server with all its processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(END_SECONDS)
