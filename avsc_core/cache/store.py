"""Features on disk: one row a clip, computed once, kept under what the clip's file holds.

    KIND-SETTINGS-CLIPS/array.npy      (N,...), memory-mapped by all who read it
    KIND-SETTINGS-CLIPS/rows.tsv       of each row: its number, the file's SHA-256, its own SHA-256, padded or cropped

Rows are computed by several processes, written in blocks, and entered into rows.tsv once they are on the disk. A folder
is called `.partial` until it is whole; a killed process's is continued. Rows of other folders with the same settings
are copied where the file is the same, so a changed or added clip costs that clip.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from avsc_core.data.tables import Clip
from avsc_core.errors import Fault, UserError
from avsc_core.files import write_text
from avsc_core.processes import parallel_map

BLOCK = 32  # rows between two visits of the disk

Compute = Callable[[Clip], tuple[np.ndarray, str]]  # clip -> its row, and "padded", "cropped" or ""


class StoredRow(NamedTuple):
    """A row that is on the disk."""

    number: int
    content: str  # SHA-256 of the file it was computed from
    sha256: str  # of the row itself
    note: str  # padded, cropped or nothing


def load_or_compute(
    folder: Path, clips: Sequence[Clip], content: Sequence[str], compute: Compute, workers: int,
    report: Callable[[int, int], None],
) -> np.ndarray:  # fmt: skip
    """The array (N,...) in `folder`, read-only, row n of `clips[n]`; what is missing of it is computed now.

    Raises UserError naming every unreadable file, after all the others are safe.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _build(folder, clips, content, compute, workers, report)
    os.utime(folder)  # last used now
    array: np.ndarray = np.load(folder / "array.npy", mmap_mode="r")
    return array


def count_notes(folder: Path) -> dict[str, int]:
    """How many clips were padded and cropped."""
    rows = read_rows(folder)
    return {note: sum(row.note == note for row in rows) for note in ("padded", "cropped")}


def read_rows(folder: Path) -> list[StoredRow]:
    """The rows of a folder that are on the disk."""
    path = folder / "rows.tsv"
    lines = (
        path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    )  # what follows the last \n is torn
    parts = (line.split("\t") for line in lines)
    return [
        StoredRow(int(number), content, sha256, note) for number, content, sha256, note in parts
    ]


def verify(folder: Path, report: Callable[[int, int], None]) -> list[int]:
    """Numbers of rows whose bytes are no longer those that were written; they will be computed again."""
    with FileLock(f"{folder}.lock"):
        rows, array, bad = read_rows(folder), np.load(folder / "array.npy", mmap_mode="r"), []
        for done, row in enumerate(rows, start=1):
            if _sha256(array[row.number]) != row.sha256:
                bad.append(row.number)
            report(done, len(rows))
        if bad:
            keep = [row for row in rows if row.number not in set(bad)]
            half = _partial(folder)
            os.replace(folder, half)
            write_text(half / "rows.tsv", "".join(map(_line, keep)))
    return bad


def prune(features: Path, days: float) -> list[Path]:
    """Delete what nobody has used for `days`; returns what was deleted."""
    limit = time.time() - days * 86400
    old = [
        path
        for path in features.glob("*")
        if path.suffix != ".lock" and path.stat().st_mtime < limit
    ]
    for path in old:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        Path(f"{path}.lock").unlink(missing_ok=True)
    return old


def _build(
    folder: Path, clips: Sequence[Clip], content: Sequence[str], compute: Compute, workers: int,
    report: Callable[[int, int], None],
) -> None:  # fmt: skip
    half = _partial(folder)
    half.mkdir(exist_ok=True)
    rows = read_rows(half)
    write_text(half / "rows.tsv", "".join(map(_line, rows)))  # without a torn last line
    done = {row.number for row in rows}
    array = np.load(half / "array.npy", mmap_mode="r+") if done else None
    known = _known(folder)
    faults: list[Fault] = []
    left = [number for number in range(len(clips)) if number not in done]
    copied = [number for number in left if content[number] in known]
    missing = [number for number in left if content[number] not in known]
    results = chain(
        ((number, _copy(known[content[number]])) for number in copied),
        zip(
            missing,
            parallel_map(partial(_row, compute), [clips[number] for number in missing], workers),
            strict=True,
        ),
    )
    waiting: list[StoredRow] = []
    for ready, (number, result) in enumerate(results, start=len(done) + 1):
        if isinstance(result, list):
            faults += result
        else:
            values, sha256, note = result
            if array is None:
                shape = (len(clips), *values.shape)
                array = np.lib.format.open_memmap(
                    half / "array.npy", mode="w+", dtype=values.dtype, shape=shape
                )
            array[number] = values
            waiting.append(StoredRow(number, content[number], sha256, note))
        if len(waiting) == BLOCK:
            _enter(half, array, waiting)
        report(ready, len(clips))
    _enter(half, array, waiting)
    if faults or array is None:
        raise UserError(faults)
    os.replace(half, folder)


def _enter(half: Path, array: np.ndarray | None, waiting: list[StoredRow]) -> None:
    """Have rows on the disk, then say so."""
    if isinstance(array, np.memmap):
        array.flush()
    with (half / "rows.tsv").open("a", encoding="utf-8") as file:
        file.writelines(map(_line, waiting))
        file.flush()
        os.fsync(file.fileno())
    waiting.clear()


def _known(folder: Path) -> dict[str, tuple[Path, StoredRow]]:
    """Content -> where a row of it is to be had: folders with the same settings, whole or not."""
    settings = folder.name.rsplit("-", 1)[0]
    others = [
        path
        for path in sorted(folder.parent.glob(f"{settings}-*"))
        if path.is_dir() and path != _partial(folder)
    ]
    return {row.content: (path, row) for path in others for row in read_rows(path)}


def _copy(place: tuple[Path, StoredRow]) -> tuple[np.ndarray, str, str]:
    folder, row = place
    return np.load(folder / "array.npy", mmap_mode="r")[row.number], row.sha256, row.note


def _row(compute: Compute, clip: Clip) -> tuple[np.ndarray, str, str] | list[Fault]:
    """One clip's row; an unreadable file comes back as its faults, so that all of them are reported together."""
    try:
        values, note = compute(clip)
    except UserError as error:
        return error.faults
    return values, _sha256(values), note


def _sha256(row: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(row).tobytes()).hexdigest()


def _line(row: StoredRow) -> str:
    return "\t".join((str(row.number), row.content, row.sha256, row.note)) + "\n"


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")
