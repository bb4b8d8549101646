"""Reports (studies/report/build.py) from records of trials with planted effects.

Figures, labels, missing cells, every format and every study that ships.
"""

import io
import json
import re
from collections.abc import Callable
from itertools import permutations
from math import nan
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats
from sklearn.metrics import confusion_matrix
from statsmodels.stats.multitest import multipletests

from avsc_core.data.dataset import LABEL
from avsc_core.errors import UserError
from avsc_core.evaluation.intervals import Estimate
from avsc_core.record.address import hide_secrets
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import FULL_RUNG
from avsc_core.record.winner import find_winner
from avsc_core.resolve import configuration_key, resolve, trial_key
from avsc_core.terminal import format_duration
from search_spaces.building import build_space
from search_spaces.domains import Float
from search_spaces.importance import measure_importance
from studies.report import estimates, search_figures
from studies.report.blocks import Report, Table, format_interval, format_number, format_p
from studies.report.build import build_report
from studies.report.estimates import Power, estimate_contrast
from studies.report.export import export_study, trial_frame
from studies.report.render import to_csv, to_html, to_latex, to_markdown, write_report
from studies.report.sections.conclusions import Finding, rank_row, write_verdicts
from studies.report.sections.effects import list_effects
from studies.report.sections.search_results import find_pareto_front
from studies.report.study_results import ReportRow, StudyResults
from studies.runner.prepare import make_served_plan
from studies.study.plan import PlannedTrial, make_plan
from studies.study.reading import read_study
from tests.builders.reports import (
    complete,
    make_dataset,
    measure_nothing,
    record_study,
    table,
)
from tests.builders.studies import LADDER, MODULES, SEARCH, STUDIES


def test_figures_are_those_of_the_record(study: Callable[..., Report], recorder: Recorder):
    report = study(MODULES)
    rows = {row["arm"]: row for row in table(report, "results")}
    assert list(rows) == [
        "SF without, CEOA without",
        "SF without, CEOA with",
        "SF with, CEOA without",
        "SF with, CEOA with",
    ]
    for name, row in rows.items():
        trials = [trial for trial in recorder.list_trials(report.name) if trial.arm == name]
        for title, metric in (("val Acc", "best_val_acc"), ("val Logloss", "best_val_logloss")):
            assert float(row[title]) == pytest.approx(
                np.mean([t.metrics[metric] for t in trials]), abs=6e-5
            )
        assert row["seeds"] == "2/2"
        low, high = map(float, row["95 %"].split(" to "))
        assert low < float(row["val Acc"]) < high


def test_what_rounds_to_zero_is_never_negative():
    assert format_number(-0.0, digits=3, sign="+") == "+0.000"
    assert format_number(-0.00001) == "0.0000"
    assert format_interval(Estimate(0.0, -0.0001, 0.001, 0.5, 1)) == "0.000 to 0.001"


def test_no_difference_of_acc_above_one_is_promised(
    study: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(estimates, "find_smallest_difference", lambda variance, level: 4.9)
    report = study(MODULES)
    comparisons = next(block for block in report.tables if block.key == "comparisons")
    at = [place for place, title in enumerate(comparisons.header) if title == "80 % power"]
    for row in comparisons.rows:
        assert [row[place] for place in at] == ["over 1", "4.9000"]  # Logloss may differ by more
    words = next(block for block in report.blocks if block.title == "In short").lines
    assert any(
        "such a study tells no difference of Acc, however large (at level" in line for line in words
    )


def test_planted_effects_are_found_and_absent_ones_are_not_claimed(study: Callable[..., Report]):
    report = study(MODULES.replace("[0, 1]", "[0, 1, 2, 3, 4]"))
    effects = {row["of"]: row for row in table(report, "effects")}
    strong, weak = effects["SF: with less without"], effects["CEOA: with less without"]
    assert float(strong["Acc"]) > 0.05
    assert strong["p"] == "< 0.001"
    assert abs(float(weak["Acc"])) < 0.06
    assert float(effects["SF with x CEOA with"]["p"].removeprefix("< ")) > 0.05
    words = next(block for block in report.blocks if block.title == "In short").lines
    assert words[0].startswith("Best arm by val Acc: SF with, CEOA ")
    assert any(
        line.startswith("SF with, CEOA") and " beats SF without, CEOA" in line for line in words
    )
    assert any(
        line.startswith("SF with, CEOA") and " cannot be told from SF with, CEOA" in line
        for line in words
    )
    (sure,) = [line for line in words if line.startswith("Factor SF: ")]
    assert sure == f"Factor SF: with ({short(strong)}) beats without."
    (unsure,) = [line for line in words if line.startswith("Factor CEOA: ")]
    assert unsure.startswith(f"Factor CEOA: with ({short(weak)}) cannot be told from without. ")
    power = f"With 80 % power, such a study tells a difference of {float(weak['80 % power']):.3f}"
    assert f"{power} (at level 0.017); " in unsure  # 0.05 / 3 effects
    assert float(strong["Acc"]) > float(strong["80 % power"])
    assert words[-1] == "Interactions: none that can be told from 0."
    believed = [
        row
        for row in table(report, "comparisons")
        if row["p"] != "1.000" and float(row["p"].split()[-1]) < 0.05
    ]
    assert (
        sum(" beats " in line for line in words if not line.startswith("Factor"))
        == len(believed)
        == 4
    )
    pairs = table(report, "comparisons")
    assert len(pairs) == 6
    (one,) = [
        row
        for row in pairs
        if row["arm"] == "SF with, CEOA with" and row["against"] == "SF without, CEOA with"
    ]
    low, high = map(float, one["95 %"].split(" to "))
    assert 0 < low < float(one["Acc"]) < high


def test_modules_that_never_did_anything_are_named(recorder: Recorder, tmp_path: Path):
    """By the largest value of both directions over all epochs and seeds, below a thousandth."""

    def measure(trial: PlannedTrial, epoch: int) -> dict[str, float]:
        measures = {}
        if trial.config.fusion.kind == "semantic":
            measures |= {"sf_added_events": 2e-4 / epoch, "sf_added_objects": 1e-4}
        if trial.config.alignment.enabled:
            moved = 0.2 if trial.seed and epoch == 2 else 1e-5  # in one epoch of one seed
            measures |= {"event_row_moved": 1e-5, "object_row_moved": moved}
        if trial.config.fusion.kind == "semantic" and trial.config.alignment.enabled:
            measures["sf_added_objects"] = 0.5 if trial.seed and epoch == 2 else 0.0
        return measures

    path = tmp_path / "modules.yaml"
    path.write_text(MODULES)
    for name, chosen in (("measured", measure), ("earlier", measure_nothing)):
        plan = make_plan(read_study(path, name=name))
        record_study(recorder, plan, make_dataset(), measure=chosen)
        report = build_report(recorder, name)
        words = next(block for block in report.blocks if block.title == "In short").lines
        said = [line for line in words if line.endswith("its ablation measures nothing.")]
        assert said == [
            "SF with, CEOA without: SF added at most 0.0002 of what its tokens vary by, "
            "in every epoch: its ablation measures nothing."
        ] * (name == "measured")


def short(effect: dict[str, str]) -> str:
    """A difference of Acc as sentences have it."""
    return f"{float(effect['Acc']):+.3f}, 95 % {effect['95 %']}, p {effect['p']}"


def test_sentences_say_no_more_than_their_p_values():
    made = {
        "a": (0.2, 0.01),
        "b": (-0.2, 0.01),
        "c": (0.1, 0.2),
        "d": (0.3, 0.049),
        "e": (0.1, 0.05),
    }
    told = [
        Finding(name, Estimate(value, value - 0.1, value + 0.1, p, 3), p)
        for name, (value, p) in made.items()
    ]
    words = list(write_verdicts([*told, Finding("f", None, float("nan"))], "x", 1))
    assert [line.split(" (")[0] for line in words] == [
        "a",
        "b",
        "c",
        "f and x have no seed in common.",
    ]
    assert (
        words[0] == "a (+0.200, 95 % 0.100 to 0.300, p 0.010);"
        " d (+0.300, 95 % 0.200 to 0.400, p 0.049) beat x."
    )
    assert words[1].endswith(" loses to x.")
    assert words[2].endswith("p 0.050) cannot be told from x.")
    less = list(write_verdicts(told, "x", -1))  # of Logloss less is better
    assert less[0].startswith("b (")
    assert less[1].startswith("a (")
    assert less[1].endswith(" lose to x.")


@pytest.mark.parametrize("more_seeds", [(nan, 5.0), (5.0, nan)])
def test_a_difference_over_one_seed_hides_no_other_one(more_seeds: tuple[float, float]):
    estimate = Estimate(0.0, -0.1, 0.1, 0.9, 3)
    findings = []
    for name, count in zip("ab", more_seeds, strict=True):
        findings.append(Finding(name, estimate, 0.9, Power(0.025, smallest=0.1, more_seeds=count)))
    (sentence,) = write_verdicts(findings, "x", 1)
    assert sentence.endswith("; to tell 0.01 takes 5 more seeds.")


def test_many_arms_are_told_from_the_first(study: Callable[..., Report]):
    arms = "".join(
        f"  - {{name: n{n}, set: {{loss_weights.scene: {n}}}}}\n" for n in (1, 2, 3, 4, 5)
    )
    text = f"question: q\nmetric: val_logloss\nseeds: [0, 1, 2]\narms:\n{arms}"
    text += "  - {name: bare, set: {fusion.kind: none}}\n"
    text += "  - {name: silent, set: {loss_weights.scene: 0.01}}\n"
    words = next(block for block in study(text).blocks if block.title == "In short").lines
    assert words[0].startswith("Best arm by val Logloss: n")
    (lost,) = [line for line in words if line.endswith(" lose to n1.")]
    assert lost.startswith("bare (+")
    assert "; silent (+" in lost


def test_what_was_stopped_early_is_in_no_table(study: Callable[..., Report]):
    """Trials that were stopped early claim Acc 1: only the costs count them."""
    asked: list[str] = []

    def outcome(trial: PlannedTrial) -> str:
        asked.append(trial.search)
        return "stopped" if trial.search and asked.count("search") % 4 == 1 else "complete"

    report = study(
        "question: q\nsearch: {space: {loss_weights: }, trials: 80, sampler: random}\n",
        outcome=outcome,
    )
    for key in ("results", "search"):
        assert all(row["val Acc"] != "1.0000" for row in table(report, key))
    assert "20, after 60 of 400 epochs" in next(
        row["measured"] for row in table(report, "cost") if row[""] == "trials stopped early"
    )
    shares = {row["dimension"]: float(row["val_acc"]) for row in table(report, "importance")}
    chance = shares.pop("by chance, at most")
    assert max(shares, key=shares.__getitem__) == "loss_weights.scene"  # the planted one
    assert max(shares.values()) > chance
    assert sum(shares.values()) == pytest.approx(1, abs=0.03)
    words = next(block for block in report.blocks if block.title == "In short").lines
    assert words[-1].startswith(
        "What mattered for val Acc over 60 completed trials: loss_weights.scene ("
    )


def test_what_decides_who_survives_matters_at_the_first_rung(study: Callable[..., Report]):
    """A scheduler that keeps the best by lambda_5 leaves survivors among which it hardly varies."""
    names = ["event", "object", "scene"]
    space = ", ".join(f"loss_weights.{name}: " for name in names)

    def outcome(trial: PlannedTrial) -> str:
        if trial.config.loss_weights.event > 50:
            return "diverged"
        return "complete" if trial.config.loss_weights.scene > 20 else "stopped"

    search = f"search: {{space: {{{space}}}, trials: 90, sampler: random}}\n"
    report = study(f"question: q\n{search}", outcome=outcome)
    (found,) = [each for each in report.tables if each.key == "importance"]
    rows = {row["dimension"]: row for row in table(report, "importance")}
    chance = rows["by chance, at most"]
    first, last = found.header[1:]
    assert (first, last) == ("val_acc at epoch 3", "val_acc")
    scene = rows["loss_weights.scene"]
    assert float(scene[first]) > float(chance[first])
    assert float(scene[last]) < float(chance[last])

    # The note, the conclusions and the pictures say which is which.
    completed, lost = (
        int(re.search(pattern, found.note)[1])
        for pattern in (r"; (\d+) completed trials", r"Without a value: (\d+) trials that diverged")
    )
    everyone = f"all {90 - lost} trials at epoch 3, the first rung"
    assert everyone in found.note
    words = next(block for block in report.blocks if block.title == "In short").lines
    assert words[-2].startswith(f"What mattered for val Acc over {everyone}: loss_weights.scene (")
    assert words[-1].startswith(f"What mattered for val Acc over {completed} completed trials: ")
    pictures = {picture.key: picture.draw() for picture in report.pictures}
    legend = [text.get_text() for text in pictures["importance"].axes[0].get_legend().texts]
    assert "val Acc, all trials at epoch 3" in legend
    by_trials = [len(line.get_xdata()) for line in pictures["slices"].axes[0].get_lines()]
    assert by_trials == [90 - lost, completed]


def test_missing_cells_are_visible(study: Callable[..., Report]):
    def outcome(trial: PlannedTrial) -> str:
        return "failed" if trial.arm.startswith("SF with,") and trial.seed == 1 else "complete"

    report = study(MODULES, outcome=outcome)
    seeds = [row["seeds"] for row in table(report, "results")]
    assert seeds == ["2/2", "2/2", "1/2", "1/2"]
    told = table(report, "missing")
    assert [row["how much is there"] for row in told] == [
        "1 of 2 seeds",
        "1 of 2 seeds",
        "failed",
        "failed",
    ]
    assert told[-1]["why"] == "Boom: it burst"
    assert {row["seeds"] for row in table(report, "comparisons")} == {
        "1",
        "2",
    }  # seeds that both arms have

    def nothing(trial: PlannedTrial) -> str:
        return "failed" if trial.arm == "SF with, CEOA with" else "complete"

    empty = table(study(MODULES, outcome=nothing), "results")[-1]
    assert list(empty.values()) == ["SF with, CEOA with", "0/2", "-", "-", "-", "-"]


def test_published_figures_keep_their_table_and_row(study: Callable[..., Report]):
    text = MODULES.replace(
        "  factors:",
        "  published: {'SF without, CEOA without': "
        "{table: II, row: 1, acc: 0.5, logloss: 1.0}}\n  factors:",
    )
    report = study(text, embedded=False)
    (row,) = table(report, "published")
    assert (row["arm"], row["where"]) == ("SF without, CEOA without", "Table II, row 1")
    assert (row["published Acc"], row["published Logloss"]) == ("0.5000", "1.0000")
    assert row["our Acc"] == table(report, "results")[0]["val Acc"]
    assert float(row["ours - it"]) == pytest.approx(float(row["our Acc"]) - 0.5, abs=1e-4)
    (beside,) = [each for each in report.tables if each.key == "published"]
    assert "for comparison only" in beside.note
    assert beside.note.count("probably of the best epoch on the test split") == 1
    assert "one second" not in beside.note  # which is said of Table V alone
    (embedded,) = table(study(text), "published")
    assert embedded["published Acc"] == "0.5000"
    assert "ours - it" not in embedded  # a difference of synthetic scenes and real streets is none


def test_published_systems_that_are_no_arm_stand_below_the_arms(study: Callable[..., Report]):
    figures = "{table: 'arXiv 1, abstract', row: best system, acc: 0.9459, logloss: 0.1517}"
    text = MODULES + f"published: {{'Chen 2022': {figures}}}\n"
    report = study(text, embedded=False)
    (beside,) = [each for each in report.tables if each.key == "published"]
    (row,) = table(report, "published")
    assert (row["arm"], row["where"]) == ("Chen 2022", "arXiv 1, abstract, row best system")
    assert (row["published Acc"], row["our Acc"], row["ours - it"]) == ("0.9459", "-", "-")
    assert "Chen 2022" not in [each["arm"] for each in table(report, "results")]
    assert beside.note.endswith("for comparison only.")  # nothing is said of the paper's figures

    of_the_paper = study(text.replace("arXiv 1, abstract", "V"))
    (beside,) = [each for each in of_the_paper.tables if each.key == "published"]
    assert "Table V mixes decisions on one second" in beside.note


def test_every_arm_before_and_after_retuning(study: Callable[..., Report], recorder: Recorder):
    report = study(MODULES.replace("factorial", "leave_one_out") + SEARCH + "retune: 4\n")
    rows = {row["arm"]: row for row in table(report, "retuned")}
    assert list(rows) == ["all", "without SF", "without CEOA"]
    names = [row["arm"] for row in table(report, "results")]
    assert names == [*rows, *(f"{name} retuned" for name in rows)]
    for row in rows.values():
        assert float(row["val Acc retuned"]) >= float(row["val Acc"]) - 0.05
    assert float(rows["without SF"]["less all"]) < -0.05
    assert rows["all"]["less all"] == rows["all"]["less all retuned"] == "-"
    results = StudyResults(recorder, report.name)
    tuned = {row.name: row for _, row in results.retuned_pairs}
    without, whole = (
        tuned[f"{name} retuned"].trials[1].metrics["best_val_acc"] for name in ("without SF", "all")
    )
    # The first seed picked the settings, so the second alone says how they compare.
    assert float(rows["without SF"]["less all retuned"]) == pytest.approx(without - whole, abs=6e-5)


def test_a_ladder_keeps_its_rungs_apart(study: Callable[..., Report], recorder: Recorder):
    report = study(LADDER.replace("finalists: 2", "finalists: 3"))
    rows = table(report, "ladder")
    assert [row["configuration"] for row in rows] == [
        "base",
        "finalist 1",
        "finalist 2",
        "finalist 3",
    ]
    (words,) = [each.note for each in report.tables if each.key == "ladder"]
    assert "over 4 configurations: " in words
    assert "Even perfect agreement of 4 has a p of 1/24: at least 5 are needed" in words
    assert [row["arm"] for row in table(report, "results")] == [
        row["configuration"] for row in rows
    ]
    assert (
        find_winner(recorder, report.name).trial.config.training.epochs == 20
    )  # never one of the cheap rung


def test_a_ladder_that_was_searched_further_keeps_every_finalist(
    recorder: Recorder, tmp_path: Path
):
    path = tmp_path / "climbed.yaml"
    for trials in (4, 20):
        path.write_text(LADDER.replace("trials: 4", f"trials: {trials}"))
        record_study(recorder, make_plan(read_study(path)), make_dataset(), complete)
    trained = {
        configuration_key(each.config)
        for each in recorder.list_trials("climbed")
        if each.tags["avsc.rung"] == FULL_RUNG
    }
    rows = table(build_report(recorder, "climbed"), "ladder")
    assert [row["configuration"] for row in rows[1:]] == [
        f"finalist {place}" for place in range(1, len(rows))
    ]
    assert len(rows) == len(trained) > 1 + 2  # more trials brought other finalists
    assert {row["seeds at the full rung"] for row in rows} == {"2/2"}
    lower = [float(row["cheap rung, val_acc"]) for row in rows[1:]]
    assert lower == sorted(lower, reverse=True)


def test_the_front_of_two_metrics_is_what_nobody_beats(
    study: Callable[..., Report], recorder: Recorder
):
    report = study(
        "question: q\nmetric: [val_acc, val_logloss]\n"
        "search: {space: {loss_weights: , contrast: }, trials: 20, sampler: random, "
        "scheduler: none}\n"
    )
    results = StudyResults(recorder, report.name)
    told = {
        trial.key: (trial.metrics["best_val_acc"], -trial.metrics["best_val_logloss"])
        for trial in results.completed
    }
    naive = {
        key
        for key, own in told.items()
        if not any(
            other != own and other[0] >= own[0] and other[1] >= own[1] for other in told.values()
        )
    }
    assert {trial.key for trial in find_pareto_front(results)} == naive
    assert len(table(report, "pareto")) == len(naive)
    pictures = {picture.key: picture for picture in report.pictures}
    assert set(pictures) >= {"pareto", "importance", "slices"}
    (axes,) = [
        axes for axes in pictures["slices"].draw().axes if axes.get_xlabel() == "alignment.mode"
    ]
    modes = [
        list(results.space.dimensions["alignment.mode"].values).index(t.config.alignment.mode)
        for t in results.searched
    ]
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [
        modes
    ]  # every trial once, over its choice


def test_real_data_carries_no_label(study: Callable[..., Report]):
    report = study(MODULES, embedded=False)
    assert report.label == ""
    for text in (
        to_html(report),
        to_markdown(report),
        to_latex(report),
        to_csv(report, report.tables[0]),
    ):
        assert "embedded scenes" not in text


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_that_ships_has_a_report(
    path: Path, recorder: Recorder, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sets = ["ladder=[{training.epochs: 6}, demo]"] if path.stem == "ladder" else []
    study = read_study(path, sets=sets, name=f"ships-{path.stem}")
    record_study(recorder, make_plan(study), make_dataset(), complete)
    report = build_report(recorder, study.name)
    assert report.tables
    keys = [each.key for each in report.tables if each.key.endswith("results")]
    assert keys  # of a study with tables, one for each
    for key in keys:
        assert not [row for row in table(report, key) if "-" in (row["val Acc"], row["95 %"])]
    assert not [each for each in report.tables if each.key == "missing"]
    write_report(report, tmp_path / "out")


def test_an_arm_that_the_data_cannot_serve_is_left_out_by_name(
    recorder: Recorder, tmp_path: Path, monkeypatch
):
    """Teachers' activation on true labels is not trained, but named with the reason."""
    monkeypatch.chdir(tmp_path)
    plan = make_served_plan(read_study(STUDIES / "readings.yaml", name="unserved"), make_dataset())
    assert list(plan.missing) == ["object_activation softmax"]
    assert not any("softmax" in trial.arm for trial in plan.trials)
    record_study(recorder, plan, make_dataset(), complete)
    report = build_report(recorder, "unserved")
    (row,) = [row for row in table(report, "results") if row["arm"] == "object_activation softmax"]
    assert (row["seeds"], row["val Acc"]) == ("0/3", "-")
    told = {row["arm"]: row for row in table(report, "settings")}
    assert (
        "has true labels, no teachers' probabilities" in told["object_activation softmax"]["note"]
    )
    changes = {name: row["changes of the base"] for name, row in told.items()}
    assert changes["base"] == "log_mel.normalise audioset"  # what preset demo has otherwise
    assert changes["window hanning"] == "log_mel.window hanning, log_mel.normalise audioset"
    assert [row["what"] for row in table(report, "missing")] == ["object_activation softmax"]


def test_export(study: Callable[..., Report], recorder: Recorder, tmp_path: Path):
    import pandas as pd

    from avsc_core.resolve import read_overrides, resolve

    report = study(MODULES)
    csv_file, parquet, best = export_study(recorder, report.name, tmp_path / "out")
    frames = pd.read_csv(csv_file), pd.read_parquet(parquet)
    trials = recorder.list_trials(report.name)
    for frame in frames:
        assert sorted(frame["key"]) == sorted(trial.key for trial in trials)
        assert sorted(frame["best_val_acc"]) == pytest.approx(
            sorted(trial.metrics["best_val_acc"] for trial in trials)
        )
        assert set(frame["fusion.kind"]) == {"none", "semantic"}
    # The best is a configuration by its mean over seeds; its first seed stands for it.
    means = {}
    for trial in trials:
        figures = [
            each.metrics["best_val_acc"]
            for each in trials
            if configuration_key(each.config) == configuration_key(trial.config)
        ]
        means[trial.key] = np.mean(figures)
    winner = max((trial for trial in trials if trial.seed == 0), key=lambda trial: means[trial.key])
    assert trial_key(resolve("paper", read_overrides(best))) == winner.key
    assert json.loads(trial_frame(recorder, report.name)["visual.depths"].iloc[0]) == [1, 1, 1, 1]


def test_faults_of_a_report(study: Callable[..., Report], recorder: Recorder):
    with pytest.raises(UserError, match="no study 'nothing' in the record"):
        build_report(recorder, "nothing")
    with pytest.raises(UserError, match="has no complete trial; run it: avsc-search run"):
        study(MODULES, outcome=lambda trial: "failed")


def test_tables_have_as_many_cells_as_titles(study: Callable[..., Report]):
    report = study(MODULES + SEARCH + "retune: 3\n")
    for each in report.tables:
        assert isinstance(each, Table)
        assert all(len(row) == len(each.header) for row in each.rows), each.key


THREE = """\
question: q
seeds: [0, 1, 2]
ablation:
  design: factorial
  factors:
    SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}
    CEOA: {without: {alignment.enabled: false}, with: {alignment.enabled: true}}
    scene:
      one: {loss_weights.scene: 1}
      ten: {loss_weights.scene: 10}
      hundred: {loss_weights.scene: 100}
"""


def test_effects_are_differences_of_means_over_all_other_factors(
    study: Callable[..., Report], recorder: Recorder
):
    report = study(THREE)
    results = StudyResults(recorder, report.name)
    mean = {tuple(row.levels.values()): row.mean("val_acc") for row in results.arms}
    told = {row["of"]: row for row in table(report, "effects")}
    others = [(ceoa, scene) for ceoa in ("without", "with") for scene in ("one", "ten", "hundred")]
    main = np.mean([mean["with", *other] - mean["without", *other] for other in others])
    assert float(told["SF: with less without"]["Acc"]) == pytest.approx(main, abs=6e-5)
    ten = np.mean(
        [
            mean[sf, ceoa, "ten"] - mean[sf, ceoa, "one"]
            for sf in ("without", "with")
            for ceoa, _ in others
        ]
    )
    assert float(told["scene: ten less one"]["Acc"]) == pytest.approx(ten, abs=6e-5)
    both = [
        mean["with", ceoa, "ten"]
        - mean["with", ceoa, "one"]
        - (mean["without", ceoa, "ten"] - mean["without", ceoa, "one"])
        for ceoa in ("without", "with")
    ]
    assert float(told["SF with x scene ten"]["Acc"]) == pytest.approx(np.mean(both), abs=6e-5)
    assert len(told) == (1 + 1 + 2) + (1 + 2 + 2)
    note = next(each.note for each in report.tables if each.key == "effects")
    assert "left out" not in note  # of these factors one alone has three levels
    three = "CEOA: {one: {alignment.k: 1}, two: {alignment.k: 2}, three: {alignment.k: 3}}"
    wider = study(re.sub("CEOA: .*", three, THREE))
    assert "are left out." in next(each.note for each in wider.tables if each.key == "effects")
    asked = list_effects(results)
    raw = [estimate_contrast(results, effect.contrast, "acc").p for effect in asked]
    corrected = multipletests(raw, method="holm")[1]
    assert [row["p"] for row in told.values()] == [format_p(p) for p in corrected]


def test_pictures_are_of_what_the_record_has_and_say_so(
    study: Callable[..., Report], recorder: Recorder
):
    report = study(MODULES.replace("SF:", "'$F_o$':") + SEARCH)  # a name, not mathematics
    results = StudyResults(recorder, report.name)
    for picture in report.pictures:
        figure = picture.draw()
        assert LABEL in [text.get_text() for text in figure.findobj(Text)]
        figure.savefig(io.BytesIO(), format="png")
    drawn = {picture.key: picture.draw() for picture in report.pictures}
    row = results.rows[0]
    (first, *_) = drawn["confusion"].axes
    decided = results.read_probabilities(row).argmax(-1)
    true = np.tile(results.clips.scenes, len(row.trials))
    expected = confusion_matrix(true, decided.ravel(), normalize="true")
    assert np.asarray(first.images[0].get_array()) == pytest.approx(expected)
    lines = {line.get_label(): line for line in drawn["curves"].axes[0].get_lines()}
    line = lines[r"\$F_o\$ without, CEOA without"]
    assert list(line.get_ydata()) == pytest.approx(
        [row.mean("val_acc") * factor for factor in (0.5, 1.0, 0.5)]
    )
    cost = {row[""]: row["measured"] for row in table(report, "cost")}
    assert (
        cost["training time"]
        == f"{format_duration(30.0 * len(results.trials))} in all, 30 s a trial"
    )
    assert (
        "ffffffffffffffff"
        in next(row for row in report.tables if row.key == "reproduce").rows[3][1]
    )


def test_importance_is_the_same_either_way_up_and_not_claimed_of_noise():
    space = build_space(
        {"loss_weights.scene": None, "loss_weights.event": None}, resolve("demo"), str
    )
    points = [
        {"loss_weights.scene": value, "loss_weights.event": 1.0 + value % 7}
        for value in np.linspace(1, 90, 40)
    ]
    values = [point["loss_weights.scene"] for point in points]
    more, less = (
        measure_importance(space, points, values, "max"),
        measure_importance(space, points, [-value for value in values], "min"),
    )
    assert more == less
    assert max(more.shares, key=more.shares.__getitem__) == "loss_weights.scene"
    assert more.shares["loss_weights.scene"] > more.chance
    assert measure_importance(space, points, [1.0] * 40, "max").shares == {}
    noise = np.random.default_rng(0).random((40, 40))
    found = [measure_importance(space, points, own.tolist(), "max") for own in noise]
    cried = [max(each.shares.values()) > each.chance for each in found]
    assert np.mean(cried) <= 0.15  # of 40 searches that found nothing, one in twenty


def test_both_rungs_are_correlated_as_scipy_does(study: Callable[..., Report]):
    report = study(LADDER.replace("finalists: 2", "finalists: 4").replace("trials: 4", "trials: 8"))
    rows = table(report, "ladder")
    lower, upper = (
        [float(row[f"{rung} rung, val_acc"]) for row in rows] for rung in ("cheap", "full")
    )
    (found,) = [each for each in report.tables if each.key == "ladder"]
    orders = [stats.spearmanr(lower, order).statistic for order in permutations(upper)]
    correlation = stats.spearmanr(lower, upper).statistic
    p = np.mean(np.array(orders) >= correlation - 1e-9)
    told = f"over 5 configurations: {correlation:.2f}, p {p:.3f}"
    assert f"{told} (one-sided, by all their orders)." in found.note
    words = next(block for block in report.blocks if block.title == "In short").lines
    assert words[-1].endswith(f" {told}.")
    best = [rows[int(np.argmax(values))]["configuration"] for values in (lower, upper)]
    is_same = "is" if best[0] == best[1] else "is not"
    assert words[-2].startswith(f"The best at the cheap rung, {best[0]}, {is_same} the best at")
    assert "Even perfect agreement" not in found.note
    searched = [each.title for each in report.tables if each.key in ("search", "importance")]
    assert all(title.endswith(", cheap rung") for title in searched)
    assert any(
        "Settings of the full rung (of the cheap rung): training.epochs 20 (2)." in line
        for line in report.blocks[0].lines
    )


def test_what_is_planned_and_not_there_is_named(study: Callable[..., Report]):
    words = (
        "question: q\n"
        "search: {space: {loss_weights: }, trials: 6, sampler: random, scheduler: none}\n"
    )
    turns = iter(["complete", "complete", "killed"])
    report = study(words, outcome=lambda trial: next(turns))
    assert [list(row.values()) for row in table(report, "missing")] == [
        ["search", "2 of 6 trials", "not run yet"]
    ]
    assert report.blocks[1].lines[0].startswith("The study is not finished")
    turns = iter(["complete"] * 4 + ["killed"])
    below = study(LADDER, outcome=lambda trial: next(turns))
    assert [row["what"] for row in table(below, "missing")] == ["search", "full rung"]


def test_equal_arms_are_compared_once_and_with_the_first(study: Callable[..., Report]):
    arms = "".join(
        f"  - {{name: n{n}, set: {{loss_weights.scene: {n}}}}}\n" for n in (1, 2, 3, 4, 5, 6)
    )
    report = study(
        f"question: q\narms:\n{arms}  - {{name: again, set: {{loss_weights.scene: 1}}}}\n"
    )
    assert {row["against"] for row in table(report, "comparisons")} == {"n1"}
    (found,) = [each for each in report.tables if each.key == "comparisons"]
    assert "again: the same training as n1." in found.note


def test_an_arm_without_all_its_seeds_is_not_called_the_best(study: Callable[..., Report]):
    arms = "arms: [{name: good, set: {loss_weights.scene: 50}}, {name: poor}]\n"
    report = study(
        f"question: q\nseeds: [0, 1]\n{arms}",
        outcome=lambda trial: "failed" if trial.seed and trial.arm == "good" else "complete",
    )
    words = next(block for block in report.blocks if block.title == "In short").lines
    assert words == ["Not ranked, because some of their seeds are missing: good."]
    assert "One seed says nothing" in report.tables[0].note


def test_every_invocation_that_differs_is_listed(study: Callable[..., Report], recorder: Recorder):
    name = study(MODULES).name
    run_id = recorder.get_study(name).run_id
    first = {"command": "avsc-search run x.yaml", "avsc": "0.1.0, commit a", "libraries": "torch 1"}
    invocations = [first, first, first | {"avsc": "0.1.0, commit b"}]
    document = recorder.read_study_document(run_id) | {"invocations": invocations}
    recorder.write_study_document(run_id, document)
    (told,) = [each for each in build_report(recorder, name).tables if each.key == "reproduce"]
    assert [value for what, value in told.rows if what == "avsc"] == [
        "0.1.0, commit a",
        "0.1.0, commit b",
    ]
    address = "avsc-search run x.yaml --tracking-uri postgresql://me:secret@host/db"
    assert hide_secrets(address).endswith("postgresql://me:...@host/db")


def test_a_report_says_what_it_was_measured_with(study: Callable[..., Report], recorder: Recorder):
    report = study(MODULES.replace("seeds:", "base: {training.epochs: 7}\nseeds:") + SEARCH)
    assert "Base: preset demo, with training.epochs 7. Seeds: 0, 1." in report.blocks[0].lines
    results = StudyResults(recorder, report.name)
    locations = len(np.unique(results.clips.places))
    size = f"validated on {len(results.clips.names)} clips of {locations} locations."
    assert any(line.endswith(size) for line in report.blocks[0].lines)
    (told,) = [each for each in report.tables if each.key == "reproduce"]
    assert ["- loss_weights.scene", "0.01 to 100, log"] in told.rows


def test_a_study_on_several_devices_says_so(study: Callable[..., Report], recorder: Recorder):
    name = study(MODULES).name

    def find_lines() -> list[str]:
        lines = build_report(recorder, name).blocks[0].lines
        return [line for line in lines if "digits differ" in line]

    trials = recorder.list_trials(name)
    assert len(trials) == 8
    device = {"avsc.device": "cpu, x86_64 AVX2", "avsc.threads": "1"}
    for trial in trials[:5]:  # of the others the record does not know
        recorder.add_environment(trial.run_id, device)
    assert find_lines() == []
    for trial in trials[5:]:
        recorder.add_environment(trial.run_id, device | {"avsc.threads": "4"})
    assert find_lines() == [
        "Not all on one device, so digits differ: "
        "5 on cpu, x86_64 AVX2, 1 thread; 3 on cpu, x86_64 AVX2, 4 threads."
    ]


def test_between_rows_equal_by_one_metric_the_other_decides():
    """The report names the same best arm as the closing table of a run."""

    def make_row(acc: float, logloss: float) -> ReportRow:
        figures = {"best_val_acc": acc, "best_val_logloss": logloss}
        return ReportRow("row", {0: SimpleNamespace(metrics=figures, key="")}, 1)

    rows = [make_row(0.9, 0.4), make_row(0.9, 0.3), make_row(0.8, 0.2)]
    assert sorted(rows, key=lambda row: rank_row(row, "val_acc")) == [rows[1], rows[0], rows[2]]
    assert sorted(rows, key=lambda row: rank_row(row, "val_logloss")) == rows[::-1]


@pytest.mark.parametrize(
    ("low", "high"), [(0.002, 0.008), (2, 8), (16, 64), (0.5, 5), (0.02, 0.5), (3, 4), (1e-5, 1.0)]
)
def test_a_logarithmic_axis_has_numbers(low: float, high: float):
    axes = Figure().subplots()
    search_figures._set_value_axis(axes, Float(low, high, log=True))
    lowest, highest = axes.get_xlim()
    shown = [value for value in axes.get_xticks() if lowest <= value <= highest]
    assert len(shown) >= 2
    labels = axes.xaxis.get_major_formatter().format_ticks(shown)
    assert all(
        float(label) == pytest.approx(value) for label, value in zip(labels, shown, strict=True)
    )
