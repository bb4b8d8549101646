"""Reports of studies with several tables: a part for each, as if its study had run alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from studies.report.blocks import Report, Words
from studies.report.render import to_html, to_latex, to_markdown, write_report
from tests.builders.reports import table
from tests.builders.studies import MODULES

ROWS = """\
question: How should they be weighted?
source: Table III
arms:
  - {name: row 1, published: {table: III, row: 1, acc: 0.9158, logloss: 0.259}}
  - {name: row 2, set: {loss_weights.scene: 10}, published: {table: III, row: 2, acc: 0.9182}}
"""
TABLES = "question: What of both?\nseeds: [0, 1]\ntables: [modules, rows]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the two studies whose arms are taken over."""
    (tmp_path / "modules.yaml").write_text(MODULES.replace("seeds: [0, 1]", "source: Table II"))
    (tmp_path / "rows.yaml").write_text(ROWS)
    return tmp_path


def test_each_table_has_the_figures_that_it_has_alone(folder: Path, study: Callable[..., Report]):
    together = study(TABLES)
    seeds = "seeds: [0, 1]\n"
    for name, slug in (("modules", "table-ii"), ("rows", "table-iii")):
        alone = study((folder / f"{name}.yaml").read_text() + seeds)
        for key in ("results", "published", "settings", "comparisons", "effects"):
            if any(block.key == key for block in alone.tables):
                assert table(together, f"{slug}-{key}") == table(alone, key)
    titles = [block.title for block in together.blocks]
    assert titles.index("Table II: Effects of the factors") < titles.index("Table III: Results")
    assert "Results" not in titles


def test_conclusions_say_of_which_table_they_are(folder: Path, study: Callable[..., Report]):
    report = study(TABLES)
    words = next(block for block in report.blocks if block.title == "In short").lines
    assert words[0].startswith("Table II: Best arm by val Acc: SF with")
    assert any(line.startswith("Table II: Factor SF: with (") for line in words)
    assert any(line.startswith("Table III: Best arm by val Acc: row 2") for line in words)
    assert all(line.startswith("Table II") for line in words)


def test_shared_rows_and_the_reach_of_the_correction_are_said(
    folder: Path, study: Callable[..., Report]
):
    report = study(TABLES)
    notes = {block.key: block.note for block in report.tables}
    shared = "row 1 is the same training as Table II: SF with, CEOA with."
    assert shared in notes["table-iii-results"]
    assert (
        "SF with, CEOA with is the same training as Table III: row 1." in notes["table-ii-results"]
    )
    assert "6 comparisons of each metric (Holm)" in notes["table-ii-comparisons"]
    assert "1 comparison of each metric (Holm)" in notes["table-iii-comparisons"]
    assert "It is corrected within this table" in notes["table-iii-comparisons"]
    (question,) = [block for block in report.blocks if block.title == "Question"]
    assert isinstance(question, Words)
    assert "Table III: How should they be weighted?" in question.lines
    assert "6 rows ask for 5 different trainings, each with 2 seeds." in question.lines


def test_every_format_has_all_tables(folder: Path, study: Callable[..., Report], tmp_path: Path):
    report = study(TABLES)
    for text in (to_markdown(report), to_html(report)):
        assert "Table II: Results" in text
        assert "Table III: Beside what is published" in text
    assert r"-table-iii-published}" in to_latex(report)
    for stale in ("table-ii-search", "ladder", "mine"):  # the last is no report's
        (tmp_path / "report/tables").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"report/tables/{stale}.csv").write_text("text")
    write_report(report, tmp_path / "report")
    assert (tmp_path / "report/tables/mine.csv").exists()
    written = {path.name for path in (tmp_path / "report").rglob("*.*")}
    assert {"table-ii-results.csv", "table-iii-results.csv", "table-iii-rows.png"} <= written
    assert not {"table-ii-search.csv", "ladder.csv"} & written


def test_a_table_with_missing_trials_names_them(folder: Path, study: Callable[..., Report]):
    report = study(TABLES, outcome=lambda trial: "failed" if "row 2" in trial.arm else "complete")
    missing = [row["what"] for row in table(report, "missing")]
    assert "Table III: row 2" in missing
    assert table(report, "table-iii-results")[1]["seeds"] == "0/2"
