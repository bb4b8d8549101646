"""Opens what keeps a record: an SQLite file that is born whole, a lock, a place for artifacts.

MLflow makes the tables of a new SQLite file in many steps: a second command, or a kill, between
two of them leaves a file that never opens again. So a new file is made under another name and
renamed when it is complete.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from avsc_core.errors import EnvironmentFault, Fault
from avsc_core.files import atomic_path, write_text
from avsc_core.record.address import find_local_folder, locate_database, locate_state

LOCK_SECONDS = 120.0  # what is done under the lock of a record takes a few seconds at most
DATABASES = ("postgresql", "mysql", "mssql")


def create_database(uri: str) -> None:
    """Make the SQLite file of a record that does not exist, with all its tables, or not at all."""
    database = locate_database(uri)
    if database is None or database.is_file():
        return
    # Imported here, because those who use a server do without it.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with lock_record(uri):
        if database.is_file():
            return

        # What a process left that was killed here. Under the lock nobody else writes such files.
        for leftover in database.parent.glob(f".{database.name}.*"):
            leftover.unlink()

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


def check_artifacts(client: MlflowClient, uri: str, experiment: Experiment, is_new: bool) -> None:
    """Check that artifacts of an experiment lie where all who read the record can reach them.

    A server may hand out a folder of its own machine. So a file that is written there must be seen
    by the server. Raises EnvironmentFault otherwise; a new experiment is deleted then, because it
    would keep its place for ever.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in DATABASES:
        what = f"a {scheme} database has no place for artifacts that all its users reach"
        todo = "start a server in front of it: mlflow server --backend-store-uri ADDRESS"
        todo += " --artifacts-destination FOLDER"
        raise EnvironmentFault(Fault("--tracking-uri", what, todo=todo))

    location = experiment.artifact_location
    if scheme not in ("http", "https") or find_local_folder(uri, location) is None:
        return
    if _is_seen_by_server(client, uri, experiment.experiment_id):
        return
    if is_new:
        name = f"{experiment.name} refused {uuid4().hex[:8]}"
        client.rename_experiment(experiment.experiment_id, name)
        client.delete_experiment(experiment.experiment_id)
    what = f"the server keeps artifacts in {location} of its own machine, which is not reached here"
    todo = "start it with --artifacts-destination FOLDER, without --no-serve-artifacts"
    todo += "" if is_new else ", and use --name for a new study"
    raise EnvironmentFault(Fault("--tracking-uri", what, todo=todo))


def _is_seen_by_server(client: MlflowClient, uri: str, experiment_id: str) -> bool:
    """Write a file as an artifact of a run that is deleted afterwards; ask the server for it."""
    run = client.create_run(experiment_id, run_name="are artifacts reached")
    folder = find_local_folder(uri, run.info.artifact_uri)
    assert folder is not None
    file = folder / "reached.txt"
    try:
        write_text(file, "")
        answer = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/artifacts/list",
            "GET",
            params={"run_id": run.info.run_id},
        )
        return file.name in answer.text
    except OSError:
        return False
    finally:
        file.unlink(missing_ok=True)
        client.delete_run(run.info.run_id)
