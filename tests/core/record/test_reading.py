"""Reading in bulk: the same as MLflow's own search, once an invocation, whatever its size.

The readers are avsc_core/record/reading/database.py and avsc_core/record/reading/server.py.
"""

import math
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import event

from avsc_core.config import Config
from avsc_core.errors import EnvironmentFault
from avsc_core.record.reading import database
from avsc_core.record.reading.guard import Refused
from avsc_core.record.reading.record import Record
from avsc_core.record.reading.server import ServerReader
from avsc_core.record.recorder import Recorder
from tests.builders.outages import locked
from tests.builders.records import copy_empty_record, fresh_record

TAGS = {"avsc.kind": "trial", "avsc.study": "s", "avsc.data_fingerprint": "f"}


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.chdir(tmp_path)
    return fresh_record(tmp_path)


def as_behind_a_server(recorder: Recorder) -> Recorder:
    """Return a recorder of the same record that reads by MLflow's search alone."""
    other = Recorder(recorder.uri)
    other.reader = ServerReader(other.client)
    return other


def write_study(recorder: Recorder, tiny: Config, study: str, trials: int) -> list[str]:
    """Write some trials of every kind; the second has a metric that is no number."""
    run_ids = []
    for seed in range(trials):
        config = tiny.model_copy(update={"seed": seed})
        run_id = recorder.begin_run(study, config, TAGS | {"avsc.study": study})
        for epoch in (2, 1, 3):
            recorder.log_epoch(run_id, epoch, {"val_acc": seed + epoch / 10, "train_total": 1.0})
        if seed == 1:
            recorder.log_epoch(run_id, 4, {"val_acc": math.nan})
        if seed % 2:
            recorder.end_run(run_id, "complete", {"best_val_acc": 0.5})
        run_ids.append(run_id)
    return run_ids


def test_bulk_reading_is_mlflows_search(
    recorder: Recorder, tiny: Config, monkeypatch: pytest.MonkeyPatch
):
    run_ids = write_study(recorder, tiny, "s", 5)
    write_study(recorder, tiny, "other", 2)
    recorder.begin_run("s", tiny, TAGS | {"avsc.kind": "training"})
    recorder.delete_run(run_ids[3])
    monkeypatch.setattr(database, "MOST_NAMES", 2)  # stands for a thousand run ids in a query
    server = as_behind_a_server(recorder)

    for kind in ("trial", "training"):
        # repr, because a metric that is no number is not equal to itself.
        assert repr(recorder.list_trials("s", kind)) == repr(server.list_trials("s", kind))
    assert [trial.seed for trial in recorder.list_trials("s")] == [0, 1, 2, 4]
    assert recorder.list_trials("absent") == server.list_trials("absent") == []
    recipe = recorder.list_trials("s")[0].tags["avsc.recipe"]
    for left_out in ("", "other"):
        found = recorder.list_finished_trainings("f", recipe, left_out)
        # As text, because a metric that is not a number equals nothing.
        assert repr(found) == repr(server.list_finished_trainings("f", recipe, left_out))
        assert len(found) == (1 if left_out else 2)

    for metric in ("val_acc", "absent"):
        histories = recorder.read_histories(run_ids, metric)
        assert repr(histories) == repr(server.read_histories(run_ids, metric))
        assert repr(histories) == repr([recorder.read_history(each, metric) for each in run_ids])
    assert recorder.read_histories(run_ids[:1], "train_total") == [[(1, 1.0), (2, 1.0), (3, 1.0)]]


def test_both_readers_find_the_same(recorder: Recorder, tiny: Config):
    run_ids = write_study(recorder, tiny, "s", 3)
    write_study(recorder, tiny, "gone", 1)
    recorder.write_lease("s", "a lease")
    recorder.client.delete_experiment(recorder.open_experiment("gone"))
    recorder.delete_run(run_ids[2])
    ours, server = recorder.reader, ServerReader(recorder.client)

    for name in ("s", "gone", "absent"):
        assert ours.find_experiment(name) == server.find_experiment(name)
    assert ours.list_experiments() == server.list_experiments()
    assert "gone" not in ours.list_experiments().values()
    for run_id in run_ids:  # the last one is deleted
        assert repr(ours.read_run(run_id)) == repr(server.read_run(run_id))
        assert ours.read_params(run_id) == server.read_params(run_id)
    experiment = recorder.open_experiment("s")
    for wanted in ({}, {"avsc.outcome": "complete"}, {"absent": "x"}):
        for status in ("", "RUNNING", "FINISHED"):
            found = ours.search([experiment], wanted, status)
            assert repr(found) == repr(server.search([experiment], wanted, status))
    assert ours.search([], {}) == server.search([], {}) == []


def test_a_run_that_is_absent_is_refused(recorder: Recorder):
    told = f"record: {recorder.uri}: no run absent; the same command continues"
    with pytest.raises(Refused) as caught:
        recorder.read_outcome("absent")
    assert str(caught.value) == told


def test_a_run_deleted_between_two_queries_is_left_out(recorder: Recorder, tiny: Config):
    run_ids = write_study(recorder, tiny, "s", 3)
    deleted = []

    def delete(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("SELECT tags") and not deleted:
            deleted.append(run_ids[0])
            recorder.client.delete_run(run_ids[0])

    event.listen(recorder.reader.engine, "before_cursor_execute", delete)
    trials = recorder.list_trials("s")
    assert deleted
    assert [trial.run_id for trial in trials] == run_ids[1:]


def test_a_file_that_lacks_tables_is_left_to_mlflow(tmp_path: Path):
    opened = set()
    for table in database.TABLES:
        path = tmp_path / f"{table.name}.db"
        copy_empty_record(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"DROP TABLE {table.name}")
        # Of some tables MLflow makes its oldest form, which it then cannot use; that is told.
        with suppress(EnvironmentFault):
            assert Record(f"sqlite:///{path}").list_studies() == []
            opened.add(table.name)
    assert opened >= {"runs", "tags"}
    (tmp_path / "empty.db").touch()
    assert Record(f"sqlite:///{tmp_path}/empty.db").list_studies() == []


def test_a_file_that_is_no_database_is_told(tmp_path: Path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(EnvironmentFault, match="file is not a database"):
        Record(f"sqlite:///{path}")


def test_a_record_of_another_mlflow_is_read_and_not_written(tmp_path: Path):
    recorder = fresh_record(tmp_path)
    with closing(sqlite3.connect(tmp_path / "record.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of the future'")
    # A process of its own, because MLflow keeps the store of an address that it has opened.
    code = "import sys; from avsc_core.record.{} import {} as R; R(sys.argv[1]).list_studies()"
    for words, refused in ((("reading.record", "Record"), False), (("recorder", "Recorder"), True)):
        command = [sys.executable, "-c", code.format(*words), recorder.uri]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode != 0) == refused, done.stderr
        assert ("out-of-date database schema" in done.stderr) == refused


def test_a_locked_file_is_waited_for(tmp_path: Path):
    """Longer than the five seconds of Python's own module."""
    recorder = fresh_record(tmp_path)
    with ThreadPoolExecutor() as pool:
        with locked(tmp_path / "record.db"):
            reading = pool.submit(recorder.read_lease, "s")
            time.sleep(6)
            assert not reading.done()
        assert reading.result() == ""


@pytest.mark.parametrize(
    "write",
    [
        lambda recorder, run_id, config: recorder.log_epoch(run_id, 1, {"val_acc": 0.5}),
        lambda recorder, run_id, config: recorder.end_run(run_id, "failed", {}),
        lambda recorder, run_id, config: recorder.delete_run(run_id),
        lambda recorder, run_id, config: recorder.resume_run(run_id),
        lambda recorder, run_id, config: recorder.begin_run("s", config, TAGS),
    ],
)
def test_trials_are_read_once_until_something_is_written(
    recorder: Recorder, tiny: Config, write: Callable[[Recorder, str, Config], object]
):
    run_id = recorder.begin_run("s", tiny, TAGS)
    queries = []
    event.listen(
        recorder.reader.engine, "before_cursor_execute", lambda *args: queries.append(args)
    )
    first = recorder.list_trials("s")
    count = len(queries)
    first.clear()  # what a caller does to its list is its own
    assert len(recorder.list_trials("s")) == 1
    assert len(queries) == count

    write(recorder, run_id, tiny)
    assert repr(recorder.list_trials("s")) == repr(Recorder(recorder.uri).list_trials("s"))
    assert len(queries) > count


def test_more_trials_cost_no_more_queries(recorder: Recorder, tiny: Config):
    queries = []
    event.listen(
        recorder.reader.engine, "before_cursor_execute", lambda *args: queries.append(args)
    )
    counts = []
    for trials in (1, 20):
        run_ids = write_study(recorder, tiny, f"study {trials}", trials)
        queries.clear()
        recorder.list_trials(f"study {trials}")
        recorder.read_histories(run_ids, "val_acc")
        counts.append(len(queries))
    assert counts == [6, 6]


def test_what_mlflow_does_not_take_at_once_goes_in_several_calls(recorder: Recorder, tiny: Config):
    tags = TAGS | {f"tag {number}": "x" for number in range(130)}
    run_id = recorder.begin_run("s", tiny, tags)
    params = {f"param {number}": number for number in range(250)}
    metrics = {f"metric {number}": float(number) for number in range(2_500)}
    recorder._write(run_id, metrics=metrics, params=params, tags=tags)

    data = recorder.client.get_run(run_id).data
    assert data.metrics == metrics
    assert {name: int(data.params[name]) for name in params} == params
    assert tags.items() <= data.tags.items()


def test_tags_are_written_with_the_last_params(
    recorder: Recorder, tiny: Config, monkeypatch: pytest.MonkeyPatch
):
    """A run that is cut off between two calls has no `avsc.kind`, so nobody counts it."""
    run_id = recorder.begin_run("s", tiny, TAGS)
    log_batch = recorder.client.log_batch
    calls = []
    monkeypatch.setattr(
        recorder.client, "log_batch", lambda *args: calls.append(args) or log_batch(*args)
    )
    recorder._write(run_id, params={str(number): 0 for number in range(150)}, tags={"last": "x"})
    assert [(len(params), len(tags)) for _, _, params, tags in calls] == [(100, 0), (50, 1)]


def test_a_database_that_fails_is_told_in_one_line(recorder: Recorder, tmp_path: Path):
    recorder.list_trials("s")
    (tmp_path / "record.db").write_bytes(b"no database any more" * 1000)
    with pytest.raises(EnvironmentFault, match="the same command continues") as caught:
        recorder.read_histories(["a"], "val_acc")
    assert str(caught.value).startswith(f"record: {recorder.uri}: ")
