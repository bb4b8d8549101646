"""Reads a record from the tables of its database, many runs in a few queries.

A study of thousands of trials is read at every command. So columns are read as they are, without
MLflow's objects, and params are left where they are: a configuration is one tag.

    experiments      experiment_id  name  lifecycle_stage
    experiment_tags  experiment_id  key  value
    runs             run_uuid  experiment_id  start_time  status  artifact_uri  lifecycle_stage
    tags, params     run_uuid  key  value
    latest_metrics   run_uuid  key  value  is_nan           the last value of each metric
    metrics          run_uuid  key  value  is_nan  step     all values
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Engine, Select, column, create_engine, inspect, select, table

from avsc_core.record.reading.stored import History, NoSuchRun, StoredExperiment, StoredRun

EXPERIMENTS = table("experiments", *map(column, ("experiment_id", "name", "lifecycle_stage")))
EXPERIMENT_TAGS = table("experiment_tags", *map(column, ("experiment_id", "key", "value")))
RUN = ("run_uuid", "start_time", "status", "artifact_uri")  # as in StoredRun
RUNS = table("runs", *map(column, (*RUN, "experiment_id", "lifecycle_stage")))
TAGS = table("tags", *map(column, ("run_uuid", "key", "value")))
PARAMS = table("params", *map(column, ("run_uuid", "key", "value")))
LAST = table("latest_metrics", *map(column, ("run_uuid", "key", "value", "is_nan")))
METRICS = table("metrics", *map(column, ("run_uuid", "key", "value", "is_nan", "step")))

TABLES = (EXPERIMENTS, EXPERIMENT_TAGS, RUNS, TAGS, PARAMS, LAST, METRICS)

Item = TypeVar("Item")
CHOOSE_RUNS = select(*(RUNS.c[name] for name in RUN))
LOCK_SECONDS = 20.0  # for which MLflow too waits for a locked SQLite file
MOST_NAMES = 1000  # run ids in one query; databases have limits


class DatabaseReader:
    """The record in a database (`Reader` of stored.py)."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def find_experiment(self, name: str) -> StoredExperiment | None:
        """Return the experiment with this name, also a deleted one; None when there is none."""
        with self.engine.connect() as connection:
            query = select(EXPERIMENTS.c.experiment_id).where(EXPERIMENTS.c.name == name)
            number = connection.execute(query).scalar_one_or_none()
            if number is None:
                return None
            tags = select(EXPERIMENT_TAGS.c.key, EXPERIMENT_TAGS.c.value).where(
                EXPERIMENT_TAGS.c.experiment_id == number
            )
            return StoredExperiment(str(number), dict(connection.execute(tags).tuples().all()))

    def list_experiments(self) -> dict[str, str]:
        """Return the names of all experiments but deleted ones, by their ids."""
        query = select(EXPERIMENTS).where(EXPERIMENTS.c.lifecycle_stage == "active")
        with self.engine.connect() as connection:
            return {str(number): name for number, name, _ in connection.execute(query)}

    def search(
        self, experiments: Sequence[str], wanted: Mapping[str, str], status: str = ""
    ) -> list[StoredRun]:
        """Return the runs of some experiments that have the `wanted` tags, the latest first."""
        query = CHOOSE_RUNS.where(
            RUNS.c.experiment_id.in_(list(map(int, experiments))),
            RUNS.c.lifecycle_stage == "active",
        )
        for key, value in wanted.items():
            tagged = select(TAGS.c.run_uuid).where(TAGS.c.key == key, TAGS.c.value == value)
            query = query.where(RUNS.c.run_uuid.in_(tagged))
        if status:
            query = query.where(RUNS.c.status == status)
        # One that was deleted, or changed, between two queries has lost its tags.
        wanted_tags = wanted.items()
        return [run for run in self._read(query) if wanted_tags <= run.tags.items()]

    def read_run(self, run_id: str) -> StoredRun:
        """Return one run, also a deleted one. Raises NoSuchRun when there is none."""
        found = self._read(CHOOSE_RUNS.where(RUNS.c.run_uuid == run_id))
        if not found:
            raise NoSuchRun(f"no run {run_id}")
        return found[0]

    def read_params(self, run_id: str) -> dict[str, str]:
        """Return the params of a run."""
        query = select(PARAMS.c.key, PARAMS.c.value).where(PARAMS.c.run_uuid == run_id)
        with self.engine.connect() as connection:
            return dict(connection.execute(query).tuples().all())

    def read_histories(self, run_ids: Iterable[str], metric: str) -> list[History]:
        """Return every value of a metric of each run."""
        run_ids = list(run_ids)
        histories: dict[str, History] = defaultdict(list)
        with self.engine.connect() as connection:
            for names in split(run_ids, MOST_NAMES):
                query = (
                    select(METRICS.c.run_uuid, METRICS.c.step, METRICS.c.value, METRICS.c.is_nan)
                    .where(METRICS.c.run_uuid.in_(names), METRICS.c.key == metric)
                    .order_by(METRICS.c.step, METRICS.c.value)
                )
                for run_id, step, value, is_nan in connection.execute(query):
                    histories[run_id].append((step, float("nan") if is_nan else value))
        return [histories.get(run_id, []) for run_id in run_ids]

    def _read(self, query: Select[Any]) -> list[StoredRun]:
        """Return the runs that a query like CHOOSE_RUNS chooses, the latest first."""
        inside = query.with_only_columns(RUNS.c.run_uuid)
        order = query.order_by(RUNS.c.start_time.desc(), RUNS.c.run_uuid)
        tags = select(TAGS.c.run_uuid, TAGS.c.key, TAGS.c.value).where(TAGS.c.run_uuid.in_(inside))
        metrics = select(LAST.c.run_uuid, LAST.c.key, LAST.c.value, LAST.c.is_nan).where(
            LAST.c.run_uuid.in_(inside)
        )
        with self.engine.connect() as connection:
            runs: dict[str, StoredRun] = {}
            for run_id, started, status, artifacts in connection.execute(order):
                runs[run_id] = StoredRun(run_id, started, status, artifacts, {}, {})
            # A run that began between two queries is not among those of the first.
            for run_id, key, value in connection.execute(tags):
                if run_id in runs:
                    runs[run_id].tags[key] = value
            for run_id, key, value, is_nan in connection.execute(metrics):
                if run_id in runs:
                    runs[run_id].metrics[key] = float("nan") if is_nan else value
        return list(runs.values())


def open_database(uri: str) -> DatabaseReader:
    """Open a record in a database, to read from it."""
    if uri.startswith("sqlite:"):
        patience = {} if "timeout=" in uri else {"timeout": LOCK_SECONDS}
        return DatabaseReader(create_engine(uri, connect_args=patience))
    # MLflow's own function, because it knows MLflow's settings of databases on servers.
    from mlflow.store.db.utils import create_sqlalchemy_engine

    return DatabaseReader(create_sqlalchemy_engine(uri))


def lacks_tables(reader: DatabaseReader) -> bool:
    """Tell whether a database lacks a table that is read here. Raises SQLAlchemyError when it
    cannot be read."""
    return not {each.name for each in TABLES} <= set(inspect(reader.engine).get_table_names())


def split(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """Split items into parts of at most so many."""
    return [items[start : start + most] for start in range(0, len(items), most)]
