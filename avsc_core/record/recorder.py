"""The record of trials in MLflow: written here and read back, because it is a study's only memory.

An experiment holds one study. It has one run for the study (`avsc.kind=study`) and under it one
run for each trial (`avsc.kind=trial`), created before the trial starts, so that an interrupted
trial is found and continued. Retrainings (`avsc.kind=training`) stand beside them. A run's params
are the resolved configuration with dotted names, its tag `avsc.config` holds the same as JSON, and
metrics come once an epoch in one call.

The study's run has one document, `study.json`: what the study asks (`definition`), what a report
needs (`metadata`), every invocation that trained something, the cost that was estimated, and what
became of pretrained weights. Its definition is in tags of that run too, so that a study continues
where its artifacts are out of reach.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, wraps
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

# MLflow reads some of these switches when it is imported. What the user has set stays.
SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # It prints addresses of runs, with the password of the record in them.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By itself it tries seven times, two minutes each, before it says that a server is away.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "PGCONNECT_TIMEOUT": "4",  # of PostgreSQL's library, in seconds
}
for switch, value in SWITCHES.items():
    os.environ.setdefault(switch, value)

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from avsc_core import __version__
from avsc_core.config import Config
from avsc_core.errors import EnvironmentFault, Fault, LeaseLost, UserError, make_error, suggest
from avsc_core.record.address import (
    choose_address,
    find_missing_file,
    hide_secrets,
    locate_artifacts,
)
from avsc_core.record.artifacts import Artifacts
from avsc_core.record.contact import reach
from avsc_core.record.environment import merge_environments
from avsc_core.record.recipe import MIXED_RECIPE, compute_recipe
from avsc_core.record.store import create_database
from avsc_core.record.study_document import (
    DOCUMENT,
    join_definition,
    read_document,
    split_definition,
)
from avsc_core.record.tables import History, StoredRun, read_histories, read_runs, split
from avsc_core.record.trials import (
    CHEAP_RUNG,
    OUTCOMES,
    FinishedTraining,
    TrialRecord,
    count_once,
    name_row,
    name_run,
    read_role,
)
from avsc_core.resolve import (
    format_value,
    hash_weights,
    list_settings,
    nest,
    read_recorded,
    share_sections,
    trial_key,
)
from avsc_core.terminal import err
from avsc_core.yaml_file import read_value

Class = TypeVar("Class")

# What MLflow takes in one call: 100 params, 100 tags, and 1,000 of all with the metrics.
MOST_PARAMS = 100
MOST_METRICS = 800
READERS = 8  # threads that ask a server for one history each
ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"  # MLflow's code of that error
LEASE = "avsc.lease"  # the tag of an experiment that says which process runs the study
COPY = "copy"  # the kind of a run that is being copied from another study; nobody counts it

OPERATION = "avsc.operation"  # the tag that names what created a run, so that it is created once

# What MLflow answers where the same write would be refused again: its run was deleted, for example.
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


def open_record(uri: str | None) -> "Recorder":
    """Open the record to read from it. Raises UserError when there is none."""
    if file := find_missing_file(uri):
        raise UserError(Fault(file, "no record in this folder", todo="run a study first"))
    return Recorder(uri)


class Refused(EnvironmentFault):
    """The record answers, and does not accept what it is asked."""


def report_record_faults(recorder: type[Class]) -> type[Class]:
    """Make every public method of a recorder raise a failing record as an EnvironmentFault of one
    line."""

    def guard(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.lost:
                raise LeaseLost(Fault("record", self.lost, todo="the study goes on there"))
            if self.away:
                raise EnvironmentFault(Fault("record", self.away))
            try:
                return method(self, *args, **kwargs)
            except (MlflowException, SQLAlchemyError, OSError) as error:
                # SQLAlchemy adds the statement, which is a page long.
                reason = str(error).partition("\n[SQL: ")[0]
                what = hide_secrets(f"{self.uri}: {reason}")
                fault = Fault("record", what, todo="the same command continues")
                is_refused = getattr(error, "error_code", "") in REFUSALS
                raise (Refused if is_refused else EnvironmentFault)(fault) from None

        return call

    for name, method in list(vars(recorder).items()):
        if not name.startswith("_"):
            setattr(recorder, name, guard(method))
    return recorder


@report_record_faults
class Recorder:
    """The record at a tracking address; by default an SQLite file in `mlruns/` of the current
    folder."""

    def __init__(self, uri: str | None = None) -> None:
        self.uri = choose_address(uri)
        self.lost = ""  # who took the study's lease; then nothing is read or written any more
        self.away = ""  # why nobody waits for the record any more, once somebody has given it up
        self._configs: dict[str, Config] = {}  # run id -> its configuration, which never changes
        # (study, kind) -> what `list_trials` has read since something was last written
        self._listed: dict[tuple[str, str], list[TrialRecord]] = {}
        self._checked: set[str] = set()  # experiments whose artifacts can be reached
        self._named: set[str] = set()  # studies whose duplicates have been named

        # MLflow and its migrations are quiet unless something is wrong; of a store that is away
        # they would log pages, but that is told in one line.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        for name in ("mlflow.store.db", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.CRITICAL)

        # A first query opens the store, so that a wrong address shows here.
        self.client = reach(self.uri, lambda: _open_client(self.uri))
        self.artifacts = Artifacts(self.client, self.uri)

    # Studies

    def open_experiment(self, name: str) -> str:
        """Return the id of the experiment `name`, which is created when it does not exist.

        Raises UserError when it was deleted, EnvironmentFault when its artifacts are out of reach.
        """
        found = self.client.get_experiment_by_name(name)
        is_new = found is None
        if found is None:
            folder = locate_artifacts(self.uri)
            location = (folder / name).as_uri() if folder else None
            try:
                self.client.create_experiment(name, artifact_location=location)
            except MlflowException as error:
                # Where two commands create it at once, one is told that it exists.
                if error.error_code != ALREADY_EXISTS:
                    raise
            found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage == "deleted":
            what = f"study {name} was deleted from the record"
            raise UserError(Fault("--name", what, todo="restore it in the MLflow UI or use --name"))
        if name not in self._checked:
            self.artifacts.check(found, is_new)
            self._checked.add(name)
        return str(found.experiment_id)

    def read_lease(self, study: str) -> str:
        """Return the text of a study's lease (`lease.py`); empty where there is none."""
        found = self.client.get_experiment_by_name(study)
        return str(found.tags.get(LEASE, "")) if found else ""

    def write_lease(self, study: str, lease: str) -> None:
        """Write the lease of a study in place of the one before.

        It is a tag of the experiment, whose name only one can create: so a study gets its run from
        whoever has the lease already.
        """
        self.client.set_experiment_tag(self.open_experiment(study), LEASE, lease)

    def list_studies(self) -> list[Run]:
        """Return the runs of all studies, the latest first."""
        runs = self._search(self._list_experiments(), "tags.`avsc.kind` = 'study'")
        return sorted(runs, key=_find_start, reverse=True)

    def get_study(self, name: str | None, where: str = "--study") -> Run:
        """Return the run of study `name`, or of the latest one.

        Raises UserError, at `where`, when there is none.
        """
        runs = self.list_studies()
        for run in runs:
            if name is None or run.data.tags["avsc.study"] == name:
                return run
        if name is None or not runs:
            what = "the record holds no study"
            record = f"record {hide_secrets(self.uri)}"
            raise UserError(Fault(where, what, record, "run one first"))
        names = {run.data.tags["avsc.study"] for run in runs}
        raise UserError(Fault(where, f"no study '{name}' in the record", suggest(name, names)))

    def find_study(self, name: str) -> Run | None:
        """Return the run of study `name`, or None when the record does not have it."""
        return next(iter(self._search_experiment(name, "study")), None)

    def open_study_run(
        self, name: str, tags: Mapping[str, str], document: Mapping[str, Any]
    ) -> str:
        """Open the run of a study, new or RUNNING again, and write its document.

        Returns the id of the run.
        """
        # `list_studies` sorts by this start; no study is complete while it runs.
        state = {"avsc.started": str(tell_time()), "avsc.outcome": "running", **tags}
        run = self.find_study(name)
        if run is None:
            identity = {"avsc.kind": "study", "avsc.study": name, "avsc.version": __version__}
            experiment = self.open_experiment(name)
            run = self.client.create_run(experiment, run_name=name, tags={**identity, **state})
        else:
            self.client.update_run(run.info.run_id, status="RUNNING")
            self._write(run.info.run_id, tags=state)
        run_id = str(run.info.run_id)
        self.write_study_document(run_id, document)
        return run_id

    def write_study_document(self, run_id: str, document: Mapping[str, Any]) -> None:
        """Write the document of a study (`study_document.py`) in place of the one before."""
        self.log_json(run_id, DOCUMENT, document)
        # The tags come second: a run that has them has the document.
        self._write(run_id, tags=split_definition(document.get("definition", {})))

    def read_study_document(self, run_id: str) -> dict[str, Any]:
        """Return the document of a study, also of one that an earlier version recorded.

        It is empty when the study was cut off before it was written, and so before any trial.
        Raises EnvironmentFault when the file is missing where the record says it is.
        """
        document = read_document(lambda name: self.read_json(run_id, name))
        if not document and join_definition(self.client.get_run(run_id).data.tags):
            self.read_lines(run_id, DOCUMENT)  # which says what is missing where
        return document

    def read_definition(self, run_id: str) -> dict[str, Any]:
        """Return what a study asks; empty as `read_study_document`."""
        definition = join_definition(self.client.get_run(run_id).data.tags)
        return definition or self.read_study_document(run_id).get("definition", {})

    # Trials and trainings

    def list_trials(self, study: str, kind: str = "trial") -> list[TrialRecord]:
        """Return every trial (or `training`) of a study in the order in which they were started.

        They are read once, and again after this recorder has written something. Of several runs of
        one trial, one counts; the others are named.
        """
        trials = self._listed.get((study, kind))
        if trials is None:
            found = self.client.get_experiment_by_name(study)
            runs = self._read_runs([found.experiment_id], {"avsc.kind": kind}) if found else []
            trials = sorted(map(self._read_trial, runs), key=lambda trial: trial.started)
            if kind == "trial":
                trials = self._count_once(study, trials)
            self._listed[study, kind] = trials
        return list(trials)

    def find_runs(self, study: str, kind: str, condition: str = "") -> list[Run]:
        """Return the runs of a kind in a study that meet a condition of MLflow's (" and ...")."""
        return self._search_experiment(study, kind, condition)

    def begin_run(
        self, experiment: str, config: Config, tags: Mapping[str, str], parent: str | None = None
    ) -> str:
        """Create a run for a trial, with its configuration as params. Returns its id."""
        return self.create_run(experiment, **describe_run(config, tags, parent))

    def create_run(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        at: int | None = None,
        run_id: str = "",  # of the run, where creating it was cut off
    ) -> str:
        """Create a run as `describe_run` describes it. Returns its id."""
        # The tags come with the run, which is an unfinished trial from its first moment. Params
        # that it lacks when it is cut off here are written by the next start (`repair.py`).
        if not run_id:
            run = self.client.create_run(
                self.open_experiment(experiment), run_name=name, start_time=at, tags=tags
            )
            run_id = str(run.info.run_id)
        self._write(run_id, params=params)
        return run_id

    def write_params(self, run_id: str, config: Config) -> None:
        """Write a configuration as the params of a run; those that it has stay as they are."""
        self._write(run_id, params=format_settings(config))

    def list_begun(self, experiment: str, operation: str) -> list[str]:
        """Return the ids of the runs that an operation created, the one that has most first.

        They are several when a call was repeated whose answer had been lost.
        """
        query = f"tags.`{OPERATION}` = '{operation}'"
        found = self.client.search_runs([self.open_experiment(experiment)], query)
        found.sort(key=lambda run: -len(run.data.params) - len(run.data.metrics))
        return [str(run.info.run_id) for run in found]

    def resume_run(self, run_id: str) -> None:
        """Turn an interrupted run RUNNING again."""
        recipe = self.client.get_run(run_id).data.tags.get("avsc.recipe", "")
        if recipe != compute_recipe():
            recipe = MIXED_RECIPE
        self.client.update_run(run_id, status="RUNNING")
        self._write(run_id, tags={"avsc.outcome": "running", "avsc.recipe": recipe})

    def add_environment(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write with what and on what a run is computed (`environment.py`).

        A run that continues keeps what it was computed with before.
        """
        earlier = self.client.get_run(run_id).data.tags
        self._write(run_id, tags=merge_environments(earlier, tags))

    def list_finished_trainings(
        self, data: str, recipe: str, but_of: str = ""
    ) -> list[FinishedTraining]:
        """Return the trials of all studies that were completed on this data with this recipe.

        Those of study `but_of` are left out.

        `data` is the fingerprint of the data set. Trials that were taken over themselves are
        left out, and so are those of a ladder's cheap rung.
        """
        wanted = {
            "avsc.kind": "trial",
            "avsc.outcome": "complete",
            "avsc.data_fingerprint": data,
            "avsc.recipe": recipe,
        }
        trainings = []
        for run in self._read_runs(self._list_experiments(but_of), wanted):
            tags = run.tags
            if "avsc.taken_from" not in tags and tags.get("avsc.rung") != CHEAP_RUNG:
                key = tags["avsc.trial_key"]
                trainings.append(FinishedTraining(run.run_id, tags["avsc.study"], key, run.metrics))
        return trainings

    def take_over_run(
        self,
        source: FinishedTraining,
        experiment: str,
        tags: Mapping[str, str],
        parent: str,
        run_id: str = "",  # of the copy, where copying was cut off
    ) -> str:
        """Copy a completed trial of another study into `experiment`, under its run `parent`.

        The copy has the params, the metrics of every epoch and the artifacts of the source, and
        its tags but for those of its place in its study, which `tags` gives. Returns its id.
        """
        run = self.client.get_run(source.run_id)
        link = f"#/experiments/{run.info.experiment_id}/runs/{source.run_id}"
        all_tags = {
            "avsc.taken_from": source.run_id,
            "avsc.taken_from_study": source.study,
            "mlflow.parentRunId": parent,
            # What MLflow shows as the description of a run.
            "mlflow.note.content": f"Taken over from [a trial of study {source.study}]({link}).",
            **tags,
        }
        for tag, value in run.data.tags.items():
            if tag.startswith("avsc.") and tag not in ("avsc.rung", "avsc.origin", OPERATION):
                all_tags.setdefault(tag, value)

        # It becomes a trial once it is whole; the next start goes on with it, or deletes it.
        if not run_id:
            row = name_row(tags["avsc.role"], tags["avsc.arm"])
            copy = self.client.create_run(
                self.open_experiment(experiment),
                run_name=name_run(row, source.key),
                tags={**all_tags, "avsc.kind": COPY},
            )
            run_id = str(copy.info.run_id)
        self._log_batches(run_id, [], [Param(*item) for item in run.data.params.items()], [])
        self._copy_metrics(run, run_id)
        self.artifacts.copy(source.run_id, run_id)
        self._write(run_id, tags={"avsc.kind": "trial"})
        self.client.set_terminated(run_id, OUTCOMES["complete"])
        return run_id

    def read_outcome(self, run_id: str) -> str:
        """Return how a run ended, or `running`."""
        return str(self.client.get_run(run_id).data.tags.get("avsc.outcome", "running"))

    def delete_run(self, run_id: str) -> None:
        """Delete a run; MLflow keeps it in its bin."""
        self.client.delete_run(run_id)
        self._listed.clear()

    def read_history(self, run_id: str, metric: str) -> History:
        """Return (epoch, value) of a metric, in order."""
        points = self.client.get_metric_history(run_id, metric)
        return sorted((point.step, point.value) for point in points)

    def read_histories(self, run_ids: Iterable[str], metric: str) -> list[History]:
        """Return what `read_history` does for each of many runs, in far less time."""
        run_ids = list(run_ids)
        if self._engine:
            histories = read_histories(self._engine, run_ids, metric)
            return [histories.get(run_id, []) for run_id in run_ids]
        # A server answers for one run at a time; most of that time is waiting.
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(lambda run_id: self.read_history(run_id, metric), run_ids))

    def log_epoch(
        self, run_id: str, number: int, metrics: Mapping[str, float], at: int | None = None
    ) -> None:
        """Write one epoch's metrics in one call; `number` counts from 1 and is MLflow's step.

        `at` is when it ended, in milliseconds since 1970. Repeated with the same `at`, the call
        changes nothing.
        """
        self._write(run_id, metrics=metrics, step=number, at=at)

    def end_run(
        self,
        run_id: str,
        outcome: str,  # a key of OUTCOMES
        metrics: Mapping[str, float],
        tags: Mapping[str, str] = {},
        at: int | None = None,
    ) -> None:
        """Close a run with its outcome and its summary metrics; `at` as in `log_epoch`."""
        self._write(run_id, metrics=metrics, tags={"avsc.outcome": outcome, **tags}, at=at)
        self.client.set_terminated(run_id, OUTCOMES[outcome], at)

    # Artifacts

    def log_text(self, run_id: str, name: str, content: str) -> None:
        """Write an artifact of text."""
        self.artifacts.log_text(run_id, name, content)

    def log_json(self, run_id: str, name: str, content: Any) -> None:
        """Write an artifact of JSON."""
        self.artifacts.log_text(run_id, name, json.dumps(content, indent=2))

    def log_file(self, run_id: str, local: Path) -> None:
        """Write a file as an artifact."""
        self.artifacts.log_file(run_id, local)

    def log_folder(self, run_id: str, local: Path, name: str) -> str:
        """Write a folder of artifacts. Returns its address."""
        return self.artifacts.log_folder(run_id, local, name)

    def has_artifact(self, run_id: str, name: str) -> bool:
        """Tell whether a run has an artifact of that name."""
        return self.artifacts.has(run_id, name)

    def read_json(self, run_id: str, name: str) -> Any:
        """Return an artifact of JSON; an empty dict when the run has none of that name."""
        if not self.artifacts.has(run_id, name):
            return {}
        try:
            return json.loads("\n".join(self.read_lines(run_id, name)))
        except json.JSONDecodeError as error:
            raise _make_artifact_error(run_id, name, f"is not JSON ({error})") from None

    def read_lines(self, run_id: str, name: str) -> list[str]:
        """Return the lines of an artifact of text. Raises UserError when it is none."""
        try:
            path = Path(self.fetch_artifact(run_id, name))
            return path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise _make_artifact_error(run_id, name, f"is not text ({error})") from None

    def fetch_artifact(self, run_id: str, name: str) -> str:
        """Return the local path of an artifact.

        Raises EnvironmentFault when it is missing where the record says it is.
        """
        return self.artifacts.fetch(run_id, name)

    # Models

    def register_model(self, run_id: str, source: str, name: str, alias: str) -> str:
        """Register the model at `source` as the next version of `name` and point `alias` at it.

        Returns the version.
        """
        if not self.client.search_registered_models(f"name='{name}'"):
            self.client.create_registered_model(name)
        version = str(self.client.create_model_version(name, source, run_id).version)
        self.client.set_registered_model_alias(name, alias, version)
        return version

    def fetch_model(self, reference: str) -> Path:
        """Return the local folder of a model: a run id, `best:STUDY` or `models:/NAME@ALIAS`.

        Raises UserError when there is no such model.
        """
        try:
            return Path(self.fetch_artifact(self._find_model_run(reference), "model"))
        except (MlflowException, EnvironmentFault) as error:
            allowed = "a run id, best:STUDY, models:/NAME@ALIAS or a folder"
            what = hide_secrets(f"no model there ({error})")
            raise UserError(Fault(reference, what, allowed)) from None

    def _find_model_run(self, reference: str) -> str:
        """Return the id of the run that logged a model."""
        if reference.startswith("models:/"):
            name, _, alias = reference.removeprefix("models:/").partition("@")
            return str(self.client.get_model_version_by_alias(name, alias).run_id)
        if not reference.startswith("best:"):
            return reference

        study = self.get_study(reference.removeprefix("best:")).data.tags["avsc.study"]
        trainings = self.list_trials(study, "training")
        completed = [training for training in trainings if training.outcome == "complete"]
        if not completed:
            todo = f"`avsc-core train --best --study {study}` retrains its winner"
            raise UserError(Fault(reference, f"study {study} has no retrained model", todo=todo))
        return completed[-1].run_id

    # MLflow

    def _write(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] = {},
        params: Mapping[str, str] = {},
        tags: Mapping[str, str] = {},
        step: int = 0,
        at: int | None = None,
    ) -> None:
        """Write everything in one call where MLflow takes it, because calls cost time."""
        now = at or tell_time()
        self._log_batches(
            run_id,
            [Metric(name, float(value), now, step) for name, value in metrics.items()],
            [Param(*item) for item in params.items()],
            [RunTag(*tag) for tag in tags.items()],
        )

    def _log_batches(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> None:
        """Write in as few calls as MLflow allows.

        Tags stand in the last calls, because they say that a run counts, and how it ended.
        """
        parts = [
            split(metrics, MOST_METRICS),
            split(params, MOST_PARAMS),
            split(tags, MOST_PARAMS),
        ]
        calls = list(zip_longest(*map(reversed, parts), fillvalue=()))
        for call in reversed(calls):
            self.client.log_batch(run_id, *call)
        self._listed.clear()

    def _search_experiment(self, name: str, kind: str, condition: str = "") -> list[Run]:
        """Return the runs of a kind in the experiment `name`, if there is such an experiment."""
        found = self.client.get_experiment_by_name(name)
        query = f"tags.`avsc.kind` = '{kind}'{condition}"
        return self._search([found.experiment_id], query) if found else []

    def _copy_metrics(self, source: Run, run_id: str) -> None:
        """Copy the metrics of every epoch."""
        points: list[Metric] = []
        for name in source.data.metrics:
            points += self.client.get_metric_history(source.info.run_id, name)
        self._log_batches(run_id, points, [], [])

    def _list_experiments(self, but: str = "") -> list[str]:
        """Return the ids of all experiments, each of which holds one study, `but` that one's."""
        found = self.client.search_experiments()
        return [experiment.experiment_id for experiment in found if experiment.name != but]

    def _search(self, experiments: list[str], query: str) -> list[Run]:
        """Return all runs that a query of MLflow's finds, page by page, 1,000 at a time."""
        if not experiments:
            return []
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(experiments, query, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _count_once(self, study: str, trials: list[TrialRecord]) -> list[TrialRecord]:
        """Leave out the runs that do not count, and name them, once for each study."""
        counted, duplicates = count_once(trials)
        if study not in self._named:
            for trial in duplicates:
                what = f"trial {trial.key[:6]} of study {study} has another run"
                err.print(f"note: {what}; run {trial.run_id} does not count", soft_wrap=True)
        self._named.add(study)
        return counted

    @cached_property
    def _engine(self) -> Engine | None:
        """The database that the record is; None for a server."""
        scheme = self.uri.partition(":")[0].partition("+")[0]
        if scheme not in DATABASE_ENGINES:
            return None
        # MLflow's own function, because it knows MLflow's settings of databases.
        from mlflow.store.db.utils import create_sqlalchemy_engine

        engine: Engine = create_sqlalchemy_engine(self.uri)
        return engine

    def _read_runs(self, experiments: list[str], wanted: Mapping[str, str]) -> list[StoredRun]:
        """Read the runs with the `wanted` tags, the latest first."""
        if self._engine:
            return read_runs(self._engine, experiments, wanted)
        condition = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in wanted.items())
        return [
            StoredRun(run.info.run_id, run.info.start_time, run.data.tags, run.data.metrics)
            for run in self._search(experiments, condition)
        ]

    def _read_trial(self, run: StoredRun) -> TrialRecord:
        """Read a run as a trial. Its configuration is checked once and kept, because it never
        changes."""
        if run.run_id not in self._configs:
            self._configs[run.run_id] = share_sections(self._read_config(run))
        role, arm = read_role(run.tags)
        return TrialRecord(
            run_id=run.run_id,
            key=run.tags["avsc.trial_key"],
            role=role,
            arm=arm,
            seed=int(run.tags["avsc.seed"]),
            outcome=run.tags["avsc.outcome"],
            config=self._configs[run.run_id],
            metrics=run.metrics,
            tags=run.tags,
            started=run.start_time / 1000,
        )

    def _read_config(self, run: StoredRun) -> Config:
        """Read the configuration of a run from its tag, or from its params where version 0.1.0
        wrote no tag."""
        if "avsc.config" in run.tags:
            return read_recorded(json.loads(run.tags["avsc.config"]))
        params = self.client.get_run(run.run_id).data.params
        settings = {name: read_value(value) for name, value in params.items()}
        return read_recorded(nest(settings))


def _make_artifact_error(run_id: str, name: str, what: str) -> UserError:
    """Return the error of an artifact that is not what was written."""
    return make_error("record", f"{name} of run {run_id} {what}", todo="put the file back")


def describe_run(
    config: Config, tags: Mapping[str, str], parent: str | None = None
) -> dict[str, Any]:
    """Describe the run of a trial for `Recorder.create_run`: its name, tags and params."""
    key = trial_key(config)
    all_tags = {
        "avsc.trial_key": key,
        "avsc.seed": str(config.seed),
        "avsc.outcome": "running",
        "avsc.config": config.model_dump_json(),
        "avsc.recipe": compute_recipe(),
    }
    if parent:
        all_tags["mlflow.parentRunId"] = parent
    for branch, weights in hash_weights(config).items():
        text = weights if isinstance(weights, str) else json.dumps(weights)
        all_tags[f"avsc.weights.{branch}"] = text

    row = name_row(tags.get("avsc.role", ""), tags.get("avsc.arm", "training"))
    return {
        "name": name_run(row, key),
        "tags": {**all_tags, **tags},
        "params": format_settings(config),
    }


def format_settings(config: Config) -> dict[str, str]:
    """Return the settings of a configuration as the params of a run."""
    return {name: format_value(value) for name, value in list_settings(config).items()}


def tell_time() -> int:
    """Return the time in milliseconds since 1970, as MLflow counts it."""
    return int(time.time() * 1000)


def _open_client(uri: str) -> MlflowClient:
    """Open a record and put a first query to it."""
    create_database(uri)
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


def _find_start(run: Run) -> int:
    """Return when a study last began to run, in milliseconds since 1970."""
    return int(run.data.tags.get("avsc.started", run.info.start_time))
