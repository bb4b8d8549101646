"""A record of version 0.1.0 (`record_0_1_0.zip`) still reads: trials, documents, reports, model.

Covered are avsc_core/record/study_document.py, avsc_core/record/trials.py and
studies/report/study_results.py.

The archive was written by that version's commands: two small studies (arms that are retuned, and a
ladder), the first one's winner retrained, the tables of both reports, the trials as exported.
"""

import csv
import io
import json
import sqlite3
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from avsc_core.data.dataset import DataSet
from avsc_core.errors import UserError
from avsc_core.record.models import fetch_model
from avsc_core.record.recorder import Recorder
from avsc_core.record.winner import find_winner
from avsc_core.resolve import trial_key
from avsc_core.weights.model_folder import read_model_folder
from studies.browse import _find_link
from studies.report.build import build_report
from studies.report.listing import list_studies
from studies.report.render import to_csv
from studies.runner.prepare import compare_with_record, make_served_plan
from studies.study.page import make_link
from studies.study.reading import read_study
from tests.builders.configs import TINY

ARCHIVE = Path(__file__).parent / "record_0_1_0.zip"
# Tables whose words and figures an upgrade leaves as they were.
SAME_TABLES = ("results", "published", "comparisons", "retuned", "search", "settings")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive unpacked, its database rebuilt; artifact addresses are absolute in it."""
    folder = tmp_path_factory.mktemp("earlier")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    statements = (folder / "mlflow.sql").read_text().replace("@FOLDER@", str(folder))
    database = sqlite3.connect(folder / "mlruns" / "mlflow.db")
    database.executescript(statements)
    database.close()
    return folder


@pytest.fixture(scope="module")
def recorder(folder: Path) -> Recorder:
    return Recorder(f"sqlite:///{folder}/mlruns/mlflow.db")


def test_trials_have_their_roles(recorder: Recorder):
    roles = Counter((trial.role, trial.arm) for trial in recorder.list_trials("arms"))
    assert roles == {
        ("arm", "all"): 2,
        ("arm", "no SF"): 2,
        ("search", "search"): 2,
        ("search", "all"): 2,
        ("search", "no SF"): 2,
        ("retuned", "all"): 1,
        ("retuned", "no SF"): 1,
    }
    roles = Counter((trial.role, trial.arm) for trial in recorder.list_trials("ladder"))
    assert roles == {
        ("base", "base"): 2,
        ("search", "search"): 2,
        ("finalist", "finalist 1"): 1,
    }


def test_configurations_and_figures_are_those_that_were_exported(recorder: Recorder, folder: Path):
    exported = {row["run_id"]: row for row in csv.DictReader((folder / "trials.csv").open())}
    trials = recorder.list_trials("arms")
    assert {trial.run_id for trial in trials} == set(exported)
    for trial in trials:
        row = exported[trial.run_id]
        assert trial.key == row["key"] == trial_key(trial.config)
        assert trial.metrics["best_val_logloss"] == float(row["best_val_logloss"])


@pytest.mark.parametrize("study", ["arms", "ladder"])
def test_the_report_has_the_same_tables(recorder: Recorder, folder: Path, study: str):
    report = build_report(recorder, study)
    tables = {table.key: to_csv(report, table) for table in report.tables}
    compared = 0
    for path in sorted((folder / "reports" / study / "tables").glob("*.csv")):
        assert path.stem in tables
        if path.stem in SAME_TABLES:
            assert read_figures(tables[path.stem]) == read_figures(path.read_text())
            compared += 1
    assert compared >= 3


def read_figures(text: str) -> list[list[str]]:
    """The cells of a table but its first two columns, which name trials and rows, and new ones."""
    header, *rows = csv.reader(io.StringIO(text))
    kept = [place for place, title in enumerate(header) if "80 % power" not in title]
    return [[row[place] for place in kept[2:]] for row in rows]


def test_it_is_listed_with_the_others(recorder: Recorder, folder: Path):
    listed = {study["study"]: study for study in list_studies(recorder)}
    assert set(listed) == {"arms", "ladder"}
    for name, study in listed.items():
        trials = recorder.list_trials(name)
        assert study["over"] == study["planned"] == len(trials)
        assert study["question"]
        assert study["best"] is not None
    # It has no page of its own in MLflow, so the link leads to the plain table of its runs.
    assert _find_link(recorder, "arms") == make_link(recorder.open_experiment("arms"), False)


def test_the_study_is_known_and_continues(recorder: Recorder, folder: Path, data: DataSet):
    """The same question on the same data finds every trial; nothing is left to run."""
    settings = [*TINY, "training.epochs=2"]
    for name, left in (("arms", 0), ("ladder", 0)):
        study = read_study(folder / f"{name}.yaml", preset="demo", sets=settings)
        run = recorder.get_study(name)
        definition = recorder.read_definition(run.run_id)
        same_data = data._replace(fingerprint=definition["data"])
        plan = make_served_plan(study, same_data)
        strategy = compare_with_record(plan, same_data, recorder)
        assert strategy.reused == len(recorder.list_trials(name))
        assert len(strategy.waiting) == left
        assert strategy.done


def test_it_goes_on_counting_with_the_best_epoch(recorder: Recorder, folder: Path, data: DataSet):
    """A file that asks for another rule is refused; one that says nothing goes on as it was."""
    definition = recorder.read_definition(recorder.get_study("arms").run_id)
    same_data = data._replace(fingerprint=definition["data"])
    settings = [*TINY, "training.epochs=2"]
    for rule, changes in (("best", []), ("last", ["select: best, now last"])):
        sets = [*settings, f"select={rule}"]
        plan = make_served_plan(
            read_study(folder / "arms.yaml", preset="demo", sets=sets), same_data
        )
        if changes:
            with pytest.raises(UserError) as caught:
                compare_with_record(plan, same_data, recorder)
            assert [change in str(caught.value) for change in changes] == [True]
        else:
            assert compare_with_record(plan, same_data, recorder).done

    plan = make_served_plan(
        read_study(folder / "arms.yaml", preset="demo", sets=settings), same_data
    )
    assert plan.study.rule == "crossfit"  # of a new study
    continued = compare_with_record(plan, same_data, recorder).plan
    assert continued.study.rule == "best"
    assert "select" not in continued.definition


def test_the_document_has_all_its_parts(recorder: Recorder):
    document = recorder.read_study_document(recorder.get_study("arms").run_id)
    assert document["metadata"]["question"].startswith("Do arms, searches and retuned arms")
    assert [search["name"] for search in document["metadata"]["searches"]] == [
        "search",
        "all",
        "no SF",
    ]
    assert len(document["invocations"]) == 1
    assert document["cost"]["trials"] == 12
    assert json.dumps(document["definition"]["seeds"]) == "[0, 1]"


def test_the_retrained_model_loads(recorder: Recorder):
    winner = find_winner(recorder, "arms")
    model, config, extra = read_model_folder(fetch_model(recorder, "best:arms"))
    # Version 0.1.0 retrained the luckiest seed of the configuration that wins.
    assert config in [trial.config for trial in winner.trials]
    outputs = model(torch.zeros(1, 64, 128), torch.zeros(1, 1, 3, 32, 32))
    assert outputs.scene_logits.shape == (1, 10)
    assert len(extra["event_names"]) == config.audio.classes
