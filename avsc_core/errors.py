"""What goes wrong by a person's hand, told in one line each.

    where: what; what was allowed or near; what to do

`where` is a file with its line (`lambda.yaml:12`), a flag (`--data`) or a path. Checks collect all their faults and
raise one UserError, before any work starts; the two command lines print its lines and leave with exit code 2.
Anything that is not one of the errors below is a bug and shows its traceback.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EXIT_BAD_INPUT = 2
EXIT_SOME_TRIALS_FAILED = 3
EXIT_ENVIRONMENT = 4
EXIT_TERMINATED = 75
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Fault:
    """One fault: where it is, what it is, what would have been right, what to do about it."""

    where: str
    what: str
    allowed: str = ""
    todo: str = ""

    def __str__(self) -> str:
        text = "; ".join(part for part in (self.what, self.allowed, self.todo) if part)
        return " ".join(
            f"{self.where}: {text}".split()
        )  # one line, whatever a library's message contained


class UserError(Exception):
    """Bad input: one or more faults, all of them found before any work started. Exit code 2."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, faults: Fault | Iterable[Fault]) -> None:
        self.faults = [faults] if isinstance(faults, Fault) else list(faults)
        super().__init__("\n".join(map(str, self.faults)))


class EnvironmentFault(UserError):
    """The machine, not the input: a full disk, a server that does not answer. Exit code 4."""

    exit_code = EXIT_ENVIRONMENT


class Diverged(Exception):
    """A loss became NaN or infinite; the trial ends as failed, the study goes on."""


def suggest(word: object, allowed: Iterable[str], limit: int = 8) -> str:
    """The closest allowed word (`did you mean 'mode'?`) or, failing that, the allowed ones."""
    names = sorted(allowed)
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return f"one of {', '.join(names[:limit])}{more}"


@contextmanager
def collect_faults(faults: list[Fault]) -> Iterator[None]:
    """Add the faults of a UserError raised inside to `faults` instead of stopping at the first."""
    try:
        yield
    except UserError as error:
        faults.extend(error.faults)
