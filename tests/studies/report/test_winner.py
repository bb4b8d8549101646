"""The best configuration of a study is the same for every command (avsc_core/record/winner.py).

In the example, arm A has 0.80 with every seed, arm B has 0.70 twice and 0.825 with the last one.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from avsc_core.data.dataset import DataSet
from avsc_core.record.recorder import Recorder
from avsc_core.record.winner import find_pinned_winner, find_winner, pick_best
from studies.report.build import build_report
from studies.report.status import print_closing
from studies.report.study_results import StudyResults
from studies.study.plan import Plan, PlannedTrial, make_plan
from studies.study.reading import read_study
from studies.study.schema import Study
from tests.builders.commands import RECORD, run
from tests.builders.configs import TINY
from tests.builders.records import copy_empty_record, open_record_in
from tests.builders.reports import SCENES, complete, make_dataset, record_study, table
from tests.builders.trials import drain, record

EXAMPLE = """\
question: A or B?
base: {split.validation: 0.22}
seeds: [0, 1, 2]
arms: [{name: A}, {name: B, set: {fusion.kind: none}}]
"""
ACC = {"A": (0.8, 0.8, 0.8), "B": (0.7, 0.7, 0.825)}
EPOCHS = {"A": (1, 2, 2), "B": (3, 3, 3)}


def predict(trial: PlannedTrial, scenes: np.ndarray) -> np.ndarray:
    """Decide as many of 120 clips rightly as the example says."""
    right = round(ACC[trial.arm][trial.seed] * len(scenes))
    decided = np.where(np.arange(len(scenes)) < right, scenes, (scenes + 1) % len(SCENES))
    return 0.05 + 0.5 * np.eye(len(SCENES))[decided]


def plant(trial: PlannedTrial) -> dict[str, float]:
    """Return the figures of the example, for data whose clips are too few for them."""
    acc = ACC[trial.arm][trial.seed]
    epoch = float(EPOCHS[trial.arm][trial.seed])
    return {"selected_val_acc": acc, "best_val_acc": acc, "selected_epoch": epoch}


def plan_example(folder: Path) -> Plan:
    path = folder / "example.yaml"
    path.write_text(EXAMPLE)
    return make_plan(read_study(path, preset="demo", sets=TINY))


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A record at its usual place in the current folder."""
    copy_empty_record(tmp_path / RECORD)
    monkeypatch.chdir(tmp_path)
    return open_record_in(tmp_path, RECORD)


@pytest.fixture
def study(recorder: Recorder, tmp_path: Path) -> Study:
    """The example, recorded."""
    plan = plan_example(tmp_path)
    record_study(recorder, plan, make_dataset(), complete, predict)
    return plan.study


def test_every_command_says_a(
    recorder: Recorder, study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    winner = find_winner(recorder, "example")
    assert [trial.arm for trial in winner.trials] == ["A", "A", "A"]
    assert [trial.seed for trial in winner.trials] == [0, 1, 2]
    assert winner.trial == winner.trials[0]
    assert winner.figure == "val_acc 0.8000, mean over 3 seeds"

    report = build_report(recorder, "example")
    (words,) = [block for block in report.blocks if block.title == "In short"]
    assert words.lines[0].startswith("Best arm by val Acc: A, 0.8000")
    assert [row["val Acc"] for row in table(report, "results")] == ["0.8000", "0.7417"]

    print_closing(recorder, study, finished=True)
    closing = capsys.readouterr().out
    assert f"best by val_acc: A {winner.trial.key[:6]}, val Acc 0.8000" in closing
    assert "mean over 3 seeds" in closing

    done = run(tmp_path, "avsc-search", "best", "example")
    assert "fusion.kind=semantic" in done.out
    assert "seed=0" in done.out
    assert f"A {winner.trial.key[:6]}: val_acc 0.8000, mean over 3 seeds (" in done.err

    assert run(tmp_path, "avsc-search", "export", "example", "--out", "out").code == 0
    exported = (tmp_path / "out" / "best.yaml").read_text()
    assert "# Best of study example: val_acc 0.8000, mean over 3 seeds on" in exported
    assert yaml.safe_load(exported)["fusion"]["kind"] == "semantic"

    next_file = tmp_path / "next.yaml"
    next_file.write_text("question: q\nbest-of: example\narms: [{name: one}]\n")
    following = read_study(next_file, winner_of=partial(find_pinned_winner, recorder))
    assert following.best_of == ("example", winner.trial.key)
    assert following.base.fusion.kind == "semantic"


def test_train_best_retrains_a(recorder: Recorder, data: DataSet, tmp_path: Path):
    """It runs the rounded mean of the selected epochs, and the report knows the winner again."""
    record_study(recorder, plan_example(tmp_path), data, plant=plant)
    done = run(tmp_path, "avsc-core", "train", "--best", "--data", str(data.root))
    assert done.code == 0, done.err
    (training,) = recorder.list_trials("example", "training")
    assert training.config == find_winner(recorder, "example").trial.config
    assert training.config.fusion.kind == "semantic"
    epochs = [epoch for epoch, _ in recorder.read_history(training.run_id, "train_total")]
    assert epochs == [1, 2]
    assert [is_todays for _, is_todays in StudyResults(recorder, "example").retrainings] == [True]


def test_only_complete_configurations_are_ranked_while_there_are_any(tmp_path: Path):
    plan = plan_example(tmp_path)
    trials = []
    for trial in plan.trials:
        is_missing = trial.arm == "A" and trial.seed == 2
        outcome = "failed" if is_missing else "complete"
        trials.append(record(trial, outcome, ACC[trial.arm][trial.seed]))
    seeds = plan.study.seeds
    assert [trial.arm for trial in pick_best(trials, "val_acc", seeds)] == ["B", "B", "B"]

    # While none is complete, those with the most seeds are; a lucky single seed never wins.
    begun = [trial for trial in trials if trial.seed < 2]
    begun.append(record(plan.trials[0]._replace(seed=2), "stopped", 1.0))
    assert [trial.arm for trial in pick_best(begun, "val_acc", seeds)] == ["A", "A"]
    assert pick_best([], "val_acc", seeds) == ()


def test_the_best_of_a_search_competes_with_every_seed(recorder: Recorder, tmp_path: Path):
    path = tmp_path / "searched.yaml"
    search = "search: {space: {loss_weights.scene: }, trials: 4, sampler: random}\n"
    path.write_text(EXAMPLE + search)
    plan = make_plan(read_study(path))
    record_study(recorder, plan, make_dataset())
    trials = recorder.list_trials("searched")
    repeated = [trial for trial in trials if trial.role == "repeated"]
    assert [(trial.arm, trial.seed) for trial in repeated] == [("search", 1), ("search", 2)]
    assert {trial.name for trial in repeated} == {"best of the search"}

    # It is the best of the searched trials, though the base, an arm, may be better.
    searched = [trial for trial in trials if trial.role == "search"]
    best = max(searched, key=lambda trial: trial.metrics["selected_val_acc"])
    for trial in repeated:
        assert trial.config == best.config.model_copy(update={"seed": trial.seed})
    report = build_report(recorder, "searched")
    assert [row["seeds"] for row in table(report, "results")] == ["3/3", "3/3", "3/3"]
    assert not [block for block in report.tables if block.key == "missing"]


def test_a_search_is_repeated_only_by_studies_that_were_begun_so(tmp_path: Path):
    from dataclasses import replace

    from studies.engine.strategy import Strategy

    path = tmp_path / "s.yaml"
    path.write_text(
        "question: q\nseeds: [0, 1]\n"
        "search: {space: {alignment.k: [3, 4]}, sampler: random, trials: 2}\n"
    )
    plan = make_plan(read_study(path))
    assert [trial.seed for trial in drain(Strategy(plan, []))] == [0, 0, 1]
    earlier = replace(plan, study=replace(plan.study, begun_earlier=True))
    assert [trial.seed for trial in drain(Strategy(earlier, []))] == [0, 0]
