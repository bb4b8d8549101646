"""Addresses of records: shown without their secrets, answered within seconds."""

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avsc_core.errors import EnvironmentFault
from avsc_core.record import contact
from avsc_core.record.address import hide_secrets, locate_state
from avsc_core.record.recorder import Recorder
from tests.builders.commands import run

SECRETS = ("s3cret", "t0ken")
COMMANDS = [
    ["avsc-search", "plan", "study.yaml"],
    ["avsc-search", "run", "study.yaml"],
    ["avsc-search", "check", "of-best.yaml"],
    *(["avsc-search", name, "s"] for name in ("status", "best", "report", "plot", "export")),
    ["avsc-search", "ui"],
    ["avsc-core", "train"],
    ["avsc-core", "train", "--best"],
    ["avsc-core", "evaluate", "best:s"],
    ["avsc-core", "predict", "clip.wav", "--model", "best:s"],
    ["avsc-core", "map", "best:s"],
    ["avsc-core", "pseudo", ".", "--audio-teacher", "a", "--visual-teacher", "b"],
]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are accepted and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:s3cret@h:5000/x", "http://u:...@h:5000/x"),
        ("http://:s3cret@h", "http://:...@h"),
        ("https://t0ken@h/x", "https://...@h/x"),
        ("postgresql://u:s3cret/@?&x@h/db", "postgresql://u:...@h/db"),
        (
            "postgresql+psycopg2://u@h/db?password=s3cret",
            "postgresql+psycopg2://...@h/db?password=...",
        ),
        ("http://h/?api_key=t0ken&page=2", "http://h/?api_key=...&page=2"),
        ("htp//u:s3cret@h", "htp//u:...@h"),
        (
            "run --tracking-uri='http://u:s3cret@h' --set 'audio.weights=/a@b'",
            "run --tracking-uri='http://u:...@h' --set 'audio.weights=/a@b'",
        ),
        (
            "HTTPConnectionPool(host='h', port=1): Max retries with url: /api?access_token=t0ken "
            "(Caused by x@y)",
            "HTTPConnectionPool(host='h', port=1): Max retries with url: /api?access_token=... "
            "(Caused by x@y)",
        ),
        ("models:/avsc-s@best http://h:5000 me@h", "models:/avsc-s@best http://h:5000 me@h"),
        (
            "sqlite:////home/me@work/mlflow.db?timeout=5",
            "sqlite:////home/me@work/mlflow.db?timeout=5",
        ),
    ],
)
def test_secrets_are_hidden_and_nothing_else(text: str, shown: str):
    assert hide_secrets(text) == shown
    assert hide_secrets(shown) == shown


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_tells_in_one_line_without_secrets(
    tmp_path: Path, closed_port: int, command: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "study.yaml").write_text("question: q\narms: [{name: one}]\n")
    (tmp_path / "of-best.yaml").write_text("question: q\nbest-of: s\narms: [{name: one}]\n")
    for name in ("clip.wav", "clip.mp4"):
        (tmp_path / name).touch()
    uri = f"http://me:s3cret@127.0.0.1:{closed_port}/?token=t0ken"
    code, out, err = run(tmp_path, *command, "--tracking-uri", uri)
    assert not any(secret in out + err for secret in SECRETS)
    assert code == 4
    assert len(err.splitlines()) == 1
    assert f"http://me:...@127.0.0.1:{closed_port}/?token=... does not answer (" in err


def test_a_silent_server(silent_port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contact, "SECONDS", 1.0)
    for scheme in ("http", "postgresql+psycopg2"):
        uri = f"{scheme}://me:s3cret@127.0.0.1:{silent_port}/x"
        with pytest.raises(EnvironmentFault) as caught:
            Recorder(uri)
        address = uri.replace("s3cret", "...")
        assert str(caught.value) == (
            f"--tracking-uri: {address} does not answer (no answer within 1 s)"
        )


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg2"])
def test_a_server_that_is_not_there(closed_port: int, scheme: str):
    start = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"does not answer \(.*[Cc]onnection refused"):
        Recorder(f"{scheme}://me:s3cret@127.0.0.1:{closed_port}/x")
    assert time.monotonic() - start < 10


def test_a_name_that_nobody_knows():
    start = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"^--tracking-uri: http://none\.invalid:5000 does"):
        Recorder("http://none.invalid:5000")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("module", "package"),
    [("psycopg2", "'avsc[postgresql]'"), ("psycopg", "'psycopg[binary]'")],
)
def test_a_database_without_its_driver(module: str, package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvironmentFault) as caught:
        Recorder(f"postgresql+{module}://me:s3cret@127.0.0.1/x")
    assert str(caught.value) == (
        f"--tracking-uri: postgresql+{module}://me:...@127.0.0.1/x needs the Python module "
        f"{module}; install it: pip install {package}"
    )


def test_a_changed_password_leads_to_the_same_state(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AVSC_STATE", raising=False)
    assert locate_state("http://u:one@h") == locate_state("http://u:two@h")
    assert locate_state("http://u:one@h") != locate_state("http://u:one@g")
