"""The record of trials in MLflow, written: it is a study's only memory.

`reading/record.py` says what the record has. A trial's run is created before the trial starts, so
that an interrupted trial is found and continued. A run's params are the resolved configuration with
dotted names, its tag `avsc.config` holds the same as JSON, and metrics come once an epoch in one
call.

The study's run has one document, `study.json`: what the study asks (`definition`), what a report
needs (`metadata`), every invocation that trained something, the cost that was estimated, and what
became of pretrained weights. Its definition is in tags of that run too, so that a study continues
where its artifacts are out of reach.
"""

import json
import time
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from avsc_core import __version__
from avsc_core.config import Config
from avsc_core.errors import Fault, UserError
from avsc_core.record.address import locate_artifacts
from avsc_core.record.environment import merge_environments
from avsc_core.record.reading.database import split
from avsc_core.record.reading.guard import report_record_faults
from avsc_core.record.reading.record import COPY, LEASE, Record
from avsc_core.record.recipe import MIXED_RECIPE, compute_recipe
from avsc_core.record.study_document import DOCUMENT, split_definition
from avsc_core.record.trials import OUTCOMES, FinishedTraining, name_row, name_run
from avsc_core.resolve import format_value, hash_weights, list_settings, trial_key

# What MLflow takes in one call: 100 params, 100 tags, and 1,000 of all with the metrics.
MOST_PARAMS = 100
MOST_METRICS = 800
ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"  # MLflow's code of that error
OPERATION = "avsc.operation"  # the tag that names what created a run, so that it is created once


@report_record_faults
class Recorder(Record):
    """A record that is written as well as read."""

    def __init__(self, uri: str | None = None) -> None:
        super().__init__(uri)
        _ = self.client  # a record that MLflow cannot write shows before any work
        self._checked: set[str] = set()  # experiments whose artifacts can be reached

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

    def write_lease(self, study: str, lease: str) -> None:
        """Write the lease of a study in place of the one before.

        It is a tag of the experiment, whose name only one can create: so a study gets its run from
        whoever has the lease already.
        """
        self.client.set_experiment_tag(self.open_experiment(study), LEASE, lease)

    def write_page(self, study: str, tags: Mapping[str, str]) -> None:
        """Write the tags of a study's experiment by which MLflow shows its trials."""
        experiment = self.open_experiment(study)
        for tag, value in tags.items():
            self.client.set_experiment_tag(experiment, tag, value)

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
            new = self.client.create_run(experiment, run_name=name, tags={**identity, **state})
            run_id = str(new.info.run_id)
        else:
            run_id = run.run_id
            self.client.update_run(run_id, status="RUNNING")
            self._write(run_id, tags=state)
        self.write_study_document(run_id, document)
        return run_id

    def write_study_document(self, run_id: str, document: Mapping[str, Any]) -> None:
        """Write the document of a study (`study_document.py`) in place of the one before."""
        self.log_json(run_id, DOCUMENT, document)
        # The tags come second: a run that has them has the document.
        self._write(run_id, tags=split_definition(document.get("definition", {})))

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
        recipe = self.reader.read_run(run_id).tags.get("avsc.recipe", "")
        if recipe != compute_recipe():
            recipe = MIXED_RECIPE
        self.client.update_run(run_id, status="RUNNING")
        self._write(run_id, tags={"avsc.outcome": "running", "avsc.recipe": recipe})

    def add_environment(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write with what and on what a run is computed (`environment.py`).

        A run that continues keeps what it was computed with before.
        """
        earlier = self.reader.read_run(run_id).tags
        self._write(run_id, tags=merge_environments(earlier, tags))

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

    def delete_run(self, run_id: str) -> None:
        """Delete a run; MLflow keeps it in its bin."""
        self.client.delete_run(run_id)
        self._listed.clear()

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

    def _copy_metrics(self, source: Run, run_id: str) -> None:
        """Copy the metrics of every epoch."""
        points: list[Metric] = []
        for name in source.data.metrics:
            points += self.client.get_metric_history(source.info.run_id, name)
        self._log_batches(run_id, points, [], [])


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
