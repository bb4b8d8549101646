"""This module runs work on media files in several processes, and reads ahead on a thread.

The processes have one thread each. They are spawned, because forking a process in which torch runs
threads can hang. They ignore Ctrl-C, which a terminal sends to every process of a command: only the
first process answers it, so that one line appears and not one traceback per process.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

# With fewer items than this for each process, starting processes takes longer than the work.
FEW = 16

# The name of a thread that waits for something in vain; the command ends without it.
ABANDONED = "abandoned"

Item = TypeVar("Item")
Result = TypeVar("Result")

# Shows how far a long piece of work is: (what, items done, items in total).
Progress = Callable[[str, int, int], None]


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of `workers` processes; 0 means one per core."""
    count = workers or os.cpu_count() or 1
    return ProcessPoolExecutor(count, get_context("spawn"), _start_process)


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """Yield the result of each item, in order; with few items all work is done in this process."""
    count = min(workers or os.cpu_count() or 1, len(items) // FEW)
    if count < 2:
        yield from map(function, items)
        return
    with process_pool(count) as pool:
        yield from pool.map(function, items, chunksize=FEW // 4)


def look_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `function(item)` of each item; a thread computes the next while one is used."""
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(thread.submit(function, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing; a Progress for callers that have nobody to show it to."""


def read_peak_memory() -> int:
    """Return the most memory in bytes that this process has had; 0 without /proc."""
    # ru_maxrss would count the parent's pages, from before the process was its own.
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def _start_process() -> None:
    """Prepare a new process before its first item."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # torch reads this when it is imported, which happens with the first item.
    os.environ["OMP_NUM_THREADS"] = "1"
