"""Large arrays of the cache, filled once, some rows at a time, and memory-mapped by everyone who reads them.

Under a lock: of several processes that need the same array one computes and the others wait. A process that is killed
leaves a partial array and how many rows of it are on the disk, and the next one goes on from there. The finished array
appears by a rename.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from avsc_core.files import write_text

Rows = Callable[[np.ndarray], np.ndarray]  # row numbers (B,) -> their values (B,...)


def filled(
    path: Path, count: int, step: int, begin: Callable[[], Rows], report: Callable[[int, int], None]
) -> np.ndarray:
    """The array (count,...) at `path`, read-only; what is missing of it is computed now, `step` rows at a time.

    `begin` is called only when there is something to compute, for it may have a model to load.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            _fill(path, count, step, begin(), report)
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


def _fill(
    path: Path, count: int, step: int, rows: Rows, report: Callable[[int, int], None]
) -> None:
    partial, mark = path.with_suffix(".partial.npy"), path.with_suffix(".done")
    done = int(mark.read_text()) if mark.exists() and partial.exists() else 0
    array = np.load(partial, mmap_mode="r+") if done else None
    for start in range(done, count, step):
        block = np.arange(start, min(start + step, count))
        values = rows(block)
        if array is None:
            array = np.lib.format.open_memmap(
                partial, "w+", dtype=values.dtype, shape=(count, *values.shape[1:])
            )
        array[block] = values
        array.flush()  # before the mark says so
        write_text(mark, str(block[-1] + 1))
        report(int(block[-1]) + 1, count)
    os.replace(partial, path)
    mark.unlink()
