"""The tables of trials that `avsc-search status` prints, and `run` at its end."""

import json
import math
import re
import time
from pathlib import Path

import pytest

from avsc_core.record.recorder import Recorder
from avsc_core.record.study_document import FORMAT
from avsc_core.record.trials import TrialRecord
from avsc_core.resolve import parse_set, resolve
from avsc_core.terminal import out
from studies.report.listing import list_studies, print_studies
from studies.report.status import describe_failures, print_status
from studies.study.plan import make_plan
from studies.study.reading import read_study
from tests.builders.commands import run
from tests.builders.configs import TINY
from tests.builders.records import fresh_record, open_record_in
from tests.builders.reports import make_dataset, record_study
from tests.builders.trials import record

OTHER = """\
question: How do systems compare that differ in many settings?
base: {split.validation: 0.22}
arms:
  - {name: ours}
  - name: theirs
    set:
      training: {learning_rate: 0.002, weight_decay: 0.1, batch_size: 4, schedule: cosine, ema: 0.9}
      losses: {label_smoothing: 0.1, class_weights: balanced, coarse: 1}
      augmentation: {speed: 0.1, noise: 3, flip: 0.5, crop: 0.1, mixup: 0.2}
"""


def test_settings_that_do_not_fit_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "other.yaml"
    path.write_text(OTHER)
    recorder = open_record_in(tmp_path, "mlflow.db")
    record_study(recorder, make_plan(read_study(path, preset="demo", sets=TINY)), make_dataset())

    print_status(recorder, "other")
    printed = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    assert all(len(line) <= out.width for line in printed.splitlines())
    assert "losses.class_weights" in printed
    assert "training.schedule" not in printed
    assert "11 more settings differ" in printed


@pytest.mark.parametrize(("searched", "lines"), [(50, 51), (51, 51), (90, 51)])
def test_a_long_search_is_shown_by_its_best_and_its_latest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], searched: int, lines: int
):
    """The arm is shown whatever the search; the best trials are the first of the search here."""
    recorder = fresh_record(tmp_path)
    run = recorder.open_study_run("s", {"avsc.metric": "val_acc", "avsc.data": "d"}, {})
    config = resolve("demo")
    for number in range(searched + 1):
        tags = {
            "avsc.kind": "trial",
            "avsc.study": "s",
            "avsc.role": "search" if number else "arm",
            "avsc.arm": "search" if number else "row 1",
        }
        seeded = config.model_copy(update={"seed": number})
        run_id = recorder.begin_run("s", seeded, tags, run)
        acc = 0.9 - number / 1000
        metrics = {"selected_val_acc": acc, "selected_val_logloss": 1 - acc}
        recorder.end_run(run_id, "stopped" if number == 40 else "complete", metrics)

    print_status(recorder, "s")
    printed = capsys.readouterr().out
    shown = [line for line in printed.splitlines() if re.search("complete|stopped  ", line)]
    rows = [line for line in shown if "of 91 trials" not in line and "of 52 trials" not in line]
    assert len(rows) == lines
    assert "row 1" in rows[0]
    assert all(f"{0.9 - number / 1000:.4f}" in printed for number in (0, 1, 25, searched))
    if searched == 90:
        assert f"{0.9 - 30 / 1000:.4f}" not in printed
    is_cut = "the best and the latest of the search" in printed
    assert is_cut == (searched > 50)
    if is_cut:
        counts = f"in all {searched} complete, 1 stopped"
        assert f"51 of {searched + 1} trials, " in printed
        assert counts in printed
        assert "`avsc-search export s` writes them all" in printed


def test_status_says_why_trials_failed(tmp_path: Path):
    """A line for each reason; a trial that is complete now keeps no reason of an earlier try."""
    path = tmp_path / "other.yaml"
    path.write_text("question: q\nseeds: [0, 1, 2, 3]\narms: [{name: ours}]\n")
    plan = make_plan(read_study(path, preset="demo", sets=TINY))

    def end(number: int, outcome: str, error: str) -> TrialRecord:
        return record(plan.trials[number], outcome)._replace(tags={"avsc.error": error})

    trials = [
        end(0, "diverged", "epoch 2: val_event is not finite"),
        end(1, "failed", "Traceback:\n  File\nValueError: a"),
        end(2, "failed", "ValueError: a\n"),
        end(3, "complete", "ValueError: a"),
    ]
    assert list(describe_failures(trials)) == [
        "failed: ours and 1 more: ValueError: a",
        "diverged: ours: epoch 2: val_event is not finite",
    ]


def record_half(folder: Path) -> Recorder:
    """Record a study of which two trials of four are over, and whose command was killed."""
    recorder = fresh_record(folder)
    document = {"format": FORMAT, "metadata": {"question": "Is it half done?"}}
    tags = {"avsc.metric": "val_acc", "avsc.data": "d", "avsc.planned": "4"}
    recorder.open_study_run("half", tags, document)
    for seed, outcome in enumerate(("complete", "failed", "diverged", "running")):
        config = resolve("demo", parse_set([f"seed={seed}"]))
        tags = {"avsc.kind": "trial", "avsc.study": "half", "avsc.data": "d", "avsc.arm": "one"}
        run = recorder.begin_run("half", config, tags)
        metrics = {"selected_val_acc": 0.5} if outcome == "complete" else {"val_acc": math.nan}
        if outcome != "running":
            recorder.end_run(run, outcome, metrics)
    return recorder


def test_a_study_that_is_half_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recorder = record_half(tmp_path)
    print_status(recorder, "half")
    printed = capsys.readouterr().out
    assert "interrupted" in printed  # no process runs what is running by its tag
    assert printed.endswith("2 of 4 trials are over\n")

    (listed,) = list_studies(recorder)
    started = listed.pop("started")
    assert abs(started - time.time()) < 60
    assert listed == {
        "study": "half",
        "question": "Is it half done?",
        "data": "d",
        "over": 2,
        "planned": 4,
        "metric": "val_acc",
        "best": 0.5,
        "state": "interrupted",
    }
    print_studies(recorder)
    printed = capsys.readouterr().out
    for word in ("half", "Is it half done?", "2 of 4", "val_acc 0.5000", "interrupted"):
        assert word in printed


def test_studies_and_trials_as_json(tmp_path: Path):
    record = record_half(tmp_path)
    uri = ["--tracking-uri", record.uri]
    (study,) = json.loads(run(tmp_path, "avsc-search", "list", "--json", *uri).out)
    assert study["study"] == "half"
    # Without a name, the trials of the latest study.
    trials = json.loads(run(tmp_path, "avsc-search", "status", "--json", *uri).out)
    outcomes = ["complete", "failed", "diverged", "interrupted"]
    assert [trial["outcome"] for trial in trials] == outcomes
    assert [trial["seed"] for trial in trials] == [0, 1, 2, 3]
    assert trials[1]["val_acc"] is None


def test_an_empty_record_lists_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    print_studies(fresh_record(tmp_path))
    assert capsys.readouterr().out.startswith("the record holds no study yet")
