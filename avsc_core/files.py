"""This module writes files atomically: a file exists completely or not at all.

A study may be killed at any moment, and the next run continues from the files on disk. So every
file that is read again later is written under a temporary name in the same folder, flushed to the
disk, and renamed.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avsc_core.errors import EnvironmentFault, Fault

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # EFBIG: a limit of the process
MB = 1_000_000


def cache_root() -> Path:
    """Return the cache folder of avsc; the environment variable `AVSC_CACHE` replaces it."""
    chosen = os.environ.get("AVSC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(base) / "avsc").expanduser()


def describe_full_disk(place: Path, what: str = "", needed: int = 0) -> Fault:
    """Describe a disk at `place`, a file or a folder, without the `needed` bytes for `what`."""
    while not place.is_dir():
        place = place.absolute().parent
    free = shutil.disk_usage(place).free
    found = f"{place} has {free / MB:.1f} MB free"
    if needed:
        found += f", {what} needs {needed / MB:.1f} MB"
    if free > needed > 0:
        found += " and meets a quota or limit"
    return Fault("disk", found, todo="free some, the same command continues")


def make_cache() -> None:
    """Make the cache folder, before hours of work are to be kept there.

    Raises EnvironmentFault where nothing can be written into it.
    """
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()
    except OSError as error:
        what = f"nothing can be written into {root} ({error.strerror})"
        fault = Fault("AVSC_CACHE", what, todo="set it to a folder of your own")
        raise EnvironmentFault(fault) from None


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and move what is written there to `path` when the block succeeds.

    The temporary path lies in a folder of its own beside `path`: SQLite and safetensors write files
    beside the one they are asked for, and a process may be killed meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary = folder / path.name
    try:
        yield temporary

        # Without this flush a power cut after the rename could leave an empty file.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())

        # Some libraries let the owner only read it, but a record is shared within a team.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        remove_path(folder)


def remove_file(path: Path) -> None:
    """Remove a file, and what processes that were killed left of writing it."""
    path.unlink(missing_ok=True)
    remove_unfinished(path)


def remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed left of writing `path`."""
    for left in path.parent.glob(f".{path.name}.*"):
        remove_path(left)


def remove_path(path: Path) -> None:
    """Remove a file or a folder that may be gone already."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON with the keys in the given order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def explain_unreadable(error: Exception) -> str:
    """Return what a library says of a file it cannot read, in one line.

    Of a file with pickled objects torch and numpy tell how to read it all the same; that advice is
    left out, because such a file can run code.
    """
    text = str(error)
    if "pickle" in text.lower() or "weights_only" in text:
        return "it has pickled objects, which could run code"
    return text.splitlines()[0] if text else type(error).__name__
