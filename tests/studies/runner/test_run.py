"""One study in one record, run from several folders: one owner at a time, every trial once."""

import os
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.builders.commands import RECORD
from tests.builders.places import Place

SHORT = ("--trials", "2", "--name", "shared")


@pytest.fixture
def folders(tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """Two folders with the same study file and one tracking address."""
    places = [Place(tmp_path, scenes)]
    (tmp_path / "other").mkdir()
    places.append(Place(tmp_path / "other", scenes, record=False))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / RECORD}")
    return places


def check_each_trial_once(place: Place) -> None:
    """Check that every trial has one run, which is over."""
    recorder = place.recorder
    runs = recorder.find_runs("shared", "trial")
    assert set(Counter(run.tags["avsc.trial_key"] for run in runs).values()) == {1}
    assert {run.status for run in runs} == {"FINISHED"}
    assert len(recorder.find_runs("shared", "study")) == 1
    assert recorder.read_lease("shared") == ""


@pytest.mark.slow
def test_two_folders_do_not_train_one_study_twice(folders: list[Place]):
    commands = [place.start(*place.run_study, *SHORT) for place in folders]
    errors = [command.communicate(timeout=400)[1] for command in commands]
    assert sorted(command.returncode for command in commands) == [0, 2], errors
    (refused,) = (
        error for command, error in zip(commands, errors, strict=True) if command.returncode
    )
    assert "tiny.yaml: study shared is running on" in refused
    assert "; wait for it, or use --name" in refused
    check_each_trial_once(folders[0])


@pytest.mark.slow
def test_a_killed_study_is_continued_from_another_folder_and_then_moved(folders: list[Place]):
    first, second = folders
    process = first.start(*first.run_study, *SHORT)
    while not any(trial.outcome == "complete" for trial in first.trials("shared")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = {
        trial.key: trial.run_id for trial in first.trials("shared") if trial.outcome == "complete"
    }

    # Nobody writes that its trials were interrupted, but readers know.
    assert "running" in {trial.outcome for trial in first.trials("shared")}
    out, _ = second.call("avsc-search", "status", "shared")
    assert "interrupted" in out
    assert "running" not in out

    _, err = second.run(*second.run_study, *SHORT)
    assert f"was begun by {os.uname().nodename} (process {process.pid})" in err
    check_each_trial_once(first)
    now = {trial.key: trial.run_id for trial in first.trials("shared")}
    assert done.items() <= now.items()

    # The record elsewhere: what it needs has moved with it.
    moved = second.folder / "moved"
    shutil.copytree(first.folder / "mlruns", moved)
    shutil.rmtree(first.folder / "mlruns")
    address = ("--tracking-uri", f"sqlite:///{moved}/mlflow.db")
    plan = [word if word != "run" else "plan" for word in second.run_study]
    out, _ = second.call(*plan, *SHORT, *address)
    assert re.search(r"(\d+) of \1 trials are in the record already", out)
    report = ("avsc-search", "report", "shared", "--out", str(second.folder / "report"), *address)
    second.call(*report)

    # Without its files it says which one is missing where.
    shutil.rmtree(moved / "artifacts")
    _, err = second.call(*report, code=4)
    assert err.startswith(f"{moved}/artifacts/shared/")
    assert "/study.json: a file of the record sqlite:///" in err
