"""What files hold: the SHA-256 of every file, read once and remembered by size and time of change.

Rows of the cache are kept under the SHA-256 of the clip's file. So a file that was renamed, copied
or unpacked again costs no computation, and the row of a file that changed is never used for the new
content.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from avsc_core.files import write_json

SAVE_SECONDS = 30.0  # between two writes of the index while files are read

Mark = list[int]  # size in bytes and time of change in ns


def hash_files(index: Path, paths: Sequence[Path], report: Callable[[int, int], None]) -> list[str]:
    """Return the SHA-256 of every file.

    Files whose size and time of change are those in the file `index` are not read; the others are
    read by several threads and entered there. `report` receives how many of these are read, and how
    many there are.

    A file that cannot be read gets a text with its path and the reason instead, which no other file
    can have.
    """
    index.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{index}.lock"):
        known = json.loads(index.read_text()) if index.exists() else {}

        # Find the files that are new or changed.
        missing = {}
        for path in paths:
            mark = _read_mark(path)
            if known.get(str(path), [])[:2] != mark:
                missing[path] = mark

        # Read them. What has been read is saved now and then, and when this is interrupted.
        saved = time.monotonic()
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                digests = zip(missing, pool.map(_hash_file, missing), strict=True)
                for number, (path, digest) in enumerate(digests, start=1):
                    known[str(path)] = [*missing[path], digest]
                    if time.monotonic() - saved > SAVE_SECONDS:
                        write_json(index, known)
                        saved = time.monotonic()
                    report(number, len(missing))
        finally:
            if missing:
                write_json(index, known)
    return [str(known[str(path)][2]) for path in paths]


def _read_mark(path: Path) -> Mark:
    try:
        status = path.stat()
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{path}: {error.strerror}"
