"""The record of trials in MLflow: written here, and read back, because it is the study's only memory.

Experiment = study. One run per study (`avsc.kind=study`) and under it one run per trial (`avsc.kind=trial`), created
before the trial starts, so that whatever is interrupted can be found and continued. Retrainings (`avsc.kind=training`)
stand beside them. Params are the resolved configuration with dotted names; metrics come once an epoch in one call.
Status at the end: complete and stopped are FINISHED, diverged and failed are FAILED, interrupted is KILLED.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
import logging

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from avsc_core import __version__
from avsc_core.config import Config
from avsc_core.errors import EnvironmentFault, Fault, UserError, suggest
from avsc_core.resolve import find_weights, flatten, format_value, nest, trial_key
from avsc_core.weights.sources import hash_source
from avsc_core.yaml_file import read_value

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
ARTIFACTS = Path("mlruns/artifacts")
CHECKPOINTS = Path(
    "mlruns/checkpoints"
)  # of unfinished trials; empty when nothing is left to continue
LOWER, UPPER = "lower", "upper"  # `avsc.rung` of the trials of a ladder
STATUS = {
    "complete": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
Class = TypeVar("Class")


def choose_address(uri: str | None) -> str:
    """Where the record is."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def find_missing_file(uri: str | None) -> str:
    """The SQLite file of a record that is not there yet, else nothing. Looking for it does not make it."""
    _, sqlite, path = choose_address(uri).partition("sqlite:///")
    return path if sqlite and not Path(path.partition("?")[0]).is_file() else ""


def open_record(uri: str | None) -> "Recorder":
    """The record, to read from. Raises UserError when there is none."""
    if file := find_missing_file(uri):
        raise UserError(Fault(file, "no record in this folder", todo="run a study first"))
    return Recorder(uri)


def report_record_faults(recorder: type[Class]) -> type[Class]:
    """Make every public method of a recorder tell a record that fails as the environment's fault, in one line."""

    def told(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except (MlflowException, OSError) as error:
                what = f"{self.uri}: {error}"
                raise EnvironmentFault(
                    Fault("record", what, todo="the same command continues")
                ) from None

        return call

    for name, method in list(vars(recorder).items()):
        if not name.startswith("_"):
            setattr(recorder, name, told(method))
    return recorder


class TrialRecord(NamedTuple):
    """A trial as the record knows it."""

    run_id: str
    key: str
    arm: str
    seed: int
    outcome: str  # one of STATUS, or "running"
    config: Config
    metrics: dict[str, float]  # the last value of each; best_* are those of the best epoch
    tags: dict[str, str]
    started: float  # seconds since 1970


@report_record_faults
class Recorder:
    """The record at a tracking address; the default is an SQLite file in `mlruns/` under the current folder."""

    def __init__(self, uri: str | None = None) -> None:
        self.uri = choose_address(uri)
        if self.uri == DEFAULT_URI:
            ARTIFACTS.mkdir(parents=True, exist_ok=True)
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            self.client = MlflowClient(self.uri)
            self.client.search_experiments(
                max_results=1
            )  # opens the store: a wrong address shows here
        except Exception as error:  # whatever the store's driver raises
            raise EnvironmentFault(
                Fault("--tracking-uri", f"{self.uri} does not answer ({error})")
            ) from None

    def open_experiment(self, name: str) -> str:
        """The id of the experiment `name`, made when it is new."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            folder = (ARTIFACTS / name).resolve().as_uri() if self.uri == DEFAULT_URI else None
            return str(self.client.create_experiment(name, artifact_location=folder))
        if found.lifecycle_stage == "deleted":
            todo = "restore it in the MLflow UI or use --name"
            raise UserError(Fault("--name", f"study {name} was deleted from the record", todo=todo))
        return str(found.experiment_id)

    def list_studies(self) -> list[Run]:
        """The runs of all studies, the latest first."""
        ids = [experiment.experiment_id for experiment in self.client.search_experiments()]
        runs = self._search(ids, "tags.`avsc.kind` = 'study'")
        return sorted(
            runs, key=lambda run: -int(run.data.tags.get("avsc.started", run.info.start_time))
        )

    def get_study(self, name: str | None, where: str = "--study") -> Run:
        """The run of study `name`, or of the latest one. Raises UserError, at `where`, when there is none."""
        runs = self.list_studies()
        for run in runs:
            if name is None or run.data.tags["avsc.study"] == name:
                return run
        if name is None or not runs:
            raise UserError(
                Fault(where, "the record holds no study", f"record {self.uri}", "run one first")
            )
        names = {run.data.tags["avsc.study"] for run in runs}
        raise UserError(Fault(where, f"no study '{name}' in the record", suggest(name, names)))

    def find_study(self, name: str) -> Run | None:
        """The run of study `name` when it is in the record."""
        found = self.client.get_experiment_by_name(name)
        runs = self._search([found.experiment_id], "tags.`avsc.kind` = 'study'") if found else []
        return runs[0] if runs else None

    def open_study(self, name: str, tags: Mapping[str, str], definition: Mapping[str, Any]) -> str:
        """The run of a study, new or turned RUNNING again; `definition` becomes study.json. Returns its id."""
        run = self.find_study(name)
        # Of this sitting: the latest study is what ran last, and none is complete while it runs.
        now = {"avsc.started": str(int(time.time() * 1000)), "avsc.outcome": "running"}
        if run is None:
            own = {"avsc.kind": "study", "avsc.study": name, "avsc.version": __version__, **now}
            run = self.client.create_run(
                self.open_experiment(name), run_name=name, tags=own | dict(tags)
            )
        else:
            self.client.update_run(run.info.run_id, status="RUNNING")
            self._write(run.info.run_id, tags=dict(tags) | now)
        run_id: str = run.info.run_id
        self.client.log_dict(run_id, dict(definition), "study.json")
        return run_id

    def read_definition(self, run_id: str) -> dict[str, Any]:
        """What `open_study` was given last; empty when it was cut off before it wrote that, and so before any trial."""
        return self.read_json(run_id, "study.json")

    def list_trials(self, study: str, kind: str = "trial") -> list[TrialRecord]:
        """Every trial of a study in the order they were started."""
        found = self.client.get_experiment_by_name(study)
        runs = self._search([found.experiment_id], f"tags.`avsc.kind` = '{kind}'") if found else []
        return sorted(map(_trial_record, runs), key=lambda trial: trial.started)

    def begin_run(
        self, experiment: str, config: Config, tags: Mapping[str, str], parent: str | None = None
    ) -> str:
        """A new run for a trial, with its configuration as params. Returns its id."""
        key = trial_key(config)
        own = {"avsc.trial_key": key, "avsc.seed": str(config.seed), "avsc.outcome": "running"}
        own |= {"mlflow.parentRunId": parent} if parent else {}
        own |= {
            f"avsc.weights.{branch}": hash_source(source)
            for branch, source in find_weights(config).items()
        }
        name = f"{tags.get('avsc.arm', 'training')} {key[:6]}"
        run = self.client.create_run(self.open_experiment(experiment), run_name=name)
        # Tags come with the params: a run that was cut off before them has no `avsc.kind` and counts for nothing.
        self._write(
            run.info.run_id,
            params=dict(flatten(config.model_dump(mode="json"))),
            tags=own | dict(tags),
        )
        return str(run.info.run_id)

    def resume_run(self, run_id: str) -> int:
        """Turn an interrupted run RUNNING again. Returns the last epoch it has metrics of, 0 for none."""
        self.client.update_run(run_id, status="RUNNING")
        self._write(run_id, tags={"avsc.outcome": "running"})
        return max((epoch for epoch, _ in self.read_history(run_id, "train_total")), default=0)

    def read_history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(epoch, value) of a metric, in order."""
        return sorted(
            (point.step, point.value) for point in self.client.get_metric_history(run_id, metric)
        )

    def log_epoch(self, run_id: str, number: int, metrics: Mapping[str, float]) -> None:
        """One epoch's metrics in one call; `number` counts from 1 and is the step."""
        self._write(run_id, metrics=metrics, step=number)

    def end_run(
        self,
        run_id: str,
        outcome: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Close a run with its outcome (a key of STATUS) and its summary metrics."""
        self._write(run_id, metrics=metrics, tags={"avsc.outcome": outcome, **(tags or {})})
        self.client.set_terminated(run_id, STATUS[outcome])

    def log_text(self, run_id: str, name: str, content: str) -> None:
        """An artifact of text."""
        self.client.log_text(run_id, content, name)

    def log_json(self, run_id: str, name: str, content: Any) -> None:
        """An artifact of JSON."""
        self.log_text(run_id, name, json.dumps(content, indent=2))

    def log_file(self, run_id: str, local: Path) -> None:
        """A file as an artifact."""
        self.client.log_artifact(run_id, str(local))

    def log_folder(self, run_id: str, local: Path, name: str) -> str:
        """A folder of artifacts. Returns its address."""
        self.client.log_artifacts(run_id, str(local), name)
        return f"{self.client.get_run(run_id).info.artifact_uri}/{name}"

    def register_model(self, run_id: str, source: str, name: str, alias: str) -> str:
        """Register the model at `source` as the next version of `name` and point `alias` at it. Returns the version."""
        if not self.client.search_registered_models(f"name='{name}'"):
            self.client.create_registered_model(name)
        version = str(self.client.create_model_version(name, source, run_id).version)
        self.client.set_registered_model_alias(name, alias, version)
        return version

    def fetch_model(self, reference: str) -> Path:
        """The local folder of a model: a run id, `best:STUDY` or `models:/NAME@ALIAS`. Raises UserError."""
        try:
            if reference.startswith("models:/"):
                name, _, alias = reference.removeprefix("models:/").partition("@")
                reference = self.client.get_model_version_by_alias(name, alias).run_id
            if reference.startswith("best:"):
                study = self.get_study(reference.removeprefix("best:")).data.tags["avsc.study"]
                trained = [
                    run for run in self.list_trials(study, "training") if run.outcome == "complete"
                ]
                if not trained:
                    todo = f"`avsc-core train --best --study {study}` retrains its winner"
                    raise UserError(
                        Fault(reference, f"study {study} has no retrained model", todo=todo)
                    )
                reference = trained[-1].run_id
            return Path(self._download(reference, "model"))
        except (MlflowException, OSError) as error:
            allowed = "a run id, best:STUDY, models:/NAME@ALIAS or a folder"
            raise UserError(Fault(reference, f"no model there ({error})", allowed)) from None

    def read_json(self, run_id: str, name: str) -> dict[str, Any]:
        """An artifact of JSON; empty when the run has none of that name."""
        if not any(item.path == name for item in self.client.list_artifacts(run_id)):
            return {}
        content: dict[str, Any] = json.loads("\n".join(self.read_lines(run_id, name)))
        return content

    def read_lines(self, run_id: str, name: str) -> list[str]:
        """An artifact of text."""
        return Path(self.fetch_artifact(run_id, name)).read_text(encoding="utf-8").splitlines()

    def fetch_artifact(self, run_id: str, name: str) -> str:
        """The local path of an artifact."""
        return self._download(run_id, name)

    def _download(self, run_id: str, name: str) -> str:
        return str(download_artifacts(run_id=run_id, artifact_path=name, tracking_uri=self.uri))

    def _write(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """One call for everything: calls, not values, are what costs."""
        now = int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[
                Metric(name, float(value), now, step) for name, value in (metrics or {}).items()
            ],
            params=[Param(name, format_value(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def _search(self, experiments: Sequence[str], query: str) -> list[Run]:
        """All runs that match, page by page."""
        runs: list[Run] = []
        token = None
        while experiments:
            page = self.client.search_runs(list(experiments), query, page_token=token)
            runs += page
            token = page.token
            if not token:
                break
        return runs


def _trial_record(run: Run) -> TrialRecord:
    """A run as a TrialRecord; its params are the configuration."""
    tags = run.data.tags
    config = Config.model_validate(
        nest({name: read_value(value) for name, value in run.data.params.items()})
    )
    metrics, started = dict(run.data.metrics), run.info.start_time / 1000
    key, arm, seed = tags["avsc.trial_key"], tags.get("avsc.arm", ""), int(tags["avsc.seed"])
    return TrialRecord(
        run.info.run_id, key, arm, seed, tags["avsc.outcome"], config, metrics, dict(tags), started
    )
