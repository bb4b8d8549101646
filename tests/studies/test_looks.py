"""Studies that add seeds until told (studies/looks.py): what they decide, and what is reported.

Trainings are stood in for by trials with planted effects; tests/end_to_end/test_study.py has real
ones.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from avsc_core.processes import no_progress
from avsc_core.record.recorder import Recorder
from studies import looks
from studies.engine.tune import Ending
from studies.report.build import build_report
from studies.report.estimates import estimate_contrast, estimate_contrasts, state_powers, subtract
from studies.report.study_results import StudyResults
from studies.runner.prepare import take_recorded_seeds
from studies.study.plan import PlannedTrial, make_plan
from studies.study.schema import Study
from tests.builders.records import fresh_record
from tests.builders.reports import Outcome, complete, make_dataset, record_study, table
from tests.builders.studies import MODULES, read

TOLD = """\
question: Which arms differ?
seeds: {until: told, at most: 10}
arms:
  - {name: all}
  - {name: no SF, set: {fusion.kind: none}}
"""
# CEOA is worth nothing.
NOT_TOLD = TOLD.replace("at most: 10", "at most: 5") + (
    "  - {name: no CEOA, set: {alignment.enabled: false}}\n"
)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return fresh_record(tmp_path)


@pytest.fixture
def run(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., list[int]]:
    """Run a study file's text; return how many seeds the study had each time it was trained."""
    monkeypatch.chdir(tmp_path)

    def run_text(text: str, outcome: Outcome = complete, stop: int = 0) -> list[int]:
        counts = []

        def record(study: Study, *_: object, again: bool = False) -> Ending:
            study = take_recorded_seeds(study, recorder)
            counts.append(len(study.seeds))
            if len(study.seeds) == stop:
                raise KeyboardInterrupt
            record_study(recorder, make_plan(study), make_dataset(), outcome)
            return Ending(recorder)

        monkeypatch.setattr(looks, "run_study", record)
        looks.run_with_looks(read(tmp_path, text), None, None, None, no_progress)
        return counts

    return run_text


def read_looks(recorder: Recorder) -> list[looks.Look]:
    run_id = recorder.get_study("study").run_id
    found: list[looks.Look] = recorder.read_study_document(run_id)["looks"]
    return found


def test_seeds_are_added_until_the_difference_is_told(
    run: Callable[..., list[int]], recorder: Recorder, capsys: pytest.CaptureFixture[str]
):
    counts = run(TOLD)
    assert counts == list(range(3, counts[-1] + 1))
    assert 3 < counts[-1] < 10
    *earlier, last = read_looks(recorder)
    assert [look["seeds"] for look in (*earlier, last)] == counts
    assert all(look["open"] == [["no SF", "all"]] for look in earlier)
    assert (last["told"], last["open"]) == ([["no SF", "all"]], [])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "look at 3 seeds: 0 of 1 differences told; seed 3 is added"
    assert lines[-1] == (
        f"look at {counts[-1]} seeds: 1 of 1 differences told; no more seeds are needed"
    )

    # The same command finds the same and trains nothing.
    trials = recorder.list_trials("study")
    assert run(TOLD) == counts[-1:]
    assert recorder.list_trials("study") == trials
    assert read_looks(recorder) == [*earlier, last]


def test_the_limit_ends_a_study(
    run: Callable[..., list[int]], recorder: Recorder, capsys: pytest.CaptureFixture[str]
):
    assert run(NOT_TOLD) == [3, 4, 5]
    assert ["no CEOA", "all"] in read_looks(recorder)[-1]["open"]
    assert "the limit is reached" in capsys.readouterr().err
    assert len(recorder.list_trials("study")) == 15


def test_a_killed_study_comes_to_the_same_decisions(
    run: Callable[..., list[int]], recorder: Recorder
):
    run(TOLD)
    at_once = read_looks(recorder)
    with pytest.raises(KeyboardInterrupt):
        run(TOLD.replace("question", "name: other\nquestion"), stop=4)
    counts = run(TOLD.replace("question", "name: other\nquestion"))
    assert counts[0] == 3
    assert counts[-1] == at_once[-1]["seeds"]
    run_id = recorder.get_study("other").run_id
    assert recorder.read_study_document(run_id)["looks"] == at_once


def test_no_seed_is_added_while_trials_fail(run: Callable[..., list[int]], recorder: Recorder):
    def fail_once(trial: PlannedTrial) -> str:
        return "failed" if trial.arm == "no SF" and trial.seed == 1 else "complete"

    def diverge(trial: PlannedTrial) -> str:
        return "diverged" if trial.arm == "no CEOA" else "complete"

    assert run(TOLD, fail_once) == [3]
    assert read_looks(recorder) == []
    # A training that diverges is a result, and stays one.
    counts = run(NOT_TOLD.replace("question", "name: other\nquestion"), diverge)
    assert counts[:2] == [3, 4]
    trials = [trial for trial in recorder.list_trials("other") if trial.arm == "no CEOA"]
    assert [trial.outcome for trial in trials] == ["diverged"] * counts[-1]


def test_the_report_counts_every_look(run: Callable[..., list[int]], recorder: Recorder):
    run(NOT_TOLD)
    results = StudyResults(recorder, "study")
    contrast = subtract(results.arms[2], results.arms[0])
    plain = estimate_contrast(results, contrast, "acc")
    (figure,) = estimate_contrasts(results, [contrast], "acc")
    assert figure.p > plain.p
    assert results.difference_level > 0.95

    report = build_report(recorder, "study")
    rows = table(report, "looks")
    assert [row["seeds"] for row in rows] == ["3", "4", "5"]
    assert rows[-1]["level spent"] == "0.05"
    assert "no CEOA against all" in rows[-1]["open"]
    (comparisons,) = [block for block in report.tables if block.key == "comparisons"]
    assert "p counts all looks" in comparisons.note
    # What such a study tells is by what its last look needs.
    needed = rows[-1]["p needed"]
    assert f"asks of the smallest p at the last look, {needed}." in comparisons.note
    assert float(needed) < 0.05 / 3
    (power, *_) = state_powers(results, [contrast] * 3, "acc")
    assert f"{power.level:.2g}" == needed
    # Whatever is told in the looks is told by the table's p, and nothing else.
    for row in table(report, "comparisons"):
        name = f"{row['arm']} against {row['against']}"
        is_told = float(row["p"].removeprefix("< ")) < 0.05
        assert is_told == (name not in rows[-1]["open"])


def test_seeds_added_by_hand_are_said(recorder: Recorder, tmp_path: Path):
    text = TOLD.replace("{until: told, at most: 10}", "[0, 1]")
    record_study(recorder, make_plan(read(tmp_path, text)), make_dataset(), complete)
    longer = make_plan(read(tmp_path, text, sets=["seeds=[0, 1, 2]"]))
    record_study(recorder, longer, make_dataset(), complete)
    trials = recorder.list_trials("study")
    assert sorted(trial.seed for trial in trials) == [0, 0, 1, 1, 2, 2]
    report = build_report(recorder, "study")
    assert {row["seeds"] for row in table(report, "results")} == {"3/3"}
    (comparisons,) = [block for block in report.tables if block.key == "comparisons"]
    assert "Seeds were added to a study that had 2" in comparisons.note


def test_effects_of_factors_say_how_seeds_were_added(recorder: Recorder, tmp_path: Path):
    for seeds in ("[0, 1]", "[0, 1, 2]"):
        study = read(tmp_path, MODULES, sets=[f"seeds={seeds}"])
        record_study(recorder, make_plan(study), make_dataset(), complete)
    report = build_report(recorder, "study")
    (effects,) = [block for block in report.tables if block.key == "effects"]
    assert "Seeds were added to a study that had 2" in effects.note
