"""A record is born whole or not at all, whoever else makes it, and whatever kills its maker.

Processes are forked by one that has imported MLflow already, so that they start within the same
millisecond, and their kills fall into the second in which the tables are made.
"""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from avsc_core.record.recorder import Recorder

FORK = """
import os, sys
from avsc_core.record.recorder import Recorder
import mlflow.store.tracking.sqlalchemy_store

def work(number):
    Recorder(URI).open_study_run(f"s{number % 2}", {"avsc.metric": "val_acc"}, {"definition": {}})

def fork(number):
    child = os.fork()
    if not child:
        code = 1
        try:
            work(number)
            code = 0
        finally:
            os._exit(code)
    return child
"""
TOGETHER = """
children = [fork(number) for number in range(4)]
print([os.waitpid(child, 0)[1] for child in children])
"""
KILLED = """
import random, signal, time
random.seed(1)
for _ in range(6):
    child = fork(0)
    time.sleep(random.uniform(0, 1.5))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if os.path.exists("mlruns/mlflow.db"):
        break
print([os.waitpid(fork(0), 0)[1]])
"""


def run_script(folder: Path, uri: str, script: str) -> str:
    code = f"URI = {uri!r}\n{FORK}{script}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=240
    )
    return done.stdout.strip() or done.stderr


def check_whole(database: Path) -> None:
    """Check that a record opens, and that nothing but its lock and artifacts lies beside it."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    names = {path.name for path in database.parent.iterdir()}
    assert names == {database.name, f"{database.name}.lock", "artifacts"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("uri", "database"),
    [
        ("sqlite:///mlruns/mlflow.db", "mlruns/mlflow.db"),
        ("sqlite:///a/b c/other.db", "a/b c/other.db"),
        ("sqlite:///FOLDER/deep/x.db", "deep/x.db"),
    ],
)
def test_four_first_commands_at_once(tmp_path: Path, uri: str, database: str):
    uri = uri.replace("FOLDER", str(tmp_path))
    assert run_script(tmp_path, uri, TOGETHER) == "[0, 0, 0, 0]"
    check_whole(tmp_path / database)
    studies = Recorder(f"sqlite:///{tmp_path / database}").list_studies()
    assert {run.tags["avsc.study"] for run in studies} == {"s0", "s1"}


@pytest.mark.slow
def test_a_record_whose_maker_was_killed(tmp_path: Path):
    uri = "sqlite:///mlruns/mlflow.db"
    assert run_script(tmp_path, uri, KILLED) == "[0]"
    check_whole(tmp_path / "mlruns/mlflow.db")


def test_what_a_killed_maker_left_is_removed(tmp_path: Path):
    folder = tmp_path / "mlruns"
    folder.mkdir()
    (folder / ".mlflow.db.abc.db").write_bytes(b"half of it")
    (folder / ".mlflow.db.abc.db-journal").write_bytes(b"half of it")
    Recorder(f"sqlite:///{folder}/mlflow.db")
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
