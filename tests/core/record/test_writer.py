"""The writer: whatever the record does, everything arrives once, in order, and nobody waits for it.

Covers avsc_core/record/delivery/writer.py. The record is a real SQLite file; where it is away, a
real second process has locked it.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from avsc_core.config import Config
from avsc_core.errors import EnvironmentFault
from avsc_core.record.address import locate_state
from avsc_core.record.delivery import operations
from avsc_core.record.delivery import writer as writing
from avsc_core.record.delivery.spool import Spool
from avsc_core.record.delivery.writer import Writer
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import FinishedTraining, TrialRecord
from tests.builders.outages import TAGS, locked, tell_trial
from tests.builders.records import fresh_record


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return fresh_record(tmp_path)


@pytest.fixture(autouse=True)
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let people be told of an outage at once."""
    monkeypatch.setattr(writing, "NOTED_AFTER", 0.1)


def locate_spool(folder: Path) -> Path:
    state = locate_state(f"sqlite:///{folder / 'record.db'}")
    return state / "spool" / "s" / f"{os.getuid()}.jsonl"


def check_only_trial(recorder: Recorder, config: Config) -> None:
    """Check that the record has the trial of `tell_trial`, once, and no other one."""
    (trial,) = recorder.list_trials("s")
    check_trial(recorder, trial, config)


def check_trial(recorder: Recorder, trial: TrialRecord, config: Config) -> None:
    """Check that everything that `tell_trial` tells is in the record once."""
    assert (trial.config, trial.outcome) == (config, "complete")
    assert recorder.read_history(trial.run_id, "val_acc") == [(1, 0.25), (2, 0.5)]
    assert recorder.read_history(trial.run_id, "best_val_acc") == [(0, 0.5)]
    assert recorder.read_lines(trial.run_id, "predictions_val.tsv") == ["text"]
    assert (trial.tags["avsc.host"], trial.tags["avsc.note"]) == ("here", "n")
    run = recorder.client.get_run(trial.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.start_time <= run.info.end_time
    assert run.data.params["seed"] == str(config.seed)


def test_what_is_told_is_in_the_record(recorder: Recorder, tiny: Config, tmp_path: Path):
    with Writer(recorder, "s") as writer:
        tell_trial(writer, tiny)
    check_only_trial(recorder, tiny)
    assert not locate_spool(tmp_path).exists()


def test_nobody_waits_while_the_file_is_locked(recorder: Recorder, tiny: Config, tmp_path: Path):
    with Writer(recorder, "s") as writer, locked(tmp_path / "record.db"):
        start = time.monotonic()
        tell_trial(writer, tiny)
        assert time.monotonic() - start < 1
        assert writer.spool.waiting == 6
    check_only_trial(recorder, tiny)


def test_a_killed_process_loses_nothing(recorder: Recorder, tiny: Config, tmp_path: Path):
    """The next one delivers what it has left, but for a line that it was writing."""
    code = (
        "import os, signal, sys\n"
        "from avsc_core.config import Config\n"
        "from avsc_core.record.recorder import Recorder\n"
        "from avsc_core.record.delivery.writer import Writer\n"
        "from tests.builders.outages import locked, tell_trial\n"
        "from pathlib import Path\n"
        "config = Config.model_validate_json(sys.argv[1])\n"
        "with Writer(Recorder('sqlite:///record.db'), 's') as writer, locked(Path('record.db')):\n"
        "    tell_trial(writer, config)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tiny.model_dump_json()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == -signal.SIGKILL
    assert recorder.list_trials("s") == []
    spool = locate_spool(tmp_path)
    assert spool.stat().st_mode & 0o077 == 0
    with spool.open("a") as file:
        file.write(' {"call": "end", "run"')

    with Writer(recorder, "s"):
        check_only_trial(recorder, tiny)  # before anything else is done
    assert not spool.exists()


class Killed(BaseException):
    """What ends a writer as SIGKILL ends a process."""


class KillingClient:
    """A client of MLflow's after whose call number `last` the writer is killed."""

    def __init__(self, client: MlflowClient, last: int) -> None:
        self.client = client
        self.left = last

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            self.left -= 1
            answer = getattr(self.client, name)(*args, **kwargs)
            if self.left == 0:
                raise Killed
            return answer

        return call


def deliver(writer: Writer) -> bool:
    """Deliver until everything is, or until the writer is killed. Returns whether it was."""
    thread = writer._thread
    thread.start()
    while thread.is_alive() and writer.spool.waiting:
        time.sleep(0.005)
    is_killed = not thread.is_alive()
    writer._stop()
    return is_killed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_killed_after_every_call(recorder: Recorder, tiny: Config):
    """However far a call of MLflow's came, the next process delivers everything once."""
    another = tiny.model_copy(update={"seed": 7})
    source = recorder.begin_run("other", another, TAGS | {"avsc.study": "other"})
    recorder.log_epoch(source, 1, {"val_acc": 0.75})
    recorder.end_run(source, "complete", {})
    client = recorder.client

    is_killed = True
    last = 0
    while is_killed:
        last += 1
        study = f"s{last}"
        writer = Writer(recorder, study)
        tell_trial(writer, tiny)
        writer.take_over(
            FinishedTraining(source, "other", "key"), TAGS | {"avsc.arm": "row 2"}, "parent"
        )
        recorder.client = KillingClient(client, last)
        is_killed = deliver(writer)
        recorder.client = client

        with Writer(recorder, study):
            pass
        trial, copy = recorder.list_trials(study)
        check_trial(recorder, trial, tiny)
        assert (copy.arm, copy.outcome, copy.metrics) == ("row 2", "complete", {"val_acc": 0.75})
        assert recorder.read_history(copy.run_id, "val_acc") == [(1, 0.75)]
    assert last > 15


def test_what_is_delivered_twice_changes_nothing(recorder: Recorder, tiny: Config, tmp_path: Path):
    writer = Writer(recorder, "s")
    tell_trial(writer, tiny)
    lines = locate_spool(tmp_path).read_text()
    deliver(writer)
    locate_spool(tmp_path).write_text(lines)
    with Writer(recorder, "s"):
        check_only_trial(recorder, tiny)


def test_of_two_runs_that_one_operation_created_one_stays(recorder: Recorder, tiny: Config):
    """A server that hangs answers when MLflow has asked it again already."""
    writer = Writer(recorder, "s")
    writer._carrier.is_server = True

    def create_twice(*args: Any, **values: Any) -> str:
        Recorder.create_run(*args, **values)
        return Recorder.create_run(*args, **values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(operations.CREATING, "begin", create_twice)
        with writer:
            tell_trial(writer, tiny)
    check_only_trial(recorder, tiny)


def test_a_trial_that_others_finished_meanwhile_stays_finished(recorder: Recorder, tiny: Config):
    run = recorder.begin_run("s", tiny, TAGS)
    writer = Writer(recorder, "s")
    writer.resume(run)
    writer.log_epoch(run, 1, {"val_acc": 0.1})
    writer.end(run, "interrupted")
    writer.spool.close()  # its process ends
    recorder.log_epoch(run, 1, {"val_acc": 0.5})
    recorder.end_run(run, "complete", {})

    with Writer(recorder, "s"):
        (trial,) = recorder.list_trials("s")
    assert (trial.outcome, trial.metrics) == ("complete", {"val_acc": 0.5})
    assert recorder.client.get_run(run).info.status == "FINISHED"


def test_what_the_record_does_not_accept_is_put_aside(
    recorder: Recorder, tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    deleted = recorder.begin_run("s", tiny, TAGS)
    recorder.delete_run(deleted)
    writer = Writer(recorder, "s")
    writer.log_epoch(deleted, 1, {"val_acc": 0.1})
    with locate_spool(tmp_path).open("a") as file:
        file.write(" what a power cut leaves\n")
    writer.spool.close()
    writer = Writer(recorder, "s")
    tell_trial(writer, tiny)
    with pytest.raises(EnvironmentFault) as caught, writer:
        check_only_trial(recorder, tiny)

    told = capsys.readouterr().err
    assert "note: record: 2 writes of an earlier run of study s are delivered first" in told
    path = locate_spool(tmp_path).with_suffix(".refused")
    assert told.count("is not accepted") == 2
    assert told.count(f"it is kept in {path}") == 2
    # Or the study would count as complete without them.
    assert f"writes of study s were not accepted and are kept in {path}" in str(caught.value)
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [json.loads(kept[0]["operation"])["run"], kept[1]["operation"]] == [
        deleted,
        "what a power cut leaves",
    ]
    assert not locate_spool(tmp_path).exists()


def test_a_record_that_stays_away(
    recorder: Recorder,
    tiny: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """The study ends in time, says what is kept where, and the next start delivers it."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("nobody answers")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "PATIENCE", 1.0)
        patch.setattr(type(recorder.client), "log_batch", fail)
        start = time.monotonic()
        with pytest.raises(EnvironmentFault) as caught, Writer(recorder, "s") as writer:
            tell_trial(writer, tiny)
        assert time.monotonic() - start < 5
    spool = locate_spool(tmp_path)
    assert str(caught.value) == (
        f"record: {recorder.uri}: nobody answers; 6 writes are kept in {spool}; "
        "the same command delivers them"
    )
    assert "nobody answers; training goes on" in capsys.readouterr().err
    with pytest.raises(EnvironmentFault, match="nobody answers"):
        recorder.list_studies()  # nobody waits again, on the way out
    recorder.away = ""  # as in the next process
    with Writer(recorder, "s"):
        check_only_trial(recorder, tiny)


def test_a_fault_of_the_writer_itself_ends_the_study(
    recorder: Recorder, tiny: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def fail(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("a bug")

    writer = Writer(recorder, "s")
    tell_trial(writer, tiny)
    with monkeypatch.context() as patch:
        patch.setattr(type(recorder.client), "log_batch", fail)
        with pytest.raises(EnvironmentFault, match=r"^record: writing ended with ZeroDivision"):
            writer.__enter__()
        with pytest.raises(EnvironmentFault, match=r"; 6 writes are kept in .* delivers them$"):
            tell_trial(writer, tiny)
    with Writer(recorder, "s"):
        assert recorder.list_trials("s")[0].outcome == "complete"


def test_a_full_disk_stops_the_study_and_keeps_what_was_told(recorder: Recorder, tiny: Config):
    """Half a line is no operation: what is told after room was made begins a line of its own."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = Writer(recorder, "s")
    run = writer.begin(tiny, TAGS, "parent")
    size = writer.spool.path.stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limit[1]))
        with pytest.raises(EnvironmentFault, match=r"jsonl: .*; make room there; the same command"):
            writer.log_epoch(run, 1, {"val_acc": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert writer.spool.path.stat().st_size == size
    writer.log_epoch(run, 1, {"val_acc": 0.5})
    with writer:
        (trial,) = recorder.list_trials("s")
    assert trial.metrics == {"val_acc": 0.5}


def test_a_spool_has_one_process(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.append({"call": "end"})
    with pytest.raises(EnvironmentFault, match=r"jsonl: another process is writing"):
        Spool(tmp_path)
    spool.close()
    assert Spool(tmp_path).waiting == 1


def test_a_long_outage_fills_the_disk_and_not_the_memory(tmp_path: Path):
    spool = Spool(tmp_path)
    tracemalloc.start()
    for number in range(2000):
        spool.append({"call": "text", "content": f"{number} {'x' * 10_000}"})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spool.path.stat().st_size > 20_000_000
    assert most < 200_000
    for number in range(2000):
        line = spool.read_next()
        assert line
        assert json.loads(line)["content"].startswith(f"{number} ")
        spool.drop()
    assert spool.path.stat().st_size == 0
