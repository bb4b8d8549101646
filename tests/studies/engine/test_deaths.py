"""Workers of real studies are killed and stopped, and their disk is full: no trial is lost."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.builders.disks import resize_disk, small_disk
from tests.builders.places import Place
from tests.builders.workers import wait_for_worker

TWO_ARMS = "question: q\narms: [{name: all}, {name: no SF, set: {fusion.kind: none}}]\n"
ONE_ARM = "question: q\narms: [{name: all}]\n"
ONE_AT_A_TIME = ["--cpus", str(os.cpu_count())]


def make_place(folder: Path, scenes: Path, study: str, epochs: int) -> Place:
    place = Place(folder, scenes)
    (folder / "tiny.yaml").write_text(study)
    place.run_study += [*ONE_AT_A_TIME, "--set", f"training.epochs={epochs}"]
    return place


def wait_for_checkpoint(place: Place, process: "subprocess.Popen[str]") -> None:
    """Wait until a trial has written its next checkpoint."""

    def look() -> dict[Path, int]:
        found = (place.folder / "mlruns" / "checkpoints").rglob("*.pt")
        return {path: path.stat().st_mtime_ns for path in found}

    before = look()
    while look() == before:
        assert process.poll() is None
        time.sleep(0.05)


def find_line(text: str, beginning: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith(beginning)]
    assert lines, text
    return lines[0]


@pytest.mark.slow
def test_a_killed_worker_costs_its_trial_only_what_it_does_in_one_epoch(
    tmp_path: Path, scenes: Path
):
    """Three workers are killed before the trial has ended its first epoch."""
    place = make_place(tmp_path, scenes, ONE_ARM, 4)
    process = place.start(*place.run_study)
    killed: list[int] = []
    for _ in range(3):
        killed.append(wait_for_worker(process, killed))
        os.kill(killed[-1], signal.SIGKILL)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 3, err
    assert "raylet" not in out + err
    note = r"note: the worker of all \w{6} is replaced in epoch 1: killed, perhaps by SIGKILL; "
    assert len(re.findall(note + "the trial begins again", err)) == 2
    line = find_line(err, "1/1 failed   all ")
    assert ": its worker was lost 3 times in one epoch: killed, perhaps by SIGKILL" in line
    (trial,) = place.trials()
    assert trial.outcome == "failed"
    out, _ = place.call("avsc-search", "status", "tiny")
    assert "its worker was lost 3 times in one epoch: killed, perhaps by SIGKILL" in out


@pytest.mark.slow
def test_a_worker_may_die_as_often_as_its_trial_gets_on(tmp_path: Path, scenes: Path):
    place = make_place(tmp_path, scenes, ONE_ARM, 60)
    process = place.start(*place.run_study)
    killed: list[int] = []
    for _ in range(4):
        killed.append(wait_for_worker(process, killed))
        wait_for_checkpoint(place, process)
        os.kill(killed[-1], signal.SIGKILL)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert len(re.findall(r"note: the worker of all \w{6} is replaced in epoch", err)) == 4
    (trial,) = place.trials()
    history = place.recorder.read_history(trial.run_id, "val_acc")
    assert [epoch for epoch, _ in history] == list(range(1, 61))


@pytest.mark.slow
def test_a_full_disk_ends_a_study_that_the_same_command_finishes(tmp_path: Path, scenes: Path):
    place = make_place(tmp_path, scenes, TWO_ARMS, 3)
    disk = tmp_path / "mlruns" / "checkpoints"
    with small_disk(disk, "200k"):
        _, err = place.run(*place.run_study, code=4)
        line = find_line(err, f"disk: {disk}")
        wanted = (
            r"0\.\d MB free, a checkpoint needs 0\.\d MB; free some, the same command continues"
        )
        assert re.search(wanted, line)
        assert {trial.outcome for trial in place.trials()} == {"interrupted"}

        resize_disk(disk, "50m")
        place.run(*place.run_study)
        assert [trial.outcome for trial in place.trials()] == ["complete", "complete"]


@pytest.mark.slow
def test_a_silent_worker_is_replaced(tmp_path: Path, scenes: Path):
    place = make_place(tmp_path, scenes, ONE_ARM, 40)
    process = place.start(*place.run_study)
    worker = wait_for_worker(process, [])
    wait_for_checkpoint(place, process)
    os.kill(worker, signal.SIGSTOP)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    why = r"no epoch for 60 s, somebody had stopped its process; the trial continues"
    assert re.search(rf"note: the worker of all \w{{6}} is replaced in epoch \d+: {why}", err)
    (trial,) = place.trials()
    assert trial.outcome == "complete"
    (stacks,) = [
        item.path
        for item in place.recorder.client.list_artifacts(trial.run_id)
        if item.path.startswith("stacks_epoch_")
    ]
    assert "step" in Path(place.recorder.fetch_artifact(trial.run_id, stacks)).read_text()
