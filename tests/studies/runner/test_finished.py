"""A finished study is recognised by the record alone, and what is left is left to the usual way."""

from collections.abc import Callable
from pathlib import Path

import pytest

from avsc_core.data.features import open_data
from avsc_core.processes import no_progress
from avsc_core.record.address import locate_checkpoint, locate_state
from avsc_core.record.reading.record import COPY
from avsc_core.record.recorder import Recorder
from studies.runner.finished import find_finished
from studies.runner.prepare import make_served_plan
from studies.study.schema import Study
from tests.builders.records import fresh_record
from tests.builders.reports import record_study
from tests.builders.studies import read

TEXT = "question: q\nseeds: [0]\narms: [{name: one}, {name: two, set: {alignment.k: 3}}]\n"

# What a study may have left behind, or what may have happened to it: name -> what does that.
Change = Callable[[Recorder, str], object]  # the record, and the id of the study's run


def write_into(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")


def first(recorder: Recorder) -> str:
    return recorder.list_trials("study")[0].run_id


CHANGES: dict[str, Change] = {
    "the study runs": lambda record, run: record.client.update_run(run, status="RUNNING"),
    "the study was cut off": lambda record, run: record.client.set_tag(
        run, "avsc.outcome", "interrupted"
    ),
    "a process has the lease": lambda record, run: record.write_lease("study", "{}"),
    "a trial runs": lambda record, run: record.resume_run(first(record)),
    "a trial has an outcome and no status": lambda record, run: record.client.update_run(
        first(record), status="RUNNING"
    ),
    "a trial failed": lambda record, run: record.end_run(first(record), "failed", {}),
    "a trial is missing": lambda record, run: record.delete_run(first(record)),
    "a copy is not whole": lambda record, run: record.client.set_tag(
        first(record), "avsc.kind", COPY
    ),
    "a write waits on disk": lambda record, run: write_into(
        locate_state(record.uri) / "spool/study", "0.jsonl"
    ),
    "a checkpoint stayed": lambda record, run: write_into(
        locate_checkpoint(record.uri, "study", "").parent, "a.pt"
    ),
    "the clips are lost": lambda record, run: Path(
        record.fetch_artifact(run, "clips_val.tsv")
    ).unlink(),
    "the definition has no tags": lambda record, run: record.client.delete_tag(
        run, "avsc.definition.parts"
    ),
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return read(tmp_path, TEXT)


@pytest.fixture
def recorder(tmp_path: Path, study: Study) -> Recorder:
    """Return a record of the finished study."""
    recorder = fresh_record(tmp_path)
    data = open_data(None, no_progress)
    record_study(recorder, make_served_plan(study, data), data)
    return recorder


def test_a_finished_study_is_recognised(
    study: Study, recorder: Recorder, capsys: pytest.CaptureFixture[str]
):
    found = find_finished(study, None, recorder.uri, no_progress)
    assert found is not None
    assert len(found.list_trials(study.name)) == 2
    assert "2 trials, 2 of them in the record already" in capsys.readouterr().err


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_left_takes_the_usual_way(study: Study, recorder: Recorder, name: str):
    CHANGES[name](recorder, recorder.get_study(study.name).run_id)
    assert find_finished(study, None, recorder.uri, no_progress) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("question: q", "question: other words"),
        ("{name: one}", "{name: one, note: a new note}"),
        ("seeds: [0]", "seeds: [0, 1]"),
        ("seeds: [0]", "seeds: {until: told, at most: 5}"),
    ],
)
def test_a_changed_file_takes_the_usual_way(tmp_path: Path, recorder: Recorder, old: str, new: str):
    changed = read(tmp_path, TEXT.replace(old, new))
    assert find_finished(changed, None, recorder.uri, no_progress) is None


def test_what_is_no_file_takes_the_usual_way(tmp_path: Path, study: Study):
    absent = tmp_path / "absent.db"
    assert find_finished(study, None, f"sqlite:///{absent}", no_progress) is None
    assert not absent.exists()
    assert find_finished(study, None, "http://127.0.0.1:1", no_progress) is None
