"""The first contact with the address of a record: it answers within seconds, or it is told why not.

MLflow tries again and again, for minutes and with pages of warnings, before it says that a server
is away or that a password is wrong. So an address that is not a file is asked by a short way first.
"""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from avsc_core.errors import EnvironmentFault, Fault
from avsc_core.record.address import DATABASES, hide_secrets

Result = TypeVar("Result")

SECONDS = 6.0  # for the first answer; with Python's start it comes within ten

# The Python module that SQLAlchemy wants for a database -> what is installed to have it.
DRIVERS = {
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "'avsc[postgresql]'",
    "MySQLdb": "mysqlclient",
}


def reach(uri: str, ask: Callable[[], Result]) -> Result:
    """Return what `ask` returns, which puts a first query to the record.

    Raises EnvironmentFault when it raises anything, or takes too long.
    """
    # An SQLite file has its own patience, and is made here when it is new.
    if uri.startswith("sqlite:"):
        return _report(uri, ask)

    def ask_briefly() -> None:
        try:
            if uri.startswith(DATABASES):
                _report(uri, lambda: _connect(uri))
            answers.put(_report(uri, ask))
        except EnvironmentFault as fault:
            answers.put(fault)

    # A thread, because looking up a name and connecting cannot be interrupted.
    answers: SimpleQueue[Result | EnvironmentFault] = SimpleQueue()
    Thread(target=ask_briefly, name="first contact", daemon=True).start()
    try:
        answer = answers.get(timeout=SECONDS)
    except Empty:
        raise _make_fault(uri, f"no answer within {SECONDS:.0f} s") from None
    if isinstance(answer, EnvironmentFault):
        raise answer
    return answer


def _connect(uri: str) -> None:
    """Connect to a database once. Raises EnvironmentFault when its Python driver is missing."""
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    except ModuleNotFoundError as error:
        module = error.name or ""
        what = f"{hide_secrets(uri)} needs the Python module {module}"
        todo = f"install it: pip install {DRIVERS.get(module, module)}"
        raise EnvironmentFault(Fault("--tracking-uri", what, todo=todo)) from None
    engine.connect().close()


def _report(uri: str, ask: Callable[[], Result]) -> Result:
    """Return what `ask` returns, and raise whatever it raises as an EnvironmentFault."""
    try:
        return ask()
    except EnvironmentFault:
        raise
    except Exception as error:  # a driver may raise anything
        raise _make_fault(uri, str(error)) from None


def _make_fault(uri: str, reason: str) -> EnvironmentFault:
    what = hide_secrets(f"{uri} does not answer ({reason})")
    return EnvironmentFault(Fault("--tracking-uri", what))
