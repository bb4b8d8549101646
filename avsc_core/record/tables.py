"""Runs and histories read in bulk from the tables of MLflow's database.

A study of thousands of trials is read at every command. MLflow's own search makes an object of
every param of every run, which takes most of the time, and nobody here needs a param: the
configuration is one tag. So columns are read as they are, without MLflow's objects. A record behind
a server has no tables to read; there MLflow's search is what there is (`recorder.py`).

    runs             run_uuid  experiment_id  start_time  lifecycle_stage
    tags             run_uuid  key  value
    latest_metrics   run_uuid  key  value  is_nan           the last value of each metric
    metrics          run_uuid  key  value  is_nan  step     all values
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Engine, Select, column, select, table

RUNS = table("runs", *map(column, ("run_uuid", "experiment_id", "start_time", "lifecycle_stage")))
TAGS = table("tags", *map(column, ("run_uuid", "key", "value")))
LAST = table("latest_metrics", *map(column, ("run_uuid", "key", "value", "is_nan")))
METRICS = table("metrics", *map(column, ("run_uuid", "key", "value", "is_nan", "step")))

Item = TypeVar("Item")
MOST_NAMES = 1000  # run ids in one query; databases have limits

History = list[tuple[int, float]]  # (epoch, value), in order


class StoredRun(NamedTuple):
    """What the readers of the record need of a run."""

    run_id: str
    start_time: int  # milliseconds since 1970
    tags: dict[str, str]
    metrics: dict[str, float]  # the last value of each


def read_runs(
    engine: Engine, experiments: Sequence[str], wanted: Mapping[str, str]
) -> list[StoredRun]:
    """Read the runs of some experiments that have the `wanted` tags, the latest first."""
    chosen = _choose_runs(experiments, wanted)
    inside = chosen.with_only_columns(RUNS.c.run_uuid)
    order = chosen.order_by(RUNS.c.start_time.desc(), RUNS.c.run_uuid)
    tags = select(TAGS.c.run_uuid, TAGS.c.key, TAGS.c.value).where(TAGS.c.run_uuid.in_(inside))
    metrics = select(LAST.c.run_uuid, LAST.c.key, LAST.c.value, LAST.c.is_nan).where(
        LAST.c.run_uuid.in_(inside)
    )
    with engine.connect() as connection:
        runs = {
            run_id: StoredRun(run_id, started, {}, {})
            for run_id, started in connection.execute(order)
        }
        # A run that began between two queries is not among those of the first.
        for run_id, key, value in connection.execute(tags):
            if run_id in runs:
                runs[run_id].tags[key] = value
        for run_id, key, value, is_nan in connection.execute(metrics):
            if run_id in runs:
                runs[run_id].metrics[key] = float("nan") if is_nan else value
    return list(runs.values())


def read_histories(engine: Engine, run_ids: Sequence[str], metric: str) -> dict[str, History]:
    """Read every value of a metric of some runs; a run without the metric is left out."""
    histories: dict[str, History] = defaultdict(list)
    with engine.connect() as connection:
        for names in split(run_ids, MOST_NAMES):
            query = (
                select(METRICS.c.run_uuid, METRICS.c.step, METRICS.c.value, METRICS.c.is_nan)
                .where(METRICS.c.run_uuid.in_(names), METRICS.c.key == metric)
                .order_by(METRICS.c.step, METRICS.c.value)
            )
            for run_id, step, value, is_nan in connection.execute(query):
                histories[run_id].append((step, float("nan") if is_nan else value))
    return dict(histories)


def split(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """Split items into parts of at most so many."""
    return [items[start : start + most] for start in range(0, len(items), most)]


def _choose_runs(experiments: Sequence[str], wanted: Mapping[str, str]) -> Select[Any]:
    """Choose the runs of some experiments that are not deleted and have the `wanted` tags."""
    query = select(RUNS.c.run_uuid, RUNS.c.start_time).where(
        RUNS.c.experiment_id.in_(list(map(int, experiments))), RUNS.c.lifecycle_stage == "active"
    )
    for key, value in wanted.items():
        tagged = select(TAGS.c.run_uuid).where(TAGS.c.key == key, TAGS.c.value == value)
        query = query.where(RUNS.c.run_uuid.in_(tagged))
    return query
