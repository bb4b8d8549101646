"""What both command lines share: faults in one line each, exit codes, signals, tables, progress.

Results go to standard output; progress, notes and faults go to standard error. In a terminal,
progress is a moving bar; elsewhere (a log file, a pipe) it is a plain line every ten seconds.
"""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from typer import Option

from avsc_core.errors import (
    EXIT_BAD_INPUT,
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    Fault,
    UserError,
)
from avsc_core.files import DISK_FULL, describe_full_disk
from avsc_core.processes import ABANDONED
from avsc_core.processes import Progress as ShowProgress
from avsc_core.record.address import hide_secrets

# Options that both command lines have.
Data = Annotated[
    Path | None,
    Option("--data", help="Folder of the data set; without it the embedded scenes."),
]
Uri = Annotated[
    str | None, Option("--tracking-uri", help="MLflow record; default sqlite in mlruns/.")
]

# Columns of a table in a file or a pipe, which have no width of their own.
PLAIN_WIDTH = 120

# Seconds between two plain lines of progress.
PLAIN_SECONDS = 10.0

# What stops a command from outside: the word for it and the exit code.
STOPS: dict[int, tuple[str, int]] = {
    signal.SIGINT: ("interrupted", EXIT_INTERRUPTED),
    signal.SIGTERM: ("terminated", EXIT_TERMINATED),
}

# Errors of the disk and of a folder's permissions, as opposed to bugs.
DISK_ERRORS = (*DISK_FULL, errno.EROFS, errno.EACCES)


def _replace_closed_streams() -> None:
    """Open the null device in place of standard streams that are closed, as cron may leave them.

    Otherwise the next file that is opened would take the stream's number, and what is printed
    would be written into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)
        try:
            os.fstat(number)
        except OSError:  # nothing has taken the number yet
            os.dup2(null, number)
        # os.open may have returned the number itself, which child processes would not inherit.
        if null == number:
            os.set_inheritable(number, True)
        setattr(sys, name, open(null, "r+" if number == 0 else "w"))  # noqa: SIM115


def _give_home() -> None:
    """Give users whom the machine does not know a home folder that does not exist.

    Without any, libraries fail already when they are imported.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"


def _give_name() -> None:
    """Give a user without a name (a number that this machine does not know) one.

    torch asks for it when it is imported, for the path of a cache.
    """
    try:
        getuser()
    except (KeyError, OSError):  # before Python 3.13 and since
        os.environ["LOGNAME"] = f"user-{os.getuid()}"


def _open_console(stderr: bool) -> Console:
    """Open a console that prints text as it is: `[b]` and `:bug:` may be part of a name."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)


_replace_closed_streams()
_give_home()
_give_name()
out = _open_console(stderr=False)
err = _open_console(stderr=True)


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line and exit with its code.

    Each fault is shown in one line. Only bugs show a traceback.
    """
    for number in STOPS:
        signal.signal(number, _exit_stopped)
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        for fault in error.faults:
            print(hide_secrets(str(fault)), file=sys.stderr)
        code = error.exit_code
    except SystemExit as ending:  # raised by `_exit_stopped`
        code = ending.code
    except BrokenPipeError:
        # The reader has gone, as in `avsc-core config | head`; Python must not write there again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = error.filename or "disk"
        fault = Fault(str(where), error.strerror or "", todo="the same command continues")
        if error.errno in DISK_FULL:
            fault = describe_full_disk(Path(error.filename or Path.cwd()))
        print(fault, file=sys.stderr)
        code = EXIT_ENVIRONMENT
    except Exception as error:
        # typer's own errors have this method; anything else is a bug.
        if not hasattr(error, "format_message"):
            raise
        print(f"command line: {error.format_message()} see --help", file=sys.stderr)
        code = EXIT_BAD_INPUT
    _leave(code if isinstance(code, int) else 0)


@contextmanager
def progress() -> Iterator[ShowProgress]:
    """Yield a function (what, done, total) that shows how far each piece of work is."""
    if not err.is_terminal:
        yield _show_lines()
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    ) as bars:
        yield _show_bars(bars)


def make_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Build a table of text."""
    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*row)
    return table


def format_duration(seconds: float) -> str:
    """Write seconds in the unit that people would use: `40 s`, `2.5 min`, `3.0 h`, `2.0 days`."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _show_bars(bars: Progress) -> ShowProgress:
    """Return a function that shows each piece of work as a bar, until it is done."""
    tasks = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done, visible=done < total)

    return show


def _show_lines() -> ShowProgress:
    """Return a function that prints a line for each piece of work, now and then and at its end."""
    started: dict[str, float] = {}
    printed: dict[str, float] = {}

    def show(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = started.setdefault(what, now)
        last = printed.get(what, start)
        if done < total and now - last < PLAIN_SECONDS:
            return
        printed[what] = now

        line = f"{what}: {done}/{total}"
        if 0 < done < total:
            left = (now - start) / done * (total - done)
            line += f", about {left:.0f} s left"
        print(line, file=sys.stderr)

    return show


def _exit_stopped(number: int, frame: FrameType | None) -> NoReturn:
    """Leave on SIGTERM or Ctrl-C, through every `finally` on the way."""
    word, code = STOPS[number]
    print(f"{word}: the same command continues", file=sys.stderr)
    raise SystemExit(code)


def _leave(code: int) -> NoReturn:
    """Exit; where a thread is abandoned, without the clean-up that would wait for it."""
    if any(thread.name == ABANDONED for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
