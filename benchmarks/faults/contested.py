"""Records that are away, locked or wanted by two, clocks that jump, folders that change."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

from benchmarks.faults import forked
from benchmarks.faults.attempt import Attempt, Undisturbed, make_random, run_with_ray
from benchmarks.faults.forked import Strike
from benchmarks.faults.place import Ending, Place, kill_group

DAY = 86400
AWAY = 120.0  # seconds


def take_server_away(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Take an MLflow server away for two minutes, for some seconds, and for good."""
    for epochs, seconds in ((3, AWAY), (2, 5.0), (9, 5.0), (3, 0.0), (9, 0.0)):
        name = f"for {seconds:.0f} s" if seconds else "for good"
        disturb = partial(_run_without_server, epochs, seconds)
        yield Attempt(
            f"{name}, after epoch {epochs}",
            disturb,
            damage=_start_server,
            clean=_end_server,
        )


def lock_record(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Lock the SQLite file of a record for a minute, and for some seconds."""
    for epochs, seconds in ((3, 60.0), (2, 5.0), (9, 5.0), (14, 5.0)):
        disturb = partial(_run_locked, epochs, seconds)
        yield Attempt(f"{seconds:.0f} s, after epoch {epochs}", disturb)


def set_clock_back(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Kill a study, and continue it with a clock that is a day behind, or ahead."""
    for number in range(6):
        shift = {"FAULTS_CLOCK": str(-DAY if number % 2 == 0 else DAY)}
        write = make_random(f"clock {number}").randint(1, undisturbed.writes)
        yield Attempt(
            f"{'back' if number % 2 == 0 else 'ahead'} {number}",
            partial(_strike, Strike(write, after=True)),
            proceed=partial(forked.run, more=shift),
        )


def change_folder(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Continue a study from another folder, with the record at an absolute address."""
    for number in range(6):
        write = make_random(f"folder {number}").randint(1, undisturbed.writes)
        yield Attempt(
            f"folder {number}",
            partial(_strike_elsewhere, Strike(write, after=True)),
            proceed=_continue_elsewhere,
        )


def run_two_drivers(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Give the command while it runs, in the same folder and in another one."""
    for number, epochs in enumerate((1, 4, 8)):
        disturb = partial(_run_two, epochs, number % 2 == 1)
        yield Attempt(f"second driver after epoch {epochs}", disturb, proceed=run_with_ray)


def give_two_first_commands(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Give the first command of a record twice at once, and kill one in its first seconds."""
    for number in range(5):
        yield Attempt(f"two at once {number}", _start_two, proceed=run_with_ray, born=False)
    for number in range(10):
        delay = 0.2 * undisturbed.seconds * make_random(f"first {number}").random()
        disturb = partial(_kill_first, delay)
        yield Attempt(f"killed at its start {number}", disturb, born=False)


def _run_without_server(epochs: int, seconds: float, place: Place) -> list[Ending]:
    """Run a study against a server that is killed, and started again after so many seconds."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    place.environment["AVSC_STATE"] = str(place.folder / "state")
    _start_server(place)
    process = forked.fork(place)
    while len(place.read_log()) < epochs and process.runs:
        time.sleep(0.02)
    _end_server(place)
    if seconds:
        time.sleep(seconds)
        _start_server(place)
    return [forked.wait(place, process, patience=600)]


def _start_server(place: Place) -> None:
    """Start the MLflow server of a place, if it does not run, and wait until it answers."""
    port = int(place.environment["MLFLOW_TRACKING_URI"].rpartition(":")[2])
    if _answers(port):
        return
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    options += ["--backend-store-uri", f"sqlite:///{place.database}"]
    options += ["--artifacts-destination", str(place.folder / "mlruns" / "artifacts")]
    with (place.folder / "server").open("a") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (place.folder / "server.pid").write_text(str(server.pid))
    until = time.monotonic() + 120
    while not _answers(port) and time.monotonic() < until:
        time.sleep(0.1)


def _answers(port: int) -> bool:
    """Tell whether anything listens on a port of this machine."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end_server(place: Place) -> None:
    """Kill the server of a place."""
    path = place.folder / "server.pid"
    if path.is_file():
        kill_group(int(path.read_text()))
        path.unlink()


def _run_locked(epochs: int, seconds: float, place: Place) -> list[Ending]:
    """Run a study, and lock its record after so many epochs."""
    process = forked.fork(place)
    while len(place.read_log()) < epochs and process.runs:
        time.sleep(0.02)
    with closing(sqlite3.connect(place.database, timeout=30)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        connection.rollback()
    return [forked.wait(place, process, patience=300)]


def _strike(strike: Strike, place: Place) -> list[Ending]:
    return [forked.run(place, strike)]


def _strike_elsewhere(strike: Strike, place: Place) -> list[Ending]:
    """Run a study from a folder that has nothing of it, until it kills itself."""
    place.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{place.database}"
    first = place.folder / "one"
    first.mkdir()
    return [forked.run(place, strike, cwd=first)]


def _continue_elsewhere(place: Place) -> Ending:
    second = place.folder / "two"
    second.mkdir()
    return forked.run(place, cwd=second)


def _run_two(epochs: int, elsewhere: bool, place: Place) -> list[Ending]:
    """Run the command, and a second time while it runs."""
    if elsewhere:
        place.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{place.database}"
    first = place.start()
    if not place.wait_for_epochs(epochs, first):
        return [place.wait(first)]
    folder = place.folder / "elsewhere"
    folder.mkdir()
    second = place.run(cwd=folder if elsewhere else None)
    return [second, place.wait(first)]


def _start_two(place: Place) -> list[Ending]:
    """Give the command twice at once."""
    processes = [place.start(), place.start()]
    return [place.wait(process) for process in processes]


def _kill_first(delay: float, place: Place) -> list[Ending]:
    """Kill the first command of a record after some time."""
    process = forked.fork(place)
    time.sleep(delay)
    process.kill(signal.SIGKILL)
    return [forked.wait(place, process)]
