"""Studies whose arms come from other study files: names, bases, shared trainings, faults."""

from pathlib import Path

import pytest

from avsc_core.errors import UserError
from avsc_core.resolve import trial_key
from studies.report.build import build_report
from studies.study.plan import make_plan
from studies.study.reading import read_study
from studies.study.tables import find_study_file, list_shipped
from tests.builders.commands import run
from tests.builders.records import fresh_record
from tests.builders.reports import make_dataset, record_study, table
from tests.builders.studies import MODULES, STUDIES, faults, read

ROWS = """\
question: How should they be weighted?
source: Table III
seeds: [0, 1, 2]
base: {loss_weights.event: 0.5}
arms:
  - {name: row 1, set: {loss_weights.event: 1}}
  - {name: row 2, published: {table: III, row: 2, acc: 0.9}, note: as the base}
search: {space: {loss_weights: }}
"""
TABLES = "question: q\nseeds: [0, 1]\ntables: [modules, rows]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two study files, of the same names as none that ships or as one that does."""
    (tmp_path / "modules.yaml").write_text(MODULES.replace("seeds: [0, 1]", "source: Table II"))
    (tmp_path / "rows.yaml").write_text(ROWS)
    return tmp_path


def test_arms_are_taken_over_with_their_tables_bases_and_figures(folder: Path):
    study = read(folder, TABLES)
    assert [(table.title, table.design) for table in study.tables] == [
        ("Table II", "factorial"),
        ("Table III", None),
    ]
    assert [arm.name for arm in study.arms] == [
        "Table II: SF without, CEOA without",
        "Table II: SF without, CEOA with",
        "Table II: SF with, CEOA without",
        "Table II: SF with, CEOA with",
        "Table III: row 1",
        "Table III: row 2",
    ]
    assert [arm.table for arm in study.arms] == ["Table II"] * 4 + ["Table III"] * 2
    *_, row_2 = study.arms
    assert (row_2.config.loss_weights.event, row_2.note) == (0.5, "as the base")
    assert row_2.published.acc == 0.9
    assert study.arms[3].levels == {"SF": "with", "CEOA": "with"}
    assert study.search is None
    assert study.seeds == (0, 1)


def test_published_systems_stand_in_their_own_table(folder: Path):
    (folder / "rows.yaml").write_text(ROWS + "published: {A: {table: V, row: 1, acc: 0.8}}\n")
    plan = make_plan(read(folder, TABLES))
    recorder = fresh_record(folder)
    record_study(recorder, plan, make_dataset())
    report = build_report(recorder, "study")
    assert [block.key for block in report.tables if "published" in block.key] == [
        "table-iii-published"
    ]
    assert [row["arm"] for row in table(report, "table-iii-published")] == ["row 2", "A"]


def test_equal_rows_of_two_tables_are_one_training(folder: Path):
    plan = make_plan(read(folder, TABLES))
    assert plan.sharing == "6 rows with 2 seeds ask for 10 trainings"
    assert [trial.arm for trial in plan.trials if " = " in trial.arm] == [
        "Table II: SF with, CEOA with = Table III: row 1"
    ] * 2
    assert set(plan.definition["arms"]) == {arm.name for arm in plan.study.arms}


def test_the_command_line_stands_over_the_base_of_a_table(folder: Path):
    study = read(folder, TABLES, sets=["loss_weights.event=2", "alignment.k=3", "seeds=[5]"])
    *_, row_1, row_2 = study.arms
    assert row_1.config.loss_weights.event == 1  # what makes the row stays
    assert row_2.config.loss_weights.event == 2
    assert row_2.config.alignment.k == 3
    assert study.seeds == (5,)


def test_faults_are_shown_at_the_lines_of_the_file_they_are_in(folder: Path):
    bad = ROWS.replace("loss_weights.event: 1}", "loss_wait.event: 1}").replace(
        "source: Table III", "preset: demo"
    )
    (folder / "rows.yaml").write_text(bad)
    told = faults(folder, TABLES.replace("modules", "modulse"))
    assert told[0].startswith(
        "study.yaml:3: there is no file and no shipped study 'modulse'; did you mean 'modules'?"
    )
    assert told[1].startswith("rows.yaml:2: preset in a study whose arms another study takes over")
    assert told[2].startswith("rows.yaml:6: unknown key 'loss_wait.event'")
    assert len(told) == 3


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (TABLES + "arms: [{name: a}]\n", "study.yaml:4: arms beside tables"),
        (TABLES + "published: {A: {table: V, row: 1}}\n", "study.yaml:4: published beside tables"),
        (TABLES + "search: {space: {loss_weights: }}\n", "study.yaml:4: search beside tables"),
        (TABLES.replace("modules", "rows"), "study.yaml:3: two tables are called 'Table III'"),
        (TABLES.replace("modules", "joint"), "no arms to take over"),
        (TABLES.replace("modules", "paper"), "tables in a study whose arms"),
    ],
)
def test_what_does_not_fit_tables_is_a_fault(folder: Path, text: str, fault: str):
    assert any(fault in line for line in faults(folder, text))


def test_the_paper_has_33_rows_and_30_trainings():
    """Rows that the paper has in several tables are the same training, whatever their names."""
    study = read_study(STUDIES / "paper.yaml")
    files = ("k_mode", "modules", "lambda", "modality")
    alone = [read_study(STUDIES / f"{name}.yaml") for name in files]
    keys = [trial_key(arm.config) for other in alone for arm in other.arms]
    assert [trial_key(arm.config) for arm in study.arms] == keys
    plan = make_plan(study)
    assert len(plan.trials) == len(set(keys))
    assert plan.sharing == "33 rows ask for 30 trainings"
    assert [table.title for table in study.tables] == [
        "Table I",
        "Table II",
        "Table III",
        "Table IV",
    ]


def test_a_shipped_study_is_found_by_its_name_from_any_folder(tmp_path: Path):
    done = run(tmp_path, "avsc-search", "check", "lambda")
    assert done.code == 0
    assert "lambda: fine, 12 trials of arms, then 12 by tpe" in done.out
    done = run(tmp_path, "avsc-search", "check", "paper")
    assert "paper: fine, 33 rows ask for 30 trainings" in done.out
    assert find_study_file(Path("lambda"), "FILE") == STUDIES / "lambda.yaml"
    assert {"lambda", "paper"} <= set(list_shipped())


def test_a_file_takes_precedence_over_a_shipped_study(tmp_path: Path):
    (tmp_path / "lambda").write_text("question: q\narms: [{name: a}]\n")
    done = run(tmp_path, "avsc-search", "check", "lambda")
    assert "lambda: fine, 1 trials of arms" in done.out


def test_an_unknown_name_lists_the_nearest(tmp_path: Path):
    done = run(tmp_path, "avsc-search", "run", "lamda")
    assert done.code == 2
    assert done.err.strip() == (
        "FILE: there is no file and no shipped study 'lamda'; did you mean 'lambda'?; "
        "give a study file, or a shipped study"
    )
    with pytest.raises(UserError, match="one of encoders, fusion"):
        find_study_file(Path("xyz"), "FILE")
