"""The temporary folder of a command, and what commands that were killed have left."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avsc_core.errors import EnvironmentFault
from studies.cluster import temporary
from studies.cluster.temporary import LONGEST, temporary_folder

HOLD = """\
import sys, time
from studies.cluster.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "ray").mkdir()
    print(folder, flush=True)
    time.sleep(100)
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty TMPDIR, short enough for sockets."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary, "LONGEST", "socket")
    return tmp_path


def hold_folder() -> "tuple[subprocess.Popen[str], Path]":
    """Start a process that holds a folder; the length of paths does not matter in it."""
    code = f"import studies.cluster.temporary as t; t.LONGEST = 'socket'\n{HOLD}"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def make_old(folder: Path) -> None:
    os.utime(folder, (0, time.time() - 60))


def test_only_its_user_can_enter_a_folder_and_it_goes(place: Path):
    before = os.umask(0)
    try:
        with temporary_folder() as folder:
            assert folder.parent == place
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            (folder / "ray").mkdir()
            (folder / "ray" / "log.txt").touch()
    finally:
        os.umask(before)
    assert list(place.iterdir()) == []


def test_the_folder_of_a_killed_command_is_removed_by_the_next(place: Path):
    process, left = hold_folder()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert left.parent == place
    with temporary_folder():
        assert left.exists()  # so new that it could be unlocked still
    make_old(left)
    with temporary_folder() as folder:
        assert list(place.iterdir()) == [folder]


def test_what_others_have_stays(place: Path):
    process, held = hold_folder()
    others = place / "avsc-ray-mynotes1"  # made by hand, with a name like ours
    others.mkdir()
    (others / "thesis.txt").touch()
    linked = place / "avsc-ray-linked"
    linked.symlink_to(others)
    kept = {held, others, linked}
    if os.getuid() == 0:
        foreign = place / "avsc-ray-foreign1"
        (foreign / "ray").mkdir(parents=True)
        os.chown(foreign, 54321, 54321)
        kept.add(foreign)
    for folder in kept:
        make_old(folder)
    try:
        with temporary_folder() as folder:
            assert set(place.iterdir()) == kept | {folder}
            assert (others / "thesis.txt").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)


@pytest.mark.parametrize("name", [85 * "t", "a b", "a#b", "a%41", "é", "a\nb", "nowhere"])
def test_a_place_that_ray_cannot_use_is_passed_over(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if name != "nowhere":
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / name))
    with temporary_folder() as folder:
        assert folder.parent == Path("/tmp")
        assert len(os.fsencode(folder / LONGEST)) <= 107  # the longest path of a socket


def test_a_machine_without_a_place_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(temporary, "PLACES", ("/proc",))
    with pytest.raises(EnvironmentFault) as caught, temporary_folder():
        pass
    assert str(caught.value) == (
        "TMPDIR: no folder for temporary files can hold sockets; "
        f"tried {tmp_path}/nowhere, /proc; "
        "set TMPDIR to a folder on a local disk whose path is short and has no blanks"
    )
