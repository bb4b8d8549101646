"""What files hold: SHA-256 by path, read once and remembered by size and time of change.

Features are kept under what a clip's file holds, so that a renamed, copied or unpacked-again file costs nothing and a
changed one is never mistaken for what it was.
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

SAVE_SECONDS = 30.0  # between two savings of what has been read so far

Index = dict[str, list[int | str]]  # path -> [size, time of change in ns, SHA-256]


def hash_files(index: Path, paths: Sequence[Path], report: Callable[[int, int], None]) -> list[str]:
    """SHA-256 of every file, from the file `index` where it still holds, else read now by several threads.

    A file that cannot be read gets the text of its fault, which is no other file's content either.
    """
    index.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{index}.lock"):
        known: Index = json.loads(index.read_text()) if index.exists() else {}
        marks = [_mark(path) for path in paths]
        missing = [
            (path, mark)
            for path, mark in zip(paths, marks, strict=True)
            if known.get(str(path), [])[:2] != mark
        ]
        try:
            _read(known, missing, index, report)
        finally:
            if missing:
                write_json(index, known)
    return [str(known[str(path)][2]) for path in paths]


def _read(
    known: Index,
    missing: list[tuple[Path, list[int]]],
    index: Path,
    report: Callable[[int, int], None],
) -> None:
    saved = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(_digest, [path for path, _ in missing])
        for number, ((path, mark), digest) in enumerate(
            zip(missing, digests, strict=True), start=1
        ):
            known[str(path)] = [*mark, digest]
            if time.monotonic() - saved > SAVE_SECONDS:
                write_json(index, known)
                saved = time.monotonic()
            report(number, len(missing))


def _mark(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{path}: {error.strerror}"
