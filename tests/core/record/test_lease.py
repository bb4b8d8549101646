"""A study has one owner: refused while it lives, taken over when it is dead, by whatever sign."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avsc_core.errors import EnvironmentFault, LeaseLost, UserError
from avsc_core.record import lease
from avsc_core.record.lease import Lease, has_owner, hold_lease
from avsc_core.record.recorder import Recorder
from tests.builders.records import fresh_record

# Holds the lease until its standard input is closed; says so, or what is wrong.
HOLD = """
import sys
from avsc_core.record import lease
from avsc_core.record.recorder import Recorder
lease.BEAT_SECONDS = 0.2
lease._name_machine = lambda name=lease._name_machine(): sys.argv[2] or name
try:
    with lease.hold_lease(Recorder(sys.argv[1]), "s", "study.yaml"):
        print("held", flush=True)
        sys.stdin.read()
except Exception as error:
    print(error, flush=True)
"""


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return fresh_record(tmp_path)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(lease, "SILENT_SECONDS", 3.0)


class Holder:
    """Another process that asks for the lease of study `s`."""

    def __init__(self, recorder: Recorder, machine: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, recorder.uri, machine],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    found: list[Holder] = []
    yield found
    for holder in found:
        holder.process.kill()
        holder.process.communicate()


def test_a_lease_is_given_back(recorder: Recorder):
    for _ in range(2):
        with hold_lease(recorder, "s", "study.yaml"):
            assert recorder.read_lease("s")
        assert recorder.read_lease("s") == ""
    assert not has_owner(recorder, "s")
    assert not has_owner(recorder, "never begun")


def test_a_running_process_keeps_its_study_and_a_dead_one_does_not(
    recorder: Recorder, holders: list[Holder], capsys: pytest.CaptureFixture[str]
):
    holder = Holder(recorder)
    holders.append(holder)
    assert holder.hear() == "held"
    assert has_owner(recorder, "s")
    found = Lease.model_validate_json(recorder.read_lease("s"))
    refused = (
        f"study.yaml: study s is running on {found.host} (process {holder.process.pid})"
        f" since {found.since}; wait for it, or use --name"
    )

    # Whether it runs decides, not whether it gives signs of life.
    for number in (signal.SIGSTOP, signal.SIGCONT):
        holder.process.send_signal(number)
        with pytest.raises(UserError) as caught, hold_lease(recorder, "s", "study.yaml"):
            pass
        assert str(caught.value) == refused
    with hold_lease(recorder, "another study", "study.yaml"):
        pass

    holder.process.send_signal(signal.SIGKILL)
    while has_owner(recorder, "s"):  # until the signal has come; a zombie is dead
        time.sleep(0.05)
    with hold_lease(recorder, "s", "study.yaml"):
        note = capsys.readouterr().err
    assert f"begun by {found} at {found.since} and left unfinished; it is taken over" in note


def test_of_processes_that_start_at_once_one_has_the_study(
    recorder: Recorder, holders: list[Holder]
):
    holders += [Holder(recorder) for _ in range(3)]
    answers = [holder.hear() for holder in holders]
    assert answers.count("held") == 1
    assert sum("study s is running on" in answer for answer in answers) == 2


def test_a_process_id_that_was_given_away_is_not_the_owner(recorder: Recorder):
    begun = {"host": "h", "machine": lease._name_machine(), "pid": os.getppid(), "begun": -5.0}
    stale = Lease(id="x", since="yesterday", **begun)
    recorder.write_lease("s", stale.model_dump_json())
    assert not has_owner(recorder, "s")


def test_another_machine_that_gives_signs_of_life_keeps_its_study(
    recorder: Recorder, holders: list[Holder]
):
    holder = Holder(recorder, machine="another")
    holders.append(holder)
    assert holder.hear() == "held"
    with (
        pytest.raises(UserError, match=r"study s is running on .* since .*; wait for it"),
        hold_lease(recorder, "s", "study.yaml"),
    ):
        pass
    assert has_owner(recorder, "s")


def test_another_machine_that_is_silent_loses_its_study(
    recorder: Recorder, holders: list[Holder], capsys: pytest.CaptureFixture[str]
):
    holder = Holder(recorder, machine="another")
    holders.append(holder)
    assert holder.hear() == "held"
    holder.process.send_signal(signal.SIGSTOP)
    with hold_lease(recorder, "s", "study.yaml"):
        assert "a sign of life is awaited for 3 s" in capsys.readouterr().err
        # It wakes, finds out, and ends as if it had been told to.
        holder.process.send_signal(signal.SIGCONT)
        assert holder.process.wait(20) == -signal.SIGTERM
        assert recorder.read_lease("s")


def test_who_has_lost_the_lease_writes_nothing_any_more(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
):
    stops = []
    monkeypatch.setattr(os, "kill", lambda *args: stops.append(args))
    other = Lease(id="x", host="h", machine="m", pid=7, begun=0.0, since="now")
    run_id = recorder.open_study_run("s", {}, {})
    holding = hold_lease(recorder, "s", "study.yaml")
    holding.__enter__()
    recorder.write_lease("s", other.model_dump_json())
    while not stops:
        time.sleep(0.05)
    with pytest.raises(LeaseLost):
        recorder.end_run(run_id, "complete", {})
    with pytest.raises(LeaseLost) as caught:
        holding.__exit__(None, None, None)
    told = "record: study s was taken over by h (process 7); the study goes on there"
    assert str(caught.value) == told
    assert stops == [(os.getpid(), signal.SIGTERM)]
    assert Recorder(recorder.uri).read_lease("s") == other.model_dump_json()


def test_a_record_that_is_away_for_a_while_costs_no_lease(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
):
    read = recorder.read_lease
    failures = []

    def fail(study: str) -> str:
        failures.append(study)
        raise EnvironmentFault([])

    with hold_lease(recorder, "s", "study.yaml"):
        monkeypatch.setattr(recorder, "read_lease", fail)
        while len(failures) < 2:
            time.sleep(0.05)
        monkeypatch.setattr(recorder, "read_lease", read)
        before = Lease.model_validate_json(recorder.read_lease("s")).beat
        while Lease.model_validate_json(recorder.read_lease("s")).beat == before:
            time.sleep(0.05)
    assert not recorder.lost
    assert recorder.read_lease("s") == ""
