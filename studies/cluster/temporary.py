"""A command's own temporary folder: private, short, removed when the command ends.

Ray keeps its sockets there, and the path of a socket has at most 107 bytes. A command that is
killed cannot remove its folder, so a later one does; a lock tells which folders are still in use.
"""

import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from avsc_core.errors import EnvironmentFault, Fault

PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # after TMPDIR
PREFIX = "avsc-ray-"
LOCK = "avsc.lock"

# The longest path that Ray makes below the folder.
LONGEST = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"

# A folder this new may belong to a command that has not come to locking it.
NEW_SECONDS = 10.0


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that only its user can enter; remove it when the block ends.

    Raises EnvironmentFault where no folder can be made.
    """
    folder = _make_folder()
    with FileLock(folder / LOCK):
        _remove_left_folders(folder.parent)
        try:
            yield folder
        finally:
            _remove(folder)


def _make_folder() -> Path:
    """Make a folder in TMPDIR, or in a usual place where its path cannot be that of a socket."""
    places = (os.environ.get("TMPDIR", ""), *PLACES)
    for place in places:
        # Ray splits command lines at blanks, and some of its parts take a path for an address.
        if not re.fullmatch(r"[\w./+-]+", place, re.ASCII):
            continue
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=Path(place).absolute()))
            if _can_hold_sockets(folder):
                return folder
            folder.rmdir()
    what = "no folder for temporary files can hold sockets"
    tried = f"tried {', '.join(filter(None, places))}"
    todo = "set TMPDIR to a folder on a local disk whose path is short and has no blanks"
    raise EnvironmentFault(Fault("TMPDIR", what, tried, todo))


def _can_hold_sockets(folder: Path) -> bool:
    """Return whether a socket with a path as long as Ray's can be made in `folder`."""
    path = folder / LONGEST.replace("/", "-")
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.bind(str(path))
        except OSError:  # the path is too long, or the file system has no sockets
            return False
    path.unlink()
    return True


def _remove_left_folders(place: Path) -> None:
    """Remove the folders of this user's commands that were killed."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            status = folder.lstat()
            is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
            is_old = time.time() - status.st_mtime > NEW_SECONDS
            # One without a lock was made again by a process that outlived its folder.
            is_ours = bool({LOCK, "ray"} & set(os.listdir(folder)))
            if is_own and is_old and is_ours:
                with FileLock(folder / LOCK, timeout=0):  # held by a command that lives
                    _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, though processes that are about to end may still write into it."""
    # The lock goes last: a folder without one would never be removed.
    for path in (folder / "ray", folder):
        for _ in range(50):
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
            time.sleep(0.1)
