"""A real cluster of `ray start --head` with a token: joined with `--address`, else left alone.

It covers studies/cluster/joining.py.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from avsc_core import __version__
from tests.builders.commands import BIN
from tests.builders.places import Place

STUDY = "question: q\narms: [{name: one}]\n"
OTHER_VERSION = "9.9.9"


class Head(NamedTuple):
    """A running head of a cluster."""

    address: str
    home: Path  # with the cluster's token
    temporary: Path  # with Ray's own note of the running cluster


def start_head(folder: Path, **variables: str) -> "tuple[Head, subprocess.Popen[bytes]]":
    """Start the head of a cluster as the documentation says, with a home of its own."""
    home = folder / "home"
    home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = os.environ | {"HOME": str(home)} | variables
    ray = str(BIN / "ray")
    subprocess.run(
        [ray, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True
    )
    options = ["--port", str(port), "--temp-dir", str(folder / "ray"), "--num-cpus", "2"]
    options += ["--num-gpus", "1"]  # Ray believes it
    command = [ray, "start", "--head", "--block", "--include-dashboard=false", *options]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b"ray status" in line:  # the last of its hints
            break
    return Head(f"127.0.0.1:{port}", home, folder / "ray"), process


@pytest.fixture(scope="module", params=["", OTHER_VERSION], ids=["like us", "another avsc"])
def head(request: pytest.FixtureRequest) -> Iterator[Head]:
    """A cluster, once with an avsc of another version on its nodes."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    variables = {}
    if request.param:
        (folder / "avsc_core").mkdir()
        (folder / "avsc_core" / "__init__.py").write_text(f"__version__ = '{OTHER_VERSION}'\n")
        variables["PYTHONPATH"] = str(folder)
    head, process = start_head(folder, **variables)
    yield head
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place(tmp_path: Path, scenes: Path) -> Place:
    place = Place(tmp_path, scenes)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    place.run_study += ["--set", "training.epochs=1"]
    return place


@pytest.mark.slow
@pytest.mark.parametrize("head", [""], indirect=True)
def test_a_cluster_is_joined_with_its_token_and_not_without(
    place: Place, head: Head, monkeypatch: pytest.MonkeyPatch
):
    join = [*place.run_study, "--address", head.address]
    monkeypatch.setenv("HOME", str(place.folder))
    _, err = place.run(*join, code=4)
    where = f"--address: the Ray cluster at {head.address}"
    todo = "put the cluster's own into ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH\n"
    assert err == f"{where} asks for a token, and this user has none; {todo}"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    _, err = place.run(*join, code=4)
    assert err == f"{where} does not accept the token of this user; {todo}"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere")
    _, err = place.run(*join, code=4)
    assert "RAY_AUTH_TOKEN_PATH, whose token " in err
    assert err.count("\n") == 1

    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.home / ".ray" / "auth_token"))
    if not torch.cuda.is_available():
        _, err = place.run(*join, "--gpus", "1", code=4)
        assert err.splitlines()[-1].startswith(f"--gpus: torch {torch.__version__} finds no GPU")
        assert place.trials() == []
    _, err = place.run(*join)
    assert "note: trials train on the CPU, GPUs here: 1; --gpus 1 gives each trial one\n" in err
    assert [trial.outcome for trial in place.trials()] == ["complete"]


@pytest.mark.slow
@pytest.mark.parametrize("head", [OTHER_VERSION], indirect=True)
def test_a_cluster_with_another_avsc_is_told_and_never_used_unasked(
    place: Place, head: Head, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(head.home))
    _, err = place.run(*place.run_study, "--address", head.address, code=4)
    assert err.count("\n") == 1
    told = f"has avsc {OTHER_VERSION}, this machine avsc {__version__}; install the same"
    assert told in err

    # Ray would join this cluster, by either variable.
    monkeypatch.setenv("RAY_ADDRESS", head.address)
    monkeypatch.setenv("RAY_TMPDIR", str(head.temporary))
    assert (head.temporary / "ray_current_cluster").exists()
    place.run(*place.run_study)
    assert [trial.outcome for trial in place.trials()] == ["complete"]
