"""What a report shows of the rule that selects epochs (studies/report/sections/results.py)."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avsc_core.metrics import compute_scores
from avsc_core.record.recorder import Recorder
from avsc_core.record.winner import average
from studies.report.build import build_report
from studies.report.sections.reproduction import describe_order
from studies.report.study_results import StudyResults
from studies.study.plan import PlannedTrial, make_plan
from studies.study.reading import read_study
from tests.builders.records import fresh_record
from tests.builders.reports import make_dataset, predict, record_study, table

ARMS = """\
question: q
seeds: [0, 1]
select: {rule}
arms: [{{name: all}}, {{name: no SF, set: {{fusion.kind: none}}}}]
"""


@pytest.mark.parametrize(
    ("options", "who"),
    [
        ({"sampler": "tpe", "scheduler": "asha"}, "tpe and asha"),
        ({"sampler": "gp", "scheduler": "none"}, "gp"),
        ({"sampler": "random", "scheduler": "median"}, "median"),
        ({"sampler": "qmc", "scheduler": "none"}, ""),
        ({}, ""),
    ],
)
def test_where_the_order_of_trials_matters_the_report_says_so(options: dict[str, str], who: str):
    notes = describe_order(SimpleNamespace(search_options=options))
    assert [note.startswith(f"What {who} decides follows from the trials") for note in notes] == (
        [True] if who else []
    )


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    return fresh_record(tmp_path_factory.mktemp("record"))


def predict_three(trial: PlannedTrial, scenes: np.ndarray) -> np.ndarray:
    """Return three epochs that differ, one after another."""
    table = predict(trial, scenes)  # (N,S)
    return np.concatenate([table, np.roll(table, 1, axis=1), np.sqrt(table)])


def test_the_last_three_epochs_are_averaged_clip_by_clip(recorder: Recorder, tmp_path: Path):
    path = tmp_path / "three.yaml"
    path.write_text(ARMS.format(rule="last 3"))
    data = make_dataset()
    record_study(recorder, make_plan(read_study(path)), data, predict=predict_three)

    results = StudyResults(recorder, "three")
    row = results.rows[0]
    tables = results.read_probabilities(row)  # (R,B,N,S)
    assert tables.shape[:3] == (2, 3, len(results.clips.names))
    accs = [compute_scores(each, results.clips.scenes)["acc"] for each in tables.reshape(6, -1, 10)]
    assert average(row.trials.values(), "val_acc") == pytest.approx(np.mean(accs))
    # Intervals come from the predictions, the record's figures from the trial: they agree.
    for cells, name in zip(
        table(build_report(recorder, "three"), "results"), results.rows, strict=True
    ):
        assert cells["val Acc"] == f"{name.mean('val_acc'):.4f}"
        assert cells["val Logloss"] == f"{name.mean('val_logloss'):.4f}"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("crossfit", "each clip at the epoch that is best on the other half of the locations"),
        ("last", "the last epoch"),
        ("best", "the best epoch"),
    ],
)
def test_the_report_says_which_epochs_it_shows(
    recorder: Recorder, tmp_path: Path, rule: str, words: str
):
    path = tmp_path / f"rule-{rule}.yaml"
    path.write_text(ARMS.format(rule=rule))
    data = make_dataset()

    def plant(trial: PlannedTrial) -> dict[str, float]:
        return {"best_val_acc": 0.99}

    record_study(recorder, make_plan(read_study(path)), data, plant=plant)
    report = build_report(recorder, f"rule-{rule}")
    (results,) = [block for block in report.tables if block.key == "results"]
    assert words in results.note
    (reproduction,) = [block for block in report.tables if block.key == "reproduce"]
    assert ["epochs", f"select: {rule}"] in reproduction.rows
    # The best epoch stands beside the figure that counts, where it is another one.
    beside = [row.get("val Acc, best epoch") for row in table(report, "results")]
    assert beside == ([None, None] if rule == "best" else ["0.9900", "0.9900"])
    assert all(row["val Acc"] != "0.9900" for row in table(report, "results"))
