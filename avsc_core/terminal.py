"""What both command lines share: one line per fault, exit codes, signals, progress with an estimate.

Results go to standard output, progress and faults to standard error. In a terminal progress is a moving bar; elsewhere
(a log file, CI) it is a plain line now and then.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from avsc_core.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_TERMINATED, Fault, UserError

PLAIN_WIDTH = 120  # of tables in a file or a pipe, which have no width of their own

# Names are people's: [b] and :bug: in them are text.
out = Console(
    markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH
)
err = Console(
    stderr=True,
    markup=False,
    emoji=False,
    highlight=False,
    width=None if sys.stderr.isatty() else PLAIN_WIDTH,
)
NOT_OURS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
)  # the disk's faults and the folder's
PLAIN_SECONDS = 10.0  # between two plain lines of progress


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line: faults become one line each and an exit code; only bugs show a traceback."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted: the same command continues", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # `avsc-core config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise
        fault = Fault(
            str(error.filename or "disk"), error.strerror or "", todo="the same command continues"
        )
        print(fault, file=sys.stderr)
        code = EXIT_ENVIRONMENT
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of the command line parser's own
            raise
        print(f"command line: {error.format_message()} see --help", file=sys.stderr)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A function (what, done, total) that shows how far each piece of work is."""
    if err.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err, transient=True) as bars:
            yield _bars(bars)
    else:
        yield _lines()


def make_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of text."""
    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*row)
    return table


def format_duration(seconds: float) -> str:
    """Seconds as people say them."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _bars(bars: Progress) -> Callable[[str, int, int], None]:
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done)

    return show


def _lines() -> Callable[[str, int, int], None]:
    began: dict[str, float] = {}
    told: dict[str, float] = {}

    def show(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = began.setdefault(what, now)
        if done == total or now - told.get(what, start) >= PLAIN_SECONDS:
            told[what] = now
            left = (now - start) / done * (total - done)
            print(
                f"{what}: {done}/{total}" + (f", about {left:.0f} s left" if done < total else ""),
                file=sys.stderr,
            )

    return show


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)
