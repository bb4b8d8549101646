"""Artifacts lie where all readers of the record reach them, or the address is refused."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avsc_core.errors import EnvironmentFault
from avsc_core.record import artifacts
from avsc_core.record.artifacts import Artifacts
from avsc_core.record.recorder import Recorder
from avsc_core.record.study_document import FORMAT
from tests.builders.records import copy_empty_record, fresh_record


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return a function that starts an MLflow server with these options and returns its address."""
    servers = []

    def start(*options: str) -> str:
        copy_empty_record(tmp_path / "server.db")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", *options]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (tmp_path / "server.log").open("w") as log:
            servers.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    cwd=tmp_path,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        while servers[-1].poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        return f"http://127.0.0.1:{port}"

    yield start
    for server in servers:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--artifacts-destination", "art"),
        ("--no-serve-artifacts", "--default-artifact-root", "root"),
    ],
)
def test_a_server_whose_artifacts_are_reached(serve: Callable[..., str], options: tuple[str, ...]):
    recorder = Recorder(serve(*options))
    document = {"format": FORMAT, "definition": {"a": 1}}
    run_id = recorder.open_study_run("s", {}, document)
    assert recorder.read_study_document(run_id) == document


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["/proc/none", "elsewhere"])
def test_a_server_whose_artifacts_lie_on_another_machine_is_refused(
    serve: Callable[..., str], folder: str, monkeypatch: pytest.MonkeyPatch
):
    if folder == "elsewhere":  # what is written here is not seen there
        monkeypatch.setattr(artifacts, "write_text", lambda path, text: None)
    recorder = Recorder(serve("--no-serve-artifacts", "--default-artifact-root", folder))
    with pytest.raises(EnvironmentFault) as caught:
        recorder.open_study_run("s", {}, {})
    assert str(caught.value).startswith("--tracking-uri: the server keeps artifacts in /")
    assert str(caught.value).endswith(
        " of its own machine, not reached here;"
        " start it with --artifacts-destination FOLDER, without --no-serve-artifacts"
    )
    # Started as told, the server takes the same study.
    assert recorder.client.get_experiment_by_name("s") is None


@pytest.mark.parametrize("uri", ["postgresql://u:p@host/db", "mysql+pymysql://u:p@host/db"])
def test_a_database_without_a_server_is_refused(tmp_path: Path, uri: str):
    recorder = fresh_record(tmp_path)
    recorder.open_experiment("s")
    experiment = recorder.client.get_experiment_by_name("s")
    with pytest.raises(EnvironmentFault) as caught:
        Artifacts(uri, lambda run: "", lambda: recorder.client).check(experiment, is_new=True)
    scheme = uri[: uri.index("sql") + 3]
    assert str(caught.value) == (
        f"--tracking-uri: a {scheme} database has no place for artifacts that all its users reach;"
        " start a server in front of it: mlflow server --backend-store-uri ADDRESS"
        " --artifacts-destination FOLDER"
    )


def test_artifacts_lie_beside_the_file_and_move_with_it(tmp_path: Path):
    before = tmp_path / "before"
    recorder = Recorder(f"sqlite:///{before}/x.db")
    document = {"format": FORMAT, "definition": {"a": 1}}
    run_id = recorder.open_study_run("s", {}, document)
    recorder.log_text(run_id, "clips.txt", "one\ntwo")
    assert (before / "artifacts/s" / run_id / "artifacts/clips.txt").is_file()

    after = tmp_path / "after"
    before.rename(after)
    moved = Recorder(f"sqlite:///{after}/x.db")
    assert moved.read_lines(run_id, "clips.txt") == ["one", "two"]
    moved.log_text(run_id, "clips.txt", "three")
    assert moved.read_lines(run_id, "clips.txt") == ["three"]
    assert moved.read_study_document(run_id) == document
    assert not before.exists()
