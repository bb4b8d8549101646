"""Makes the SQLite file of a record, which is born whole, and locks a record.

MLflow makes the tables of a new SQLite file in many steps: a second command, or a kill, between
two of them leaves a file that never opens again. So a new file is made under another name and
renamed when it is complete.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from avsc_core.errors import EnvironmentFault, Fault
from avsc_core.files import atomic_path, remove_unfinished
from avsc_core.record import quieten
from avsc_core.record.address import locate_database, locate_state

LOCK_SECONDS = 120.0  # what is done under the lock of a record takes a few seconds at most


def create_database(uri: str) -> None:
    """Make the SQLite file of a record that does not exist, with all its tables, or not at all."""
    database = locate_database(uri)
    if database is None or database.is_file():
        return
    # Imported here, because who reads a record that exists does without it.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    quieten()
    with lock_record(uri):
        if database.is_file():
            return

        # What a process left that was killed here. Under the lock nobody else writes such files.
        remove_unfinished(database)

        with atomic_path(database) as temporary:
            store = SqlAlchemyStore(f"sqlite:///{temporary}", database.parent.as_uri())
            store.engine.dispose()


@contextmanager
def lock_record(uri: str) -> Iterator[None]:
    """Keep other processes of this machine out for the few seconds in which one changes a record.

    All who open an SQLite file meet at a lock beside it, on whatever machine they are; those who
    use a server meet in the state folder. Raises EnvironmentFault when the lock does not get free.
    """
    database = locate_database(uri)
    path = locate_state(uri) / "record.lock"
    if database:
        path = database.with_name(f"{database.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=LOCK_SECONDS):
            yield
    except Timeout:
        what = f"another process has held this lock for {LOCK_SECONDS:.0f} s"
        raise EnvironmentFault(Fault(str(path), what, todo="end that process")) from None
