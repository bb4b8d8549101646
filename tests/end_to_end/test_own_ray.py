"""A study's own Ray: what it listens on, what others can read, and that nothing of it stays.

It covers studies/cluster/session.py with real processes.
"""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.builders.places import Place

LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
STUDY = "question: q\nseeds: [0, 1, 2, 3, 4, 5, 6, 7]\narms: [{name: one}]\n"


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty TMPDIR that is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("HOME", str(folder / "home"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place(tmp_path: Path, scenes: Path) -> Place:
    place = Place(tmp_path, scenes)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return place


def wait_for(found: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 200
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def list_below(process: "subprocess.Popen[str]", word: str = "") -> list[psutil.Process]:
    """List the processes that a command has started and whose command line has a word."""
    found = []
    for each in psutil.Process(process.pid).children(recursive=True):
        try:
            if word in " ".join(each.cmdline()):
                found.append(each)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.slow
def test_nobody_else_reaches_a_study_or_reads_its_secrets(place: Place, temporary: Path):
    before = os.umask(0)
    try:
        process = place.start(*place.run_study)
    finally:
        os.umask(before)
    wait_for(lambda: bool(list_below(process, "ray::")), process)
    processes = [psutil.Process(process.pid), *list_below(process)]
    listening = set()
    for each in processes:
        for connection in each.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                listening.add((each.name(), connection.laddr.ip))
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {address for _, address in listening} <= LOOPBACK

    (folder,) = temporary.glob("avsc-ray-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    token = (folder / "token").read_text()
    assert len(token) == 64
    for each in processes:
        assert token not in " ".join(each.cmdline())
    for path in place.folder.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes()

    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert list(temporary.glob("avsc-ray-*")) == []
    assert not (temporary / "home" / ".ray").exists()
    assert not any(each.is_running() for each in processes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGTERM, 75, "terminated: the same command continues\n"),
        (signal.SIGINT, 130, "interrupted: the same command continues\n"),
    ],
)
@pytest.mark.parametrize("moment", ["gcs_server", "raylet"])
def test_a_study_that_is_stopped_while_ray_starts_ends_at_once(
    place: Place, temporary: Path, moment: str, number: int, code: int, line: str
):
    process = place.start(*place.run_study)
    wait_for(lambda: bool(list_below(process, moment)), process)
    processes = list_below(process)
    start = time.monotonic()
    os.killpg(process.pid, number)  # as a terminal and job schedulers do: to every process
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err.endswith(line)
    assert "Traceback" not in err
    assert time.monotonic() - start < 10
    psutil.wait_procs(processes, 10)
    assert not any(each.is_running() for each in processes)
    assert list(temporary.glob("avsc-ray-*")) == []


@pytest.mark.slow
def test_a_study_whose_processes_are_all_terminated_can_be_continued(place: Place, temporary: Path):
    process = place.start(*place.run_study)
    wait_for(lambda: any(each.outcome == "complete" for each in place.trials()), process)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err.endswith("stopped: the same command finishes study tiny\n")
    assert "ERROR" not in err  # a line of Ray for the trials that did not complete
    assert list(temporary.glob("avsc-ray-*")) == []


@pytest.mark.slow
def test_what_a_killed_study_left_is_removed_by_the_next(place: Place, temporary: Path):
    process = place.start(*place.run_study)
    wait_for(lambda: bool(list_below(process, "ray::")), process)
    processes = list_below(process)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(processes, 90)  # Ray's agents look for their server for 60 s
    assert alive == []
    (left,) = temporary.glob("avsc-ray-*")
    os.utime(left, (0, 0))
    place.run(*place.run_study)
    assert list(temporary.glob("avsc-ray-*")) == []
