"""This module holds the mistakes that people make, and the exit codes of both command lines.

A `Fault` is one mistake, shown in one line:

    where: what; what was allowed or near; what to do

`where` is a file with its line (`lambda.yaml:12`), a flag (`--data`) or a path. A check collects
all faults it finds and raises one UserError before any work starts. The command lines print each
fault in its line and exit with the error's code. Every other exception is a bug and shows its
traceback.
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
    """One mistake: where it is, what it is, what is allowed, and what to do about it."""

    where: str
    what: str
    allowed: str = ""
    todo: str = ""

    def __str__(self) -> str:
        parts = [part for part in (self.what, self.allowed, self.todo) if part]
        text = f"{self.where}: {'; '.join(parts)}"
        # The message of a library may have several lines; a fault has one.
        return " ".join(text.split())


class UserError(Exception):
    """Bad input: one or more faults, found before any work started. Exit code 2."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, faults: Fault | Iterable[Fault]) -> None:
        self.faults = [faults] if isinstance(faults, Fault) else list(faults)
        super().__init__("\n".join(map(str, self.faults)))


class EnvironmentFault(UserError):
    """The computer is at fault, not the input: a full disk, a server that does not answer.

    Exit code 4.
    """

    exit_code = EXIT_ENVIRONMENT


class LeaseLost(EnvironmentFault):
    """Another process runs the study now, so this one writes nothing any more. Exit code 4."""


class NotReproduced(UserError):
    """A trial that was trained again came out otherwise. Exit code 3."""

    exit_code = EXIT_SOME_TRIALS_FAILED


def make_error(where: object, what: str, allowed: str = "", todo: str = "") -> UserError:
    """Return a UserError with one fault; `where` is a text or a path."""
    return UserError(Fault(str(where), what, allowed, todo))


class Diverged(Exception):
    """A loss became NaN or infinite. The trial ends as failed, and the study goes on."""


def suggest(word: object, allowed: Iterable[str], limit: int = 8) -> str:
    """Return a hint for an unknown word: the closest allowed one, else the first `limit` of them.

    The hint reads `did you mean 'mode'?` or `one of k, mode`.
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return f"one of {', '.join(names[:limit])}{more}"


@contextmanager
def collect_faults(faults: list[Fault]) -> Iterator[None]:
    """Add the faults of a UserError raised inside to `faults`, so that checking can go on.

    A fault of the environment goes on: without a record, for example, nothing more can be checked.
    """
    try:
        yield
    except EnvironmentFault:
        raise
    except UserError as error:
        faults.extend(error.faults)
