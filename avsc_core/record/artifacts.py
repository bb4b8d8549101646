"""The artifacts of runs: files that lie where everybody who reads the record can reach them.

Those of an SQLite record lie beside its file, and are found there when both have moved together. A
server keeps them where it likes; a folder of its own machine is refused when that is not this one.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import uuid4

from avsc_core.errors import EnvironmentFault, Fault
from avsc_core.files import write_text
from avsc_core.record.address import DATABASES, find_local_folder, hide_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


class Artifacts:
    """The artifacts of a record. MLflow's client is asked for where they are not in a folder."""

    def __init__(
        self,
        uri: str,
        find_address: Callable[[str], str],  # of the artifacts of a run, by its id
        find_client: Callable[[], "MlflowClient"],
    ) -> None:
        self.uri = uri
        self.find_address = find_address
        self.find_client = find_client

    @property
    def client(self) -> "MlflowClient":
        """MLflow's client of the record."""
        return self.find_client()

    def find_folder(self, run_id: str) -> Path | None:
        """Find the local folder of a run's artifacts; None where a server keeps them."""
        return find_local_folder(self.uri, self.find_address(run_id))

    def log_text(self, run_id: str, name: str, content: str) -> None:
        """Write a text. A kill leaves a local file as it was before, or whole."""
        if folder := self.find_folder(run_id):
            write_text(folder / name, content)
        else:
            self.client.log_text(run_id, content, name)

    def log_file(self, run_id: str, local: Path) -> None:
        """Write a file."""
        if folder := self.find_folder(run_id):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(local, folder)
        else:
            self.client.log_artifact(run_id, str(local))

    def log_folder(self, run_id: str, local: Path, name: str) -> str:
        """Write a folder. Returns its address."""
        if folder := self.find_folder(run_id):
            shutil.copytree(local, folder / name, dirs_exist_ok=True)
            return (folder / name).as_uri()
        self.client.log_artifacts(run_id, str(local), name)
        return f"{self.find_address(run_id)}/{name}"

    def copy(self, source: str, run_id: str) -> None:
        """Copy all artifacts of the run `source`."""
        with TemporaryDirectory() as scratch:
            folder = self.find_folder(source)
            if folder is None:
                folder = Path(self.client.download_artifacts(source, "", scratch))
            if folder.is_dir():  # not of a run without artifacts
                self.log_folder(run_id, folder, "")

    def has(self, run_id: str, name: str) -> bool:
        """Tell whether a run has an artifact of that name."""
        if folder := self.find_folder(run_id):
            return (folder / name).exists()
        return name in {item.path for item in self.client.list_artifacts(run_id)}

    def fetch(self, run_id: str, name: str) -> str:
        """Return the local path of an artifact. Raises EnvironmentFault when it is missing."""
        folder = self.find_folder(run_id)
        if folder is None:
            from mlflow.artifacts import download_artifacts

            return str(download_artifacts(run_id=run_id, artifact_path=name, tracking_uri=self.uri))
        path = folder / name
        if not path.exists():
            what = f"a file of the record {hide_secrets(self.uri)} is missing"
            raise EnvironmentFault(Fault(str(path), what, todo="copy it there from where it is"))
        return str(path)

    def check(self, experiment: "Experiment", is_new: bool) -> None:
        """Check that artifacts of an experiment lie where all who read the record can reach them.

        A server may hand out a folder of its own machine. So a file that is written there must be
        seen by the server. Raises EnvironmentFault otherwise; a new experiment is deleted then,
        because it would keep its place for ever.
        """
        scheme = self.uri.partition(":")[0].partition("+")[0]
        if scheme in DATABASES:
            what = f"a {scheme} database has no place for artifacts that all its users reach"
            todo = "start a server in front of it: mlflow server --backend-store-uri ADDRESS"
            todo += " --artifacts-destination FOLDER"
            raise EnvironmentFault(Fault("--tracking-uri", what, todo=todo))

        location = experiment.artifact_location
        is_local = find_local_folder(self.uri, location) is not None
        if scheme not in ("http", "https") or not is_local:
            return
        if self._is_seen_by_server(experiment.experiment_id):
            return

        if is_new:
            name = f"{experiment.name} refused {uuid4().hex[:8]}"
            self.client.rename_experiment(experiment.experiment_id, name)
            self.client.delete_experiment(experiment.experiment_id)
        what = f"the server keeps artifacts in {location} of its own machine"
        todo = "start it with --artifacts-destination FOLDER, without --no-serve-artifacts"
        todo += "" if is_new else ", and use --name for a new study"
        raise EnvironmentFault(Fault("--tracking-uri", f"{what}, not reached here", todo=todo))

    def _is_seen_by_server(self, experiment_id: str) -> bool:
        """Tell whether the server lists a file that is written as an artifact of a run here."""
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        run = self.client.create_run(experiment_id, run_name="are artifacts reached")
        folder = find_local_folder(self.uri, run.info.artifact_uri)
        assert folder is not None
        file = folder / "reached.txt"
        try:
            write_text(file, "")
            answer = http_request(
                get_default_host_creds(self.uri),
                "/api/2.0/mlflow/artifacts/list",
                "GET",
                params={"run_id": run.info.run_id},
            )
            return file.name in answer.text
        except OSError:
            return False
        finally:
            file.unlink(missing_ok=True)
            self.client.delete_run(run.info.run_id)
