"""Arrays of the cache: one row a clip, computed once, memory-mapped by every process that reads.

Log-mels and frames of clips, encodings of frozen encoders and logits of teachers are all kept here,
each array in a folder of its own:

    KIND-SETTINGS-CLIPS/array.npy   the array (N,...)
    KIND-SETTINGS-CLIPS/rows.tsv    a line for each row: its number, the SHA-256 of the clip's file,
                                    the SHA-256 of the row itself, and padded, cropped or nothing
    KIND-SETTINGS-CLIPS/checked     size and time of the array when its rows were known to be right

SETTINGS is a hash of all that rows depend on besides the clips' files, CLIPS a hash of the list of
these files.

Rows are written in blocks, and entered into rows.tsv once they are on the disk, so a killed
computation is continued. Rows of files that another folder with the same SETTINGS has are copied: a
changed or added clip costs that clip only. An array that somebody has written into since is
compared with the SHA-256 of its rows before it is used, and what differs is computed again.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy import ndarray
from numpy.lib.format import open_memmap

from avsc_core.cache.folders import build_once, locate_partial, lock_folder
from avsc_core.errors import EnvironmentFault, Fault, UserError
from avsc_core.files import (
    DISK_FULL,
    cache_root,
    describe_full_disk,
    explain_unreadable,
    write_text,
)
from avsc_core.finite import NOT_FINITE, is_finite
from avsc_core.processes import parallel_map

FORMAT = 1  # raised whenever the same settings give other bytes
STAMP = "checked"
BLOCK = 32  # rows written to the disk at a time

Item = TypeVar("Item")
Report = Callable[[int, int], None]  # (rows that are ready, N)


class StoredRow(NamedTuple):
    """A row that is on the disk."""

    number: int
    content: str  # SHA-256 of the file it was computed from
    sha256: str  # of the row itself
    note: str  # padded, cropped or nothing


class ComputedRow(NamedTuple):
    """A row that is not on the disk yet."""

    values: ndarray  # the row (...)
    sha256: str  # of the row
    note: str = ""  # padded, cropped or nothing


Results = Mapping[int, ComputedRow | list[Fault]]  # row number -> its row, or why it has none
Compute = Callable[[Sequence[int]], Iterator[Results]]  # row numbers -> results, some at a time


def locate_array(kind: str, settings: Sequence[object], contents: Sequence[str]) -> Path:
    """Return the folder of an array, for JSON settings and the SHA-256 of every clip's file."""
    name = f"{kind}-{_hash_json([FORMAT, *settings])}-{_hash_json(list(contents))}"
    return cache_root() / "features" / name


def load_or_compute(
    folder: Path, contents: Sequence[str], compute: Compute, report: Report, block: int = BLOCK
) -> ndarray:
    """Return the array (N,...) in `folder`, read-only; compute the rows that are missing first.

    Row n belongs to the file with SHA-256 `contents[n]`. `compute` is called when rows are missing,
    and receives their numbers; `compute_in_processes` and `compute_in_batches` below make one of a
    function. At least `block` rows are written to the disk at a time.

    Raises UserError that names every unreadable file, after the rows of all other files are on the
    disk.
    """
    fill = partial(_fill_missing_rows, contents, compute, report, block)
    build_once(folder, fill, continue_partial=True)
    if not _is_untouched(folder):
        verify(folder, report)
        build_once(folder, fill, continue_partial=True)  # what this or another process found

    os.utime(folder)  # the time of last use, which `prune` looks at
    return _open_array(folder, "r")


def compute_in_processes(
    function: Callable[[Item], tuple[ndarray, str]],
    items: Sequence[Item],
    workers: int,
    numbers: Sequence[int],
) -> Iterator[Results]:
    """Compute rows one by one in several processes.

    `function` returns the row and the note of an item; row n belongs to `items[n]`. A UserError of
    the function does not stop the others; its faults become the result of that row.
    """
    missing = [items[number] for number in numbers]
    rows = parallel_map(partial(_compute_row, function), missing, workers)
    for number, row in zip(numbers, rows, strict=True):
        yield {number: row}


def compute_in_batches(
    load: Callable[[], Callable[[ndarray], ndarray]],
    batch_size: int,
    numbers: Sequence[int],
    *,
    names: Sequence[str] = (),  # N, of the clips
    source: str = "the function",  # what computes the rows, as faults call it
) -> Iterator[Results]:
    """Compute rows in batches in this process.

    `load` returns a function that computes the rows (B,...) of the row numbers (B,). It is called
    only when there are rows to compute, because it may have a model to load. A row that is not
    finite is a fault, which names its clip.
    """
    compute_batch = load()
    for start in range(0, len(numbers), batch_size):
        batch = numbers[start : start + batch_size]
        results: dict[int, ComputedRow | list[Fault]] = {}
        for number, values in zip(batch, compute_batch(np.array(batch)), strict=True):
            if is_finite(values):
                results[number] = ComputedRow(values, _hash_row(values))
            else:
                where = names[number] if names else f"row {number}"
                what = f"what {source} makes of it {NOT_FINITE}"
                todo = "look at its files and at the weights; fp16 can overflow, float32 cannot"
                results[number] = [Fault(where, what, todo=todo)]
        yield results


def count_notes(folder: Path) -> dict[str, int]:
    """Count the clips that were padded and those that were cropped."""
    notes = [row.note for row in read_rows(folder)]
    return {note: notes.count(note) for note in ("padded", "cropped")}


def read_rows(folder: Path) -> list[StoredRow]:
    """Read which rows of a folder are on the disk."""
    path = folder / "rows.tsv"
    if not path.exists():
        return []

    rows = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:  # text after the last \n is torn
        number, content, sha256, note = line.split("\t")
        rows.append(StoredRow(int(number), content, sha256, note))
    return rows


def verify(folder: Path, report: Report) -> list[int]:
    """Return the numbers of the rows whose bytes are not those that were written, or not finite.

    Where there are any, the folder becomes partial again and loses them, so that the next reader
    computes them.
    """
    with lock_folder(folder):
        if not folder.exists():  # another process has found the damage
            return []
        rows = read_rows(folder)
        array = _open_array(folder, "r")

        intact = []
        damaged = []
        for done, row in enumerate(rows, start=1):
            values = array[row.number]
            if _hash_row(values) == row.sha256 and is_finite(values):
                intact.append(row)
            else:
                damaged.append(row.number)
            report(done, len(rows))

        if damaged:
            partial_folder = locate_partial(folder)
            os.replace(folder, partial_folder)
            _rewrite_rows(partial_folder, intact)
        else:
            write_text(folder / STAMP, _describe_array(folder))
    return damaged


def prune(root: Path, days: float) -> list[Path]:
    """Delete the arrays in `root` that no process has used for `days`; return what was deleted."""
    limit = time.time() - days * 86400
    unused = []
    for path in list(root.glob("*")):
        if path.suffix == ".lock" or path.stat().st_mtime >= limit:
            continue
        unused.append(path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()  # an array of an earlier version, which was a single file
        Path(f"{path}.lock").unlink(missing_ok=True)
    return unused


def _fill_missing_rows(
    contents: Sequence[str], compute: Compute, report: Report, block: int, folder: Path
) -> None:
    """Fill a partial folder. Raises UserError with all faults, after all other rows are written."""
    # Continue what a killed process left, without a torn last line of rows.tsv.
    stored = read_rows(folder)
    _rewrite_rows(folder, stored)

    # Divide the other rows into those that can be copied and those that must be computed.
    known = _find_known_rows(folder)
    stored_numbers = {row.number for row in stored}
    copied = []
    missing = []
    for number, content in enumerate(contents):
        if number in stored_numbers:
            continue
        if content in known:
            copied.append(number)
        else:
            missing.append(number)

    # Copy, compute and write, some rows at a time.
    copies = ({number: _copy_row(*known[contents[number]])} for number in copied)
    computed = compute(missing) if missing else ()
    _write_results(folder, contents, chain(copies, computed), len(stored), report, block)
    write_text(folder / STAMP, _describe_array(folder))


def _is_untouched(folder: Path) -> bool:
    """Tell whether nobody has written into the array since its rows were known to be right."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == _describe_array(folder)


def _describe_array(folder: Path) -> str:
    path = folder / "array.npy"
    if not path.is_file():
        return ""
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}\n"


def _write_results(
    folder: Path,
    contents: Sequence[str],
    results: Iterable[Results],
    ready: int,
    report: Report,
    block: int,
) -> None:
    """Write rows as they come; `ready` rows are on the disk already. Raises as the caller does."""
    array = _open_array(folder, "r+") if ready else None
    if array is not None:
        _allocate(folder)
    waiting = []  # in the array, but perhaps not on the disk yet
    faults = []

    for batch in results:
        for number, row in batch.items():
            if isinstance(row, list):
                faults += row
                continue
            if array is None:
                array = np.lib.format.open_memmap(
                    folder / "array.npy",
                    mode="w+",
                    dtype=row.values.dtype,
                    shape=(len(contents), *row.values.shape),
                )
                _allocate(folder)
            array[number] = row.values
            waiting.append(StoredRow(number, contents[number], row.sha256, row.note))

        if array is not None and len(waiting) >= block:
            _save_rows(folder, array, waiting)
        ready += len(batch)
        report(ready, len(contents))

    if array is not None:
        _save_rows(folder, array, waiting)
    if faults or array is None:
        raise UserError(faults)


def _save_rows(folder: Path, array: np.memmap, waiting: list[StoredRow]) -> None:
    """Get the rows of the array onto the disk, then enter them into rows.tsv."""
    array.flush()
    with (folder / "rows.tsv").open("a", encoding="utf-8") as file:
        file.writelines(map(_format_row, waiting))
        file.flush()
        os.fsync(file.fileno())
    waiting.clear()


def _rewrite_rows(folder: Path, rows: Sequence[StoredRow]) -> None:
    write_text(folder / "rows.tsv", "".join(map(_format_row, rows)))


def _format_row(row: StoredRow) -> str:
    return "\t".join(map(str, row)) + "\n"


def _find_known_rows(folder: Path) -> dict[str, tuple[np.memmap, StoredRow]]:
    """Return the rows, by content, that other folders with the same settings have, complete or not.

    Their arrays are opened now, so that they can still be read when another process renames or
    deletes the folder.
    """
    known: dict[str, tuple[np.memmap, StoredRow]] = {}
    kind_and_settings = folder.name.rsplit("-", 1)[0]
    for other in sorted(folder.parent.glob(f"{kind_and_settings}-*")):
        if not other.is_dir() or other == folder:
            continue
        with suppress(FileNotFoundError):  # renamed or deleted since it was listed
            rows = read_rows(other)
            if rows:
                array = _open_array(other, "r")
                known |= {row.content: (array, row) for row in rows}
    return known


def _copy_row(array: np.memmap, row: StoredRow) -> ComputedRow:
    return ComputedRow(array[row.number], row.sha256, row.note)


def _compute_row(
    function: Callable[[Item], tuple[ndarray, str]], item: Item
) -> ComputedRow | list[Fault]:
    """Compute one row, or return the faults of its file, so that all are reported together."""
    try:
        values, note = function(item)
    except UserError as error:
        return error.faults
    return ComputedRow(values, _hash_row(values), note)


def _open_array(folder: Path, mode: Literal["r", "r+"]) -> np.memmap:
    """Map the array (N,...) of a folder. Raises EnvironmentFault when its file is none, or cut."""
    file = folder / "array.npy"
    try:
        return open_memmap(file, mode)
    except (ValueError, OSError) as error:
        what = f"is not an array of the cache ({explain_unreadable(error)})"
        todo = f"delete {folder}: it is computed again"
        raise EnvironmentFault(Fault(str(file), what, todo=todo)) from None


def _allocate(folder: Path) -> None:
    """Reserve the disk space of an array. Raises EnvironmentFault when there is too little.

    A file of a memory map takes its space while it is filled, and a disk that is full by then ends
    the process by SIGBUS, without a word.
    """
    path = folder / "array.npy"
    needed = path.stat().st_size
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise EnvironmentFault(describe_full_disk(path, "an array", needed)) from None


def _hash_row(row: ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(row).tobytes()).hexdigest()


def _hash_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
