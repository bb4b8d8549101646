"""Trainings that other studies have finished are taken over: real studies, run by the command."""

from pathlib import Path

import numpy as np
import pytest

from avsc_core.record.recipe import compute_recipe
from avsc_core.record.trials import TrialRecord
from studies.report.export import trial_frame
from studies.runner.takeover import find_elsewhere
from studies.study.plan import make_plan
from studies.study.reading import read_study
from tests.builders.places import Place
from tests.builders.records import fresh_record
from tests.builders.reports import complete, make_dataset, record_study
from tests.builders.studies import read

FIRST = "question: q\nsource: Table I\narms: [{name: a}, {name: b, set: {fusion.kind: none}}]\n"
SECOND = "question: q\nsource: Table II\narms: [{name: c}, {name: d, set: {alignment.k: 2}}]\n"
GRID = """\
question: q
search: {space: {alignment.k: [2, 3, 5]}, sampler: brute_force, scheduler: none}
"""
BOTH = "question: q\ntables: [first, second]\n"


class Studies:
    """A place where studies run one after another in one record."""

    told: str  # by the second study

    def __init__(self, folder: Path, scenes: Path) -> None:
        self.place = Place(folder, scenes)
        for name, text in {"first": FIRST, "second": SECOND, "grid": GRID, "both": BOTH}.items():
            (folder / f"{name}.yaml").write_text(text)

    def run(self, name: str, *options: str) -> str:
        """Run a study; return what it told on standard error."""
        _, err = self.place.run(
            "avsc-search", "run", f"{name}.yaml", *self.place.run_study[3:], *options
        )
        return err

    def trials(self, name: str) -> dict[str, TrialRecord]:
        """Read the trials of a study by arm."""
        return {trial.arm: trial for trial in self.place.trials(name)}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Studies:
    """The first study has run; the second had one training in common with it, and has run too."""
    studies = Studies(tmp_path_factory.mktemp("studies"), scenes)
    studies.run("first")
    studies.told = studies.run("second")
    return studies


def test_a_finished_training_of_another_study_is_taken_over(studies: Studies):
    told = studies.told
    assert (
        "note: 1 of 2 trials are taken over from other studies: 1 of study first; "
        "--again trains them"
    ) in told
    assert "1, " in told.split("what it costs")[1].split("trials")[1]  # the card counts the rest
    (source, _), (copy, trained) = (
        studies.trials("first").values(),
        studies.trials("second").values(),
    )
    recorder = studies.place.recorder

    # Everything of the training is in the copy, which says where it is from.
    assert (copy.arm, copy.outcome, copy.key) == ("c", "complete", source.key)
    assert copy.metrics == source.metrics
    assert copy.config == source.config
    assert copy.run_id != source.run_id
    for metric in source.metrics:
        history = recorder.read_history(source.run_id, metric)
        assert recorder.read_history(copy.run_id, metric) == history
    for name in ("predictions_val.tsv", "confusion_val.tsv"):
        assert recorder.read_lines(copy.run_id, name) == recorder.read_lines(source.run_id, name)
    run = recorder.client.get_run(copy.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == recorder.client.get_run(source.run_id).data.params
    assert copy.tags["avsc.taken_from"] == source.run_id
    assert source.run_id in copy.tags["mlflow.note.content"]
    assert copy.tags["mlflow.parentRunId"] == recorder.get_study("second").run_id

    # The other one was trained.
    assert trained.taken_from == ""
    assert trained.tags["avsc.recipe"] == source.tags["avsc.recipe"] == compute_recipe()


def test_a_copy_is_a_trial_like_any_other(studies: Studies):
    assert "2 trials, 2 of them in the record already" in studies.run("second")
    frame = trial_frame(studies.place.recorder, "second")
    assert np.isfinite(frame["best_val_acc"]).all()
    out, _ = studies.place.call("avsc-search", "report", "second")
    said = " ".join(out.split())
    source = studies.trials("first")["a"]
    assert "1 of study first" in said
    assert f"run {source.run_id} of study first" in "".join(said.split("│")).replace("  ", " ")
    trained = studies.trials("second")["d"].metrics["seconds"]
    assert f"{trained:.0f}" in said  # the time is of the trial that was trained


def test_nothing_is_left_to_train_when_others_have_all(studies: Studies):
    told = studies.run("both")
    assert "both on" in told
    assert "3 of 3 trials are taken over" in told
    assert "what it costs" not in told
    trials = studies.trials("both")
    assert set(trials) == {"Table I: a = Table II: c", "Table I: b", "Table II: d"}
    assert {trial.taken_from for trial in trials.values()} == {"first", "second"}
    study = studies.place.recorder.get_study("both")
    assert study.tags["avsc.outcome"] == "complete"
    out, _ = studies.place.call("avsc-search", "report", "both")
    assert "Table I: Results" in out


@pytest.mark.slow
def test_searched_trials_are_taken_over_when_they_are_suggested(studies: Studies):
    told = studies.run("grid")
    assert "taken over from first" in told
    assert "taken over from second" in told
    trials = studies.place.trials("grid")
    assert [trial.role for trial in trials] == ["search"] * 3
    # The second point, which no other study has, was trained.
    assert [trial.taken_from for trial in trials] == ["second", "", "first"]
    out, _ = studies.place.call("avsc-search", "best", "grid")
    assert "alignment.k=" in out


def test_again_trains_them(studies: Studies):
    before = studies.trials("second")
    plan = ("avsc-search", "plan", "second.yaml", *studies.place.run_study[3:], "--again")
    out, _ = studies.place.call(*plan)
    assert "1 of 2 trials are in the record already" in out
    told = studies.run("second", "--again")
    assert "taken over" not in told
    after = studies.trials("second")
    assert len(studies.place.trials("second")) == 2
    assert after["d"].run_id == before["d"].run_id
    assert after["c"].run_id != before["c"].run_id
    assert after["c"].taken_from == ""
    figures = ("best_val_acc", "best_val_logloss")
    for figure in figures:  # the same training on the same machine
        assert after["c"].metrics[figure] == pytest.approx(before["c"].metrics[figure], abs=1e-6)


def test_other_code_other_metric_or_other_data_are_other_trainings(
    studies: Studies, tmp_path: Path
):
    plan = ("avsc-search", "plan", "first.yaml", *studies.place.run_study[3:], "--name", "third")
    _, err = studies.place.call(*plan)
    assert "2 of 2 trials are taken over" in err
    _, err = studies.place.call(*plan, "--set", "metric=val_logloss")
    assert "taken over" not in err

    other = tmp_path / "other"
    studies.place.call(
        "avsc-core", "demo-data", str(other), "--clips-per-scene", "3", "--seed", "9"
    )
    _, err = studies.place.call(*plan, "--data", str(other))
    assert "taken over" not in err

    recorder = studies.place.recorder
    for trial in studies.trials("first").values():
        recorder.client.set_tag(trial.run_id, "avsc.recipe", "that of other code")
    _, err = studies.place.call(*plan)
    assert "1 of 2 trials are taken over from other studies: 1 of study second" in err


def test_only_the_same_data_and_choice_of_the_epoch_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    recorder = fresh_record(tmp_path)
    data = make_dataset(embedded=True)
    (tmp_path / "earlier.yaml").write_text(FIRST)
    record_study(recorder, make_plan(read_study(tmp_path / "earlier.yaml")), data, complete)
    run = recorder.find_study("earlier")
    assert run is not None

    plan = make_plan(read(tmp_path, FIRST))
    found = find_elsewhere(plan, data, recorder)
    assert set(found) == {trial.key for trial in plan.trials}
    assert {training.study for training in found.values()} == {"earlier"}
    # Figures of embedded scenes are not those of real data, whatever the hashes say.
    assert find_elsewhere(plan, make_dataset(embedded=False), recorder) == {}
    by_logloss = make_plan(read(tmp_path, FIRST, sets=["metric=val_logloss"]))
    assert find_elsewhere(by_logloss, data, recorder) == {}
    by_both = make_plan(read(tmp_path, FIRST, sets=["metric=[val_acc, val_logloss]"]))
    assert set(find_elsewhere(by_both, data, recorder)) == set(found)  # the first one decides

    # A study never takes from itself, nor from one that selects epochs by another rule.
    itself = make_plan(read(tmp_path, FIRST, name="earlier"))
    assert find_elsewhere(itself, data, recorder) == {}
    document = recorder.read_study_document(run.run_id)
    document["definition"]["select"] = "a rule of its own"
    recorder.write_study_document(run.run_id, document)
    assert find_elsewhere(plan, data, recorder) == {}
