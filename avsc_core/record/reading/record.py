"""The record of trials as it is read: studies, their trials and documents, artifacts and models.

An experiment of MLflow's holds one study. It has one run for the study (`avsc.kind=study`) and
under it one run for each trial (`avsc.kind=trial`). Retrainings (`avsc.kind=training`) stand beside
them. A run's tag `avsc.config` holds its resolved configuration as JSON, and its metrics have one
value an epoch.

Reading an SQLite file takes no MLflow, which is slow to import; `recorder.py` writes with it.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, make_error, suggest
from avsc_core.record import quieten
from avsc_core.record.address import (
    DATABASES,
    choose_address,
    find_missing_file,
    hide_secrets,
    locate_database,
)
from avsc_core.record.artifacts import Artifacts
from avsc_core.record.contact import reach
from avsc_core.record.reading.database import lacks_tables, open_database
from avsc_core.record.reading.guard import report_record_faults
from avsc_core.record.reading.stored import History, Reader, StoredExperiment, StoredRun
from avsc_core.record.store import create_database
from avsc_core.record.study_document import DOCUMENT, join_definition, read_document
from avsc_core.record.trials import (
    CHEAP_RUNG,
    FinishedTraining,
    TrialRecord,
    count_once,
    read_role,
)
from avsc_core.resolve import nest, read_recorded, share_sections
from avsc_core.terminal import err
from avsc_core.yaml_file import read_value

if TYPE_CHECKING:
    from mlflow import MlflowClient

COPY = "copy"  # the kind of a run that is being copied from another study; nobody counts it
LEASE = "avsc.lease"  # the tag of an experiment that says which process runs the study


def open_record(uri: str | None) -> "Record":
    """Open the record to read from it. Raises UserError when there is none."""
    if file := find_missing_file(uri):
        todo = "run a study first, or give --tracking-uri"
        raise UserError(Fault(file, "no record in this folder", todo=todo))
    return Record(uri)


@report_record_faults
class Record:
    """The record at a tracking address; by default an SQLite file in `mlruns/` of the current
    folder."""

    def __init__(self, uri: str | None = None) -> None:
        self.uri = choose_address(uri)
        self.lost = ""  # who took the study's lease; then nothing is read or written any more
        self.away = ""  # why nobody waits for the record any more, once somebody has given it up
        self._configs: dict[str, Config] = {}  # run id -> its configuration, which never changes
        # (study, kind) -> what `list_trials` has read since something was last written
        self._listed: dict[tuple[str, str], list[TrialRecord]] = {}
        self._named: set[str] = set()  # studies whose duplicates have been named

        # A first query opens the store, so that a wrong address shows here.
        self.reader = self._open_reader()
        self.artifacts = Artifacts(
            self.uri, lambda run_id: self.reader.read_run(run_id).artifact_uri, lambda: self.client
        )

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client. Raises EnvironmentFault when the record does not answer it."""
        return reach(self.uri, lambda: _open_client(self.uri))

    # Studies

    def read_lease(self, study: str) -> str:
        """Return the text of a study's lease (`lease.py`); empty where there is none."""
        found = self.reader.find_experiment(study)
        return found.tags.get(LEASE, "") if found else ""

    def find_experiment(self, study: str) -> StoredExperiment | None:
        """Return the experiment of a study, if there is one."""
        return self.reader.find_experiment(study)

    def list_studies(self) -> list[StoredRun]:
        """Return the runs of all studies, the latest first."""
        runs = self.reader.search(self._list_experiments(), {"avsc.kind": "study"})
        return sorted(runs, key=_find_start, reverse=True)

    def get_study(self, name: str | None, where: str = "--study") -> StoredRun:
        """Return the run of study `name`, or of the latest one.

        Raises UserError, at `where`, when there is none.
        """
        runs = self.list_studies()
        for run in runs:
            if name is None or run.tags["avsc.study"] == name:
                return run
        if name is None or not runs:
            what = "the record holds no study"
            record = f"record {hide_secrets(self.uri)}"
            raise UserError(Fault(where, what, record, "run one first"))
        names = {run.tags["avsc.study"] for run in runs}
        raise UserError(Fault(where, f"no study '{name}' in the record", suggest(name, names)))

    def find_study(self, name: str) -> StoredRun | None:
        """Return the run of study `name`, or None when the record does not have it."""
        return next(iter(self._find_runs(name, {"avsc.kind": "study"})), None)

    def read_study_document(self, run_id: str) -> dict[str, Any]:
        """Return the document of a study, also of one that an earlier version recorded.

        It is empty when the study was cut off before it was written, and so before any trial.
        Raises EnvironmentFault when the file is missing where the record says it is.
        """
        document = read_document(lambda name: self.read_json(run_id, name))
        if not document and join_definition(self.reader.read_run(run_id).tags):
            self.read_lines(run_id, DOCUMENT)  # which says what is missing where
        return document

    def read_definition(self, run_id: str) -> dict[str, Any]:
        """Return what a study asks; empty as `read_study_document`."""
        definition = join_definition(self.reader.read_run(run_id).tags)
        return definition or self.read_study_document(run_id).get("definition", {})

    # Trials and trainings

    def list_trials(self, study: str, kind: str = "trial") -> list[TrialRecord]:
        """Return every trial (or `training`) of a study in the order in which they were started.

        They are read once, and again after this object has written something. Of several runs of
        one trial, one counts; the others are named.
        """
        trials = self._listed.get((study, kind))
        if trials is None:
            runs = self._find_runs(study, {"avsc.kind": kind})
            trials = sorted(map(self._read_trial, runs), key=lambda trial: trial.started)
            if kind == "trial":
                trials = self._count_once(study, trials)
            self._listed[study, kind] = trials
        return list(trials)

    def find_runs(
        self, study: str, kind: str, wanted: Mapping[str, str] = {}, status: str = ""
    ) -> list[StoredRun]:
        """Return the runs of a kind in a study that have the `wanted` tags and MLflow's status."""
        return self._find_runs(study, {"avsc.kind": kind, **wanted}, status)

    def list_finished_trainings(
        self, data: str, recipe: str, but_of: str = ""
    ) -> list[FinishedTraining]:
        """Return the completed trials of every study `but_of` that one that this recipe trained.

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
        for run in self.reader.search(self._list_experiments(but_of), wanted):
            tags = run.tags
            if "avsc.taken_from" not in tags and tags.get("avsc.rung") != CHEAP_RUNG:
                key = tags["avsc.trial_key"]
                trainings.append(FinishedTraining(run.run_id, tags["avsc.study"], key, run.metrics))
        return trainings

    def read_outcome(self, run_id: str) -> str:
        """Return how a run ended, or `running`."""
        return self.reader.read_run(run_id).tags.get("avsc.outcome", "running")

    def read_history(self, run_id: str, metric: str) -> History:
        """Return (epoch, value) of a metric, in order."""
        return self.reader.read_histories([run_id], metric)[0]

    def read_histories(self, run_ids: Iterable[str], metric: str) -> list[History]:
        """Return what `read_history` does for each of many runs, in far less time."""
        return self.reader.read_histories(run_ids, metric)

    # Artifacts

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

    # Inside

    def _open_reader(self) -> Reader:
        """Open the record to read from it; an SQLite file that is not there yet is made.

        Raises EnvironmentFault when it does not answer.
        """
        if locate_database(self.uri):
            return reach(self.uri, lambda: _open_file(self.uri))
        client = self.client
        if self.uri.startswith(DATABASES):
            return open_database(self.uri)
        # Imported here, because it takes MLflow.
        from avsc_core.record.reading.server import ServerReader

        return ServerReader(client)

    def _find_runs(
        self, study: str, wanted: Mapping[str, str], status: str = ""
    ) -> list[StoredRun]:
        """Return the runs with some tags in the experiment of a study, if there is one."""
        found = self.reader.find_experiment(study)
        return self.reader.search([found.experiment_id], wanted, status) if found else []

    def _list_experiments(self, but: str = "") -> list[str]:
        """Return the ids of all experiments, each of which holds one study, `but` that one's."""
        found = self.reader.list_experiments()
        return [number for number, name in found.items() if name != but]

    def _count_once(self, study: str, trials: list[TrialRecord]) -> list[TrialRecord]:
        """Leave out the runs that do not count, and name them, once for each study."""
        counted, duplicates = count_once(trials)
        if study not in self._named:
            for trial in duplicates:
                what = f"trial {trial.key[:6]} of study {study} has another run"
                err.print(f"note: {what}; run {trial.run_id} does not count", soft_wrap=True)
        self._named.add(study)
        return counted

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
        params = self.reader.read_params(run.run_id)
        settings = {name: read_value(value) for name, value in params.items()}
        return read_recorded(nest(settings))


def _make_artifact_error(run_id: str, name: str, what: str) -> UserError:
    """Return the error of an artifact that is not what was written."""
    return make_error("record", f"{name} of run {run_id} {what}", todo="put the file back")


def _open_file(uri: str) -> Reader:
    """Open a record in an SQLite file to read from it, and put a first query to it."""
    create_database(uri)
    reader = open_database(uri)
    if lacks_tables(reader):
        _open_client(uri)  # makes them, or says what is wrong
    return reader


def _open_client(uri: str) -> "MlflowClient":
    """Open a record with MLflow and put a first query to it."""
    from mlflow import MlflowClient

    quieten()
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


def _find_start(run: StoredRun) -> int:
    """Return when a study last began to run, in milliseconds since 1970."""
    return int(run.tags.get("avsc.started", run.start_time))
