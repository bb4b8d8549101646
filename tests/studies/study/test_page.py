"""The page of a study in MLflow: which trials, columns and charts it asks for."""

import json
import re
from pathlib import Path

import mlflow.server
import pytest

from studies.study.page import KEY, TAG, list_varying, make_link, make_page_tags
from studies.study.plan import make_plan
from studies.study.reading import read_study
from studies.study.tables import list_shipped
from tests.builders.studies import read

ARMS = """\
question: q
seeds: [0, 1]
metric: val_logloss
arms:
  - {name: all}
  - {name: no SF, set: {fusion.kind: none}}
search: {space: {alignment.k: {low: 1, high: 8}}}
"""


def read_page(tags: dict[str, str]) -> dict[str, object]:
    """Read the page as MLflow's own pages do."""
    page = json.loads(tags[TAG])
    assert isinstance(page["name"], str)
    assert isinstance(page["createdAt"], int)
    return json.loads(page["state"])


def test_a_page_shows_trials_by_the_deciding_metric(tmp_path: Path):
    page = read_page(make_page_tags(make_plan(read(tmp_path, ARMS))))
    assert page["searchFilter"] == "tags.`avsc.kind` = 'trial'"
    assert page["orderByKey"] == "metrics.`selected_val_logloss`"
    assert page["orderByAsc"] is True
    columns = page["selectedColumns"]
    assert columns[:3] == ["tags.`avsc.arm`", "tags.`avsc.outcome`", "params.`seed`"]
    assert columns[-2:] == ["params.`alignment.k`", "params.`fusion.kind`"]
    charts = page["compareRunCharts"]
    assert [chart["type"] for chart in charts] == ["PARALLEL", "SCATTER", "LINE", "LINE"]
    assert {chart["metricSectionId"] for chart in charts} == {
        section["uuid"] for section in page["compareRunSections"]
    }
    assert charts[0]["selectedParams"] == ["alignment.k", "fusion.kind"]


def test_what_varies_is_searched_or_differs_among_arms(tmp_path: Path):
    assert list_varying(make_plan(read(tmp_path, ARMS))) == ["alignment.k", "fusion.kind"]
    one = "question: q\nseeds: [0, 1]\narms: [{name: one}]\n"
    plan = make_plan(read(tmp_path, one))
    assert list_varying(plan) == []
    charts = read_page(make_page_tags(plan))["compareRunCharts"]
    assert [chart["type"] for chart in charts] == ["SCATTER", "LINE", "LINE"]


@pytest.mark.parametrize("name", list_shipped())
def test_the_page_of_every_study_that_ships_fits_a_tag(name: str):
    tags = make_page_tags(make_plan(read_study(Path(f"studies/{name}.yaml"))))
    # MLflow takes 20,000 characters; its older servers 5,000.
    assert max(map(len, tags.values())) < 5000


def test_mlflow_still_knows_these_names():
    """The names are of MLflow's own pages, which another version may change without a word."""
    build = Path(mlflow.server.__file__).parent / "js/build/static/js"
    text = "".join(path.read_text() for path in build.glob("*.js"))
    page = read_page(make_page_tags(make_plan(read_study(Path("studies/lambda.yaml")))))
    names = {TAG.removesuffix(KEY), "mlflow.experimentKind", "custom_model_development", *page}
    names |= {"viewStateShareKey", "workflowType", "machine_learning", "FIRST_20_RUNS"}
    for chart in page["compareRunCharts"]:
        names |= {*chart, f'="{chart["type"]}"'}
    for name in names:
        start = "" if name.startswith("=") else r"\b"
        end = "" if name.endswith((".", '"')) else r"\b"
        assert re.search(f"{start}{re.escape(name)}{end}", text), name


def test_a_link_without_a_page_is_the_table_of_runs():
    assert make_link("3", False) == "/#/experiments/3/runs?workflowType=machine_learning"
    assert f"viewStateShareKey={KEY}&" in make_link("3", True)
