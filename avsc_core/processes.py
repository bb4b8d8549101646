"""Worker processes for reading and writing media: spawned, one thread each, deaf to Ctrl-C.

Spawned, because forking a process in which torch runs threads can hang. Ctrl-C in a terminal reaches every process of
the command; only the first one answers it, so that one line appears and not a traceback per worker.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

FEW = 16  # items that are not worth starting a process for
Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[str, int, int], None]  # (what, done, total): how far a piece of long work is


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of `workers` processes (0: one per core)."""
    return ProcessPoolExecutor(workers or os.cpu_count() or 1, get_context("spawn"), _start)


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """The results in the order of the items, computed by several processes, or in this one when they are few."""
    workers = min(workers or os.cpu_count() or 1, len(items) // FEW)
    if workers < 2:
        yield from map(function, items)
        return
    with process_pool(workers) as pool:
        yield from pool.map(function, items, chunksize=FEW // 4)


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = (
        "1"  # read when torch is imported, which only the work itself does
    )


def no_progress(what: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""
