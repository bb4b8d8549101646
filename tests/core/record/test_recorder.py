"""The record: what is written is what is read.

Unfinished runs are found again, and models by every name.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from avsc_core.config import Config
from avsc_core.errors import EnvironmentFault, UserError
from avsc_core.record.reading.record import open_record
from avsc_core.record.reading.server import ServerReader
from avsc_core.record.recipe import MIXED_RECIPE, compute_recipe
from avsc_core.record.recorder import Recorder
from avsc_core.record.study_document import FORMAT
from avsc_core.record.trials import CHEAP_RUNG, OUTCOMES, name_run
from avsc_core.resolve import parse_set, resolve, trial_key
from studies.runner.prepare import check_same_question, check_warm_start
from tests.builders.names import check_longest_names
from tests.builders.records import fresh_record
from tests.builders.studies import read

CROSSFIT = {"format": FORMAT, "definition": {"select": "crossfit"}}
TAGS = {
    "avsc.kind": "trial",
    "avsc.study": "s",
    "avsc.arm": "row 1",
    "avsc.data": "d",
    "avsc.data_fingerprint": "f",
}


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return fresh_record(tmp_path)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_trial_is_read_as_it_was_written(recorder: Recorder):
    config = resolve(
        "demo", parse_set(["training.learning_rate=1e-5", "alignment.mode=rkm", "seed=3"])
    )
    run_id = recorder.begin_run("s", config, TAGS, "parent")
    recorder.log_epoch(run_id, 1, {"train_total": 2.0, "val_acc": 0.5})
    recorder.log_epoch(run_id, 2, {"train_total": 1.0, "val_acc": 0.7})
    recorder.end_run(run_id, "complete", {"best_val_acc": 0.7})
    (trial,) = recorder.list_trials("s")
    assert (trial.config, trial.key, trial.seed) == (config, trial_key(config), 3)
    assert (trial.outcome, trial.metrics["best_val_acc"]) == ("complete", 0.7)
    assert recorder.read_history(run_id, "val_acc") == [(1, 0.5), (2, 0.7)]
    run = recorder.client.get_run(run_id)
    assert run.data.tags["mlflow.parentRunId"] == "parent"
    assert run.data.params["loss_weights.e2o"] == "1.0"
    assert run.data.params["visual.dims"] == "[16, 32, 64, 64]"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_its_status(recorder: Recorder, tiny: Config, outcome: str):
    run_id = recorder.begin_run("s", tiny, TAGS)
    assert recorder.client.get_run(run_id).info.status == "RUNNING"
    recorder.end_run(run_id, outcome, {})
    assert recorder.client.get_run(run_id).info.status == OUTCOMES[outcome]
    assert recorder.list_trials("s")[0].outcome == outcome


def test_an_interrupted_run_goes_on(recorder: Recorder, tiny: Config):
    run_id = recorder.begin_run("s", tiny, TAGS)
    recorder.log_epoch(run_id, 1, {"train_total": 2.0})
    recorder.end_run(run_id, "interrupted", {})
    recorder.resume_run(run_id)
    assert recorder.client.get_run(run_id).info.status == "RUNNING"
    assert recorder.list_trials("s")[0].outcome == "running"


def test_a_run_cut_off_before_its_params_counts_for_nothing(recorder: Recorder):
    recorder.client.create_run(recorder.open_experiment("s"), run_name="orphan")
    assert recorder.list_trials("s") == []


def test_a_study_is_one_run(recorder: Recorder):
    first = recorder.open_study_run("s", {"avsc.metric": "val_acc"}, {"metric": "val_acc"})
    recorder.end_run(first, "complete", {})
    assert (
        recorder.open_study_run("s", {"avsc.metric": "val_acc"}, {"metric": "val_acc", "more": 1})
        == first
    )
    assert recorder.read_definition(first) == {"metric": "val_acc", "more": 1}
    assert recorder.get_study("s").run_id == first
    assert (
        recorder.get_study("s").tags["avsc.outcome"] == "running"
    )  # complete it was until it went on
    second = recorder.open_study_run("t", {"avsc.metric": "val_acc"}, {})
    assert recorder.get_study(None).run_id == second
    with pytest.raises(UserError, match="no study 'u' in the record; one of s, t"):
        recorder.get_study("u")


def test_more_runs_than_a_page(recorder: Recorder, tiny: Config, monkeypatch: pytest.MonkeyPatch):
    """search_runs gives a page at a time; a small page stands for 1,000 runs."""
    recorder.reader = ServerReader(recorder.client)
    for seed in range(5):
        recorder.begin_run("s", tiny.model_copy(update={"seed": seed}), TAGS)
    search = recorder.client.search_runs
    monkeypatch.setattr(
        recorder.client,
        "search_runs",
        lambda *args, **kwargs: search(*args, max_results=2, **kwargs),
    )
    assert [trial.seed for trial in recorder.list_trials("s")] == [0, 1, 2, 3, 4]


def test_finished_trainings_of_all_studies_cost_one_search(
    recorder: Recorder, tiny: Config, monkeypatch: pytest.MonkeyPatch
):
    recipe = compute_recipe()
    wanted = []
    for study in ("s", "t"):
        for seed in range(3):
            config = tiny.model_copy(update={"seed": seed})
            run_id = recorder.begin_run(study, config, TAGS | {"avsc.study": study})
            recorder.end_run(run_id, "complete" if seed else "stopped", {})
            if seed:
                wanted.append((run_id, study, trial_key(config)))
    other_data = recorder.begin_run("s", tiny, TAGS | {"avsc.data_fingerprint": "g"})
    cheap = recorder.begin_run("s", tiny, TAGS | {"avsc.rung": CHEAP_RUNG})
    for run_id in (other_data, cheap):
        recorder.end_run(run_id, "complete", {})

    recorder.reader = ServerReader(recorder.client)
    search = recorder.client.search_runs
    calls = []
    monkeypatch.setattr(
        recorder.client,
        "search_runs",
        lambda *args, **kwargs: calls.append(args) or search(*args, **kwargs),
    )
    found = recorder.list_finished_trainings("f", recipe)
    assert sorted(training[:3] for training in found) == sorted(wanted)
    assert len(calls) == 1
    assert recorder.list_finished_trainings("f", "of other code") == []


def test_a_trial_that_continues_with_other_code_is_of_no_recipe(recorder: Recorder, tiny: Config):
    run_id = recorder.begin_run("s", tiny, TAGS)
    recorder.resume_run(run_id)
    assert recorder.list_trials("s")[0].tags["avsc.recipe"] == compute_recipe()
    recorder.client.set_tag(run_id, "avsc.recipe", "of other code")
    recorder.resume_run(run_id)
    assert recorder.list_trials("s")[0].tags["avsc.recipe"] == MIXED_RECIPE


def test_a_copy_that_was_cut_off_counts_for_nothing(
    recorder: Recorder, tiny: Config, monkeypatch: pytest.MonkeyPatch
):
    run_id = recorder.begin_run("s", tiny, TAGS)
    for epoch in range(1, 4):
        recorder.log_epoch(run_id, epoch, {"train_total": 1.0 / epoch})
    recorder.log_text(run_id, "predictions_val.tsv", "text")
    recorder.end_run(run_id, "complete", {"best_val_acc": 0.7})
    (source,) = recorder.list_finished_trainings("f", compute_recipe())
    tags = {**TAGS, "avsc.role": "arm", "avsc.study": "t"}

    def cut_off(*args: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(recorder.artifacts, "copy", cut_off)
        with pytest.raises(RuntimeError, match="killed"):
            recorder.take_over_run(source, "t", tags, "parent")
    assert recorder.list_trials("t") == []

    monkeypatch.setattr("avsc_core.record.recorder.MOST_METRICS", 2)  # a call holds two points
    copy = recorder.take_over_run(source, "t", tags, "parent")
    (trial,) = recorder.list_trials("t")
    assert (trial.run_id, trial.taken_from) == (copy, "s")
    assert recorder.read_history(copy, "train_total") == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]
    assert trial.metrics["best_val_acc"] == 0.7
    assert recorder.read_lines(copy, "predictions_val.tsv") == ["text"]
    # A copy is no source: the link leads to where the training was run.
    assert recorder.list_finished_trainings("f", compute_recipe()) == [source]


def test_a_store_that_does_not_answer():
    with pytest.raises(
        UserError, match=r"^--tracking-uri: sqlite:////proc/none/x\.db does not answer"
    ) as caught:
        Recorder("sqlite:////proc/none/x.db")
    assert caught.value.exit_code == 4


def test_a_study_cut_off_before_its_definition_is_not_locked(
    recorder: Recorder, tiny: Config, tmp_path: Path
):
    study = read(tmp_path, "question: q\narms: [{name: one}]\n")
    tags = {"avsc.kind": "study", "avsc.study": study.name}
    recorder.client.create_run(recorder.open_experiment(study.name), tags=tags)
    check_same_question(recorder, study, {"metric": "val_acc"}, [])
    recorder.begin_run(study.name, tiny, TAGS)
    trials = recorder.list_trials(study.name)
    with pytest.raises(UserError, match="metric: nothing, now val_acc"):
        check_same_question(recorder, study, {"metric": "val_acc"}, trials)


def test_whatever_call_fails_is_told_in_one_line(
    recorder: Recorder, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_id = recorder.begin_run("s", tiny, TAGS)

    def fail(*args: object, **kwargs: object) -> None:
        raise MlflowException("(sqlite3.OperationalError)\ndatabase or disk is full")

    recorder.reader = ServerReader(recorder.client)
    for name in dir(type(recorder.client)):
        if not name.startswith("_") and callable(getattr(recorder.client, name)):
            monkeypatch.setattr(recorder.client, name, fail)
    for call in (
        lambda: recorder.list_studies(),
        lambda: recorder.open_study_run("s", {}, {}),
        lambda: recorder.begin_run("s", tiny, TAGS),
        lambda: recorder.resume_run(run_id),
        lambda: recorder.read_history(run_id, "val_acc"),
        lambda: recorder.end_run(run_id, "complete", {}),
        lambda: recorder.log_folder(run_id, tmp_path, "model"),
        lambda: recorder.register_model(run_id, "source", "name", "best"),
        lambda: recorder.read_json(run_id, "study.json"),
    ):
        with pytest.raises(EnvironmentFault) as caught:
            call()
        told = "(sqlite3.OperationalError) database or disk is full; the same command continues"
        assert str(caught.value) == f"record: {recorder.uri}: {told}"
    with pytest.raises(EnvironmentFault, match=r"^record: "):
        recorder.fetch_artifact("absent", "model")


@pytest.mark.parametrize("path", ["/data/a #1/x.pth", "/data/a: b/x.pth", "/data/- x"])
def test_a_path_of_weights_is_read_as_it_was_written(
    recorder: Recorder, tiny: Config, path: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("avsc_core.resolve.hash_source", lambda source: "0" * 64)
    config = tiny.model_copy(update={"audio": tiny.audio.model_copy(update={"weights": path})})
    recorder.begin_run("s", config, TAGS)
    assert recorder.list_trials("s")[0].config.audio.weights == path


def test_a_warm_start_from_no_study_is_told_with_its_line(recorder: Recorder, tmp_path: Path):
    text = "question: q\nsearch:\n  space: {alignment.k: }\n  warm_start: lamda\n"
    study = read(tmp_path, text)
    recorder.open_study_run("lambda", {}, CROSSFIT)
    with pytest.raises(UserError) as caught:
        check_warm_start(recorder, study)
    assert (
        str(caught.value)
        == f"{study.path}:4: no study 'lamda' in the record; did you mean 'lambda'?"
    )
    check_warm_start(recorder, read(tmp_path, text.replace("lamda", "lambda")))


def test_a_warm_start_from_a_study_of_another_metric_is_refused(recorder: Recorder, tmp_path: Path):
    """The best epoch of its trials is that by another metric."""
    text = "question: q\nmetric: METRIC\nsearch:\n  space: {alignment.k: }\n  warm_start: lambda\n"
    text += "  scheduler: none\n"
    recorder.open_study_run("lambda", {"avsc.metric": "val_acc"}, CROSSFIT)
    study = read(tmp_path, text.replace("METRIC", "val_logloss"))
    with pytest.raises(UserError) as caught:
        check_warm_start(recorder, study)
    assert str(caught.value) == (
        f"{study.path}:5: study lambda is decided by val_acc, this one by val_logloss;"
        " set the same metric, or leave warm_start out"
    )
    check_warm_start(recorder, read(tmp_path, text.replace("METRIC", "val_acc")))
    check_warm_start(recorder, read(tmp_path, text.replace("METRIC", "[val_acc, val_logloss]")))


def test_a_warm_start_from_a_study_of_another_rule_is_refused(recorder: Recorder, tmp_path: Path):
    text = "question: q\nsearch:\n  space: {alignment.k: }\n  warm_start: lambda\n"
    recorder.open_study_run("lambda", {"avsc.metric": "val_acc"}, {})  # of a version without rules
    study = read(tmp_path, text)
    with pytest.raises(UserError) as caught:
        check_warm_start(recorder, study)
    assert str(caught.value) == (
        f"{study.path}:4: study lambda selects best, this one crossfit;"
        " set select: best, or leave warm_start out"
    )
    check_warm_start(recorder, read(tmp_path, f"{text}select: best\n"))

    # A study that such a version began goes on with the best epoch, as that one did.
    earlier = {"definition": {"metric": "val_acc", "seeds": [0]}}
    recorder.open_study_run(study.name, {"avsc.metric": "val_acc"}, earlier)
    check_warm_start(recorder, study)


def test_looking_for_a_record_does_not_make_it(tmp_path: Path):
    with pytest.raises(
        UserError,
        match=r"^mlruns/mlflow.db: no record in this folder; run a study first, or give --track",
    ):
        open_record(None)
    assert list(tmp_path.iterdir()) == []
    assert Recorder().uri == open_record(None).uri


def test_a_definition_of_any_size_does_not_depend_on_an_artifact(recorder: Recorder):
    mu = "\N{GREEK SMALL LETTER MU}"
    definition = {"base": {f"setting {number}": mu for number in range(900)}}
    document = {"format": FORMAT, "definition": definition}
    run_id = recorder.open_study_run("s", {}, document)
    assert recorder.read_study_document(run_id) == document
    file = Path(recorder.fetch_artifact(run_id, "study.json"))
    file.unlink()
    assert recorder.read_definition(run_id) == definition

    # What cannot be done without the file says where it is missing.
    with pytest.raises(EnvironmentFault) as caught:
        recorder.read_study_document(run_id)
    told = f"{file}: a file of the record {recorder.uri} is missing; copy it there from where it is"
    assert str(caught.value) == told

    # A shorter one leaves nothing of the longer one behind.
    recorder.write_study_document(run_id, {"format": FORMAT, "definition": {"a": 1}})
    assert recorder.read_definition(run_id) == {"a": 1}


@pytest.mark.parametrize(
    ("outcomes", "counted"),
    [
        (("complete", "complete"), 0),
        (("stopped", "complete"), 1),
        (("interrupted", "stopped", "running"), 1),
        (("interrupted", "running"), 0),
    ],
)
def test_of_several_runs_of_a_trial_one_counts(
    recorder: Recorder,
    tiny: Config,
    outcomes: tuple[str, ...],
    counted: int,
    capsys: pytest.CaptureFixture[str],
):
    """Records in which two processes trained one study have such trials."""
    runs = []
    for outcome in outcomes:
        runs.append(recorder.begin_run("s", tiny, TAGS))
        if outcome != "running":
            recorder.end_run(runs[-1], outcome, {})
    expected = runs.pop(counted)
    for _ in range(2):  # the others are named once
        (trial,) = recorder.list_trials("s")
        assert trial.run_id == expected
    key = trial_key(tiny)[:6]
    notes = capsys.readouterr().err.splitlines()
    assert sorted(notes) == sorted(
        f"note: trial {key} of study s has another run; run {run} does not count" for run in runs
    )


def test_trainings_of_a_winner_are_no_duplicates(recorder: Recorder, tiny: Config):
    for _ in range(2):
        recorder.begin_run("s", tiny, TAGS | {"avsc.kind": "training"})
    assert len(recorder.list_trials("s", "training")) == 2


def test_two_writers_at_once(recorder: Recorder, tiny: Config):
    """SQLite takes one writer at a time; the other one waits."""
    run_ids = [recorder.begin_run("s", tiny, TAGS) for _ in range(2)]
    code = (
        "import sys; from avsc_core.record.recorder import Recorder; r = Recorder(sys.argv[1]);"
        "[r.log_epoch(sys.argv[2], n, {'a': n, 'b': n}) for n in range(1, 101)]"
    )
    command = [sys.executable, "-c", code, recorder.uri]
    writers = [subprocess.Popen([*command, run_id]) for run_id in run_ids]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    for run_id in run_ids:
        assert recorder.read_history(run_id, "b") == [(n, float(n)) for n in range(1, 101)]


def test_the_longest_names_are_read_as_they_were_written(recorder: Recorder):
    """A server before PostgreSQL is stricter (tests/end_to_end/test_machines.py)."""
    check_longest_names(recorder)


def test_a_run_has_a_name_that_every_database_holds():
    assert name_run("no SF", "0123456789abcdef") == "no SF 012345"
    assert name_run("é" * 243, "0123456789abcdef") == "é" * 243 + " 012345"
    assert name_run("é" * 244, "0123456789abcdef") == "é" * 242 + "… 012345"
