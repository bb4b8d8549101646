"""The page of a study in MLflow: its trials, the columns that matter first, and charts.

MLflow keeps a page that somebody shares as a tag of the experiment, and opens it at a link with the
tag's name. The names below are those of the pinned MLflow's own pages; what another version does
not know it leaves out, and shows its plain table of runs.
"""

import json
import time
from collections.abc import Sequence
from typing import Any

from avsc_core.metrics import sign_of
from search_spaces.inactive import list_active
from studies.study.plan import Plan

KEY = "avsc"  # of the link, and the end of the tag's name
TAG = f"mlflow.sharedViewState.{KEY}"
# MLflow shows an experiment of this kind without its pages for chats and agents.
KIND = {"mlflow.experimentKind": "custom_model_development"}

SECTION = "avsc"  # of the charts
FIGURES = ("selected_val_acc", "selected_val_logloss")
CURVES = ("val_acc", "val_logloss")
MOST_PARALLEL = 8  # axes that can be told apart


def make_page_tags(plan: Plan, now: float | None = None) -> dict[str, str]:
    """Return the tags of a study's experiment that make MLflow show its page."""
    name = f"trials of {plan.study.name}"
    at = int(1000 * (time.time() if now is None else now))
    page = {"name": name, "createdAt": at, "updatedAt": at, "state": json.dumps(describe(plan))}
    return {TAG: json.dumps(page), **KIND}


def make_link(experiment_id: str, has_page: bool) -> str:
    """Return the end of the address of a study's trials in MLflow."""
    shared = f"viewStateShareKey={KEY}&" if has_page else ""
    return f"/#/experiments/{experiment_id}/runs?{shared}workflowType=machine_learning"


def describe(plan: Plan) -> dict[str, Any]:
    """Describe the page: its trials sorted by the deciding metric, its columns and its charts."""
    metric = plan.study.metric
    varying = list_varying(plan)
    columns = [
        *(_name_column("tags", tag) for tag in ("avsc.arm", "avsc.outcome")),
        _name_column("params", "seed"),
        *(_name_column("metrics", figure) for figure in FIGURES),
        *(_name_column("params", key) for key in varying),
    ]
    return {
        "searchFilter": "tags.`avsc.kind` = 'trial'",
        "orderByKey": _name_column("metrics", f"selected_{metric}"),
        "orderByAsc": sign_of(metric) < 0,
        "selectedColumns": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunSections": [
            {
                "uuid": SECTION,
                "name": "Trials",
                "display": True,
                "isReordered": True,
                "columns": 2,
            }
        ],
        "compareRunCharts": _list_charts(varying),
    }


def list_varying(plan: Plan) -> list[str]:
    """List the settings in which trials of a study may differ but for the seed: searched ones, and
    those of its arms."""
    varying = {key: None for search in plan.searches for key in search.space.dimensions}
    first: dict[str, Any] = {}
    for trial in plan.trials:
        for key, value in list_active(trial.config).items():
            if first.setdefault(key, value) != value and key != "seed":
                varying[key] = None
    return list(varying)


def _list_charts(varying: Sequence[str]) -> list[dict[str, Any]]:
    """List the charts: what varies, both figures against each other, and learning curves."""
    charts: list[dict[str, Any]] = []
    if varying:
        charts.append(
            {
                "type": "PARALLEL",
                "selectedParams": list(varying[:MOST_PARALLEL]),
                "selectedMetrics": [FIGURES[0]],
                "showAllRuns": True,
            }
        )
    charts.append(
        {
            "type": "SCATTER",
            "xaxis": {"key": FIGURES[1], "type": "METRIC"},
            "yaxis": {"key": FIGURES[0], "type": "METRIC"},
            "runsCountToCompare": 100,
        }
    )
    for metric in CURVES:
        charts.append(
            {
                "type": "LINE",
                "metricKey": metric,
                "selectedMetricKeys": [metric],
                "xAxisKey": "step",
                "xAxisScaleType": "linear",
                "scaleType": "linear",
                "yAxisKey": "metric",
                "yAxisExpressions": [],
                "range": {},
                "lineSmoothness": 0,
                "useGlobalXaxisKey": True,
                "useGlobalLineSmoothing": True,
            }
        )
    for number, chart in enumerate(charts):
        chart |= {"uuid": f"{SECTION}-{number}", "metricSectionId": SECTION}
        chart |= {"deleted": False, "isGenerated": False}
    return charts


def _name_column(kind: str, key: str) -> str:
    """Name a column as MLflow does: kind, and the key in backticks."""
    return f"{kind}.`{key}`"
