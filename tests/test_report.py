"""Reports from records of trials with planted effects: figures, labels, missing cells, every format and study."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avsc_core.config import trial_key
from avsc_core.data.dataset import DataSet, split_parts
from avsc_core.data.tables import Clip
from avsc_core.errors import UserError
from avsc_core.trainer.metrics import prediction_table, scores
from avsc_core.trainer.recorder import LOWER, UPPER, Recorder
from avsc_core.trainer.winner import find_winner
from studies.report.answer import verdicts
from studies.report.blocks import Report, Table
from studies.report.build import build_report
from studies.report.export import export, trial_frame
from studies.report.gather import Gathered
from studies.report.render import to_csv, to_html, to_latex, to_markdown, write_report
from studies.report.searched import front
from studies.report.statistics import Estimate
from studies.runner.about import about, clip_table, row_key
from studies.runner.plan import Plan, PlannedTrial, make_plan
from studies.runner.prepare import plan_for
from studies.runner.read import read_study
from studies.runner.strategy import Strategy
from tests.test_ablation import LADDER, MODULES, SEARCH
from tests.test_schema import STUDIES

SCENES = tuple(f"scene_{number}" for number in range(10))


def dataset(embedded: bool = True) -> DataSet:
    """Six clips at each of ten locations of each of ten scenes."""
    clips = [
        Clip(
            f"{scene}-{place}-{number}", Path(), Path(), scene, f"city-{scene}{place}", "train" if place < 9 else "test"
        )
        for scene in range(10)
        for place in range(10)
        for number in range(6)
    ]
    none = np.zeros((len(clips), 64), np.uint8)
    names = [str(number) for number in range(64)]
    return DataSet(Path("/data/TAU"), clips, none, none, names, names, SCENES, {}, [], [], "f" * 64, embedded)


def skill(trial: PlannedTrial) -> float:
    """How right a configuration is: SF is worth much, lambda_5 something, CEOA and all else nothing."""
    config = trial.config
    return 1.0 + 0.8 * (config.fusion.kind == "semantic") + 0.3 * float(np.log10(config.loss_weights.scene))


def predict(trial: PlannedTrial, scenes: np.ndarray) -> np.ndarray:
    """(N,S) probabilities, the surer of the true scene the more skill; the same luck of clips for every trial."""
    shared = np.random.default_rng(1).normal(size=(len(scenes), len(SCENES)))
    own = np.random.default_rng(int(trial.key[:8], 16)).normal(size=shared.shape)
    logits = 0.8 * shared + 0.5 * own + skill(trial) * np.eye(len(SCENES))[scenes]
    table: np.ndarray = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return table


def write(recorder: Recorder, plan: Plan, data: DataSet, outcome: Callable[[PlannedTrial], str]) -> None:
    """The record of a study as a run leaves it, without the training."""
    study, rows = plan.study, split_parts(data, plan.study.base.split).validation
    tags = {"avsc.metric": study.metric, "avsc.data": data.title, "avsc.embedded": str(data.embedded).lower()}
    parent = recorder.open_study(study.name, tags, {**plan.definition, "data": data.fingerprint})
    recorder.document(parent, "about.json", about(plan))
    recorder.text(parent, "clips_val.tsv", clip_table(data, study.base))
    strategy = Strategy(plan, recorder.trials(study.name))
    while trial := strategy.next():
        how = outcome(trial)
        own = {"avsc.kind": "trial", "avsc.study": study.name, "avsc.arm": trial.arm, "avsc.data": data.title}
        if study.final:
            own |= {"avsc.rung": UPPER if trial.origin else LOWER, "avsc.origin": trial.origin}
        run_id = recorder.begin(study.name, trial.config, own, parent)
        table = predict(trial, data.scenes[rows])
        told = {f"val_{name}": value for name, value in scores(table, data.scenes[rows]).items()}
        for epoch in (1, 2):
            recorder.epoch(run_id, epoch, {**told, "train_total": 1.0, "seconds": 15.0 * epoch})
        if how == "complete":
            recorder.text(
                run_id, "predictions_val.tsv", prediction_table([data.clips[r].name for r in rows], table, SCENES)
            )
        best = {f"best_{name}": value for name, value in told.items()} | {"best_epoch": 2.0}
        if how == "stopped":
            best |= {"best_val_acc": 1.0, "best_val_logloss": 0.0}  # would win if it counted
        recorder.end(
            run_id, how, {} if how == "failed" else best, {"avsc.error": "Boom: it burst"} if how == "failed" else {}
        )
        strategy.finish(trial, how, best if how != "failed" else {})
    recorder.end(parent, "complete", {})


def complete(trial: PlannedTrial) -> str:
    return "complete"


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    folder = tmp_path_factory.mktemp("record")
    return Recorder(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture
def study(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """A study file's text, recorded, and its report."""
    monkeypatch.chdir(tmp_path)
    count = iter(range(1000))

    def make(
        text: str, embedded: bool = True, outcome: Callable[[PlannedTrial], str] = lambda trial: "complete"
    ) -> Report:
        name = f"{re.sub('[^a-z]', '', str(tmp_path.name))}{next(count)}"
        (tmp_path / f"{name}.yaml").write_text(text)
        plan = make_plan(read_study(tmp_path / f"{name}.yaml"))
        write(recorder, plan, dataset(embedded), outcome)
        return build_report(recorder, name)

    return make


def table(report: Report, key: str) -> list[dict[str, str]]:
    """A table's rows by the titles of their columns; of equal titles the first."""
    (found,) = [each for each in report.tables if each.key == key]
    rows = []
    for cells in found.rows:
        row: dict[str, str] = {}
        for title, cell in zip(found.header, cells, strict=True):
            row.setdefault(title, cell)
        rows.append(row)
    return rows


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
        trials = [trial for trial in recorder.trials(report.name) if trial.arm == name]
        for title, metric in (("val Acc", "best_val_acc"), ("val Logloss", "best_val_logloss")):
            assert float(row[title]) == pytest.approx(np.mean([t.metrics[metric] for t in trials]), abs=6e-5)
        assert row["seeds"] == "2/2"
        low, high = map(float, row["95 %"].split(" to "))
        assert low < float(row["val Acc"]) < high


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
    assert any(line.startswith("SF with, CEOA") and " beats SF without, CEOA" in line for line in words)
    assert any(line.startswith("SF with, CEOA") and " cannot be told from SF with, CEOA" in line for line in words)
    (sure,) = [line for line in words if line.startswith("Factor SF: ")]
    assert sure == f"Factor SF: with ({short(strong)}) beats without."
    (unsure,) = [line for line in words if line.startswith("Factor CEOA: ")]
    assert unsure == f"Factor CEOA: with ({short(weak)}) cannot be told from without."
    assert words[-1] == "Interactions: none that can be told from 0."
    pairs = table(report, "comparisons")
    assert len(pairs) == 6
    (one,) = [row for row in pairs if row["arm"] == "SF with, CEOA with" and row["against"] == "SF without, CEOA with"]
    low, high = map(float, one["95 %"].split(" to "))
    assert 0 < low < float(one["Acc"]) < high


def short(effect: dict[str, str]) -> str:
    """A difference of Acc as sentences have it."""
    return f"{float(effect['Acc']):+.3f}, 95 % {effect['95 %']}, p {effect['p']}"


def test_sentences_say_no_more_than_their_p_values():
    made = {"a": (0.2, 0.01), "b": (-0.2, 0.01), "c": (0.1, 0.2), "d": (0.3, 0.049), "e": (0.1, 0.05)}
    told = [(name, Estimate(value, value - 0.1, value + 0.1, p, 3), p) for name, (value, p) in made.items()]
    words = list(verdicts([*told, ("f", None, float("nan"))], "x", 1))
    assert [line.split(" (")[0] for line in words] == ["a", "b", "c", "f and x have no seed in common."]
    assert words[0] == "a (+0.200, 95 % 0.100 to 0.300, p 0.010); d (+0.300, 95 % 0.200 to 0.400, p 0.049) beat x."
    assert words[1].endswith(" loses to x.")
    assert words[2].endswith("p 0.050) cannot be told from x.")
    less = list(verdicts(told, "x", -1))  # of Logloss less is better
    assert less[0].startswith("b (")
    assert less[1].startswith("a (")
    assert less[1].endswith(" lose to x.")


def test_many_arms_are_told_from_the_first(study: Callable[..., Report]):
    arms = "".join(f"  - {{name: n{n}, set: {{loss_weights.scene: {n}}}}}\n" for n in (1, 2, 3, 4, 5))
    text = f"question: q\nmetric: val_logloss\nseeds: [0, 1, 2]\narms:\n{arms}"
    text += "  - {name: bare, set: {fusion.kind: none}}\n  - {name: silent, set: {loss_weights.scene: 0.01}}\n"
    words = next(block for block in study(text).blocks if block.title == "In short").lines
    assert words[0].startswith("Best arm by val Logloss: n")
    (lost,) = [line for line in words if line.endswith(" lose to n1.")]
    assert lost.startswith("bare (+")
    assert "; silent (+" in lost


def test_what_was_stopped_early_is_in_no_table(study: Callable[..., Report]):
    """Two searched trials that were stopped early claim Acc 1: they are counted in the costs and nowhere else."""
    asked: list[str] = []

    def outcome(trial: PlannedTrial) -> str:
        asked.append(trial.search)
        return "stopped" if trial.search and asked.count("search") % 4 == 1 else "complete"

    report = study("question: q\nsearch: {space: {loss_weights: }, trials: 24, sampler: random}\n", outcome=outcome)
    for key in ("results", "search", "importance"):
        assert not any(
            cell == "1.0000" for row in table(report, key) for title, cell in row.items() if title == "val Acc"
        )
    assert "6, after" in next(row["measured"] for row in table(report, "cost") if row[""] == "trials stopped early")
    shares = {row["dimension"]: float(row["val_acc"]) for row in table(report, "importance")}
    assert max(shares, key=shares.__getitem__) == "loss_weights.scene"  # the planted one
    assert sum(shares.values()) == pytest.approx(1, abs=0.03)


def test_missing_cells_are_visible(study: Callable[..., Report]):
    def outcome(trial: PlannedTrial) -> str:
        return "failed" if trial.arm.startswith("SF with,") and trial.seed == 1 else "complete"

    report = study(MODULES, outcome=outcome)
    seeds = [row["seeds"] for row in table(report, "results")]
    assert seeds == ["2/2", "2/2", "1/2", "1/2"]
    told = table(report, "missing")
    assert [row["how much is there"] for row in told] == ["1 of 2 seeds", "1 of 2 seeds", "failed", "failed"]
    assert told[-1]["why"] == "Boom: it burst"
    assert {row["seeds"] for row in table(report, "comparisons")} == {"1", "2"}  # seeds that both arms have

    def nothing(trial: PlannedTrial) -> str:
        return "failed" if trial.arm == "SF with, CEOA with" else "complete"

    empty = table(study(MODULES, outcome=nothing), "results")[-1]
    assert list(empty.values()) == ["SF with, CEOA with", "0/2", "-", "-", "-"]


def test_published_figures_keep_their_table_and_row(study: Callable[..., Report]):
    text = MODULES.replace(
        "  factors:",
        "  published: {'SF without, CEOA without': {table: II, row: 1, acc: 0.5, logloss: 1.0}}\n  factors:",
    )
    report = study(text, embedded=False)
    first, second = table(report, "results")[:2]
    assert first["published"] == "0.5000"
    assert float(first["ours - it"]) == pytest.approx(float(first["val Acc"]) - 0.5, abs=1e-4)
    assert second["published"] == second["ours - it"] == ""
    (results,) = [each for each in report.tables if each.key == "results"]
    assert list(results.header).count("published") == list(results.header).count("ours - it") == 2
    assert "for comparison only" in results.note
    (source,) = table(report, "sources")
    assert (source["arm"], source["published in"]) == ("SF without, CEOA without", "Table II, row 1")
    embedded = table(study(text), "results")[0]
    assert embedded["published"] == "0.5000"
    assert "ours - it" not in embedded  # a difference of synthetic scenes and real streets is none


def test_every_arm_before_and_after_retuning(study: Callable[..., Report]):
    report = study(MODULES.replace("factorial", "leave_one_out") + SEARCH + "retune: 4\n")
    rows = {row["arm"]: row for row in table(report, "retuned")}
    assert list(rows) == ["all", "without SF", "without CEOA"]
    names = [row["arm"] for row in table(report, "results")]
    assert names == [*rows, *(f"{name} retuned" for name in rows)]
    for row in rows.values():
        assert float(row["Acc retuned"]) >= float(row["Acc"]) - 0.05
    assert float(rows["without SF"]["less all"]) < -0.05


def test_a_ladder_keeps_its_rungs_apart(study: Callable[..., Report], recorder: Recorder):
    report = study(LADDER.replace("finalists: 2", "finalists: 3"))
    rows = table(report, "ladder")
    assert [row["configuration"] for row in rows] == [
        "published configuration",
        "finalist 1",
        "finalist 2",
        "finalist 3",
    ]
    (words,) = [each.note for each in report.tables if each.key == "ladder"]
    assert "over 4 configurations: " in words
    assert [row["arm"] for row in table(report, "results")] == [row["configuration"] for row in rows]
    assert find_winner(recorder, report.name).trial.config.training.epochs == 20  # never one of the lower rung


def test_a_ladder_that_was_searched_further_keeps_every_finalist(recorder: Recorder, tmp_path: Path):
    path = tmp_path / "climbed.yaml"
    for trials in (4, 20):
        path.write_text(LADDER.replace("trials: 4", f"trials: {trials}"))
        write(recorder, make_plan(read_study(path)), dataset(), complete)
    trained = {row_key(each.config) for each in recorder.trials("climbed") if each.tags["avsc.rung"] == UPPER}
    rows = table(build_report(recorder, "climbed"), "ladder")
    assert [row["configuration"] for row in rows[1:]] == [f"finalist {place}" for place in range(1, len(rows))]
    assert len(rows) == len(trained) > 1 + 2  # more trials brought other finalists
    assert {row["seeds above"] for row in rows} == {"2/2"}
    lower = [float(row["lower rung, val_acc"]) for row in rows[1:]]
    assert lower == sorted(lower, reverse=True)


def test_the_front_of_two_metrics_is_what_nobody_beats(study: Callable[..., Report], recorder: Recorder):
    report = study(
        "question: q\nmetric: [val_acc, val_logloss]\n"
        "search: {space: {loss_weights: , contrast: }, trials: 20, sampler: random, scheduler: none}\n"
    )
    gathered = Gathered(recorder, report.name)
    told = {
        trial.key: (trial.metrics["best_val_acc"], -trial.metrics["best_val_logloss"]) for trial in gathered.complete
    }
    naive = {
        key
        for key, own in told.items()
        if not any(other != own and other[0] >= own[0] and other[1] >= own[1] for other in told.values())
    }
    assert {trial.key for trial in front(gathered)} == naive
    assert len(table(report, "pareto")) == len(naive)
    pictures = {picture.key: picture for picture in report.pictures}
    assert set(pictures) >= {"pareto", "importance", "slices"}
    (axes,) = [axes for axes in pictures["slices"].draw().axes if axes.get_xlabel() == "alignment.mode"]
    modes = [
        list(gathered.space.dimensions["alignment.mode"].values).index(t.config.alignment.mode)
        for t in gathered.searched
    ]
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [modes]  # every trial once, over its choice


def test_real_data_carries_no_label(study: Callable[..., Report]):
    report = study(MODULES, embedded=False)
    assert report.label == ""
    for text in (to_html(report), to_markdown(report), to_latex(report), to_csv(report, report.tables[0])):
        assert "embedded scenes" not in text


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_that_ships_has_a_report(path: Path, recorder: Recorder, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = ["ladder=[{training.epochs: 6}, demo]"] if path.stem == "ladder" else []
    study = read_study(path, sets=sets, name=f"ships-{path.stem}")
    write(recorder, make_plan(study), dataset(), complete)
    report = build_report(recorder, study.name)
    assert report.tables
    assert not [row for row in table(report, "results") if "-" in (row["val Acc"], row["95 %"])]
    assert not [each for each in report.tables if each.key == "missing"]
    write_report(report, tmp_path / "out")


def test_an_arm_that_the_data_cannot_serve_is_left_out_by_name(recorder: Recorder, tmp_path: Path, monkeypatch):
    """Teachers' activation on true labels: not trained, not silently equal to the base, but named with the reason."""
    monkeypatch.chdir(tmp_path)
    plan = plan_for(read_study(STUDIES / "readings.yaml", name="unserved"), dataset())
    assert list(plan.missing) == ["object_activation softmax"]
    assert not any("softmax" in trial.arm for trial in plan.trials)
    write(recorder, plan, dataset(), complete)
    report = build_report(recorder, "unserved")
    (row,) = [row for row in table(report, "results") if row["arm"] == "object_activation softmax"]
    assert (row["seeds"], row["val Acc"]) == ("0/3", "-")
    (source,) = table(report, "sources")
    assert "has true labels, no teachers' probabilities" in source["note"]
    assert [row["what"] for row in table(report, "missing")] == ["object_activation softmax"]


def test_export(study: Callable[..., Report], recorder: Recorder, tmp_path: Path):
    import pandas as pd

    from avsc_core.config import read_overrides, resolve

    report = study(MODULES)
    csv_file, parquet, best = export(recorder, report.name, tmp_path / "out")
    frames = pd.read_csv(csv_file), pd.read_parquet(parquet)
    trials = recorder.trials(report.name)
    for frame in frames:
        assert sorted(frame["key"]) == sorted(trial.key for trial in trials)
        assert sorted(frame["best_val_acc"]) == pytest.approx(sorted(trial.metrics["best_val_acc"] for trial in trials))
        assert set(frame["fusion.kind"]) == {"none", "semantic"}
    figures = {trial.key: (-trial.metrics["best_val_acc"], trial.metrics["best_val_logloss"]) for trial in trials}
    winner = min(trials, key=lambda trial: (*figures[trial.key], trial.key))
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
