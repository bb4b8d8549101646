"""Reads a record through MLflow's client, as it is done where a server stands before the tables."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from mlflow import MlflowClient
from mlflow.entities import Run

from avsc_core.record.reading.stored import History, StoredExperiment, StoredRun

READERS = 8  # threads that ask a server for one history each


class ServerReader:
    """The record behind a server (`Reader` of stored.py)."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client

    def find_experiment(self, name: str) -> StoredExperiment | None:
        """Return the experiment with this name, also a deleted one; None when there is none."""
        found = self.client.get_experiment_by_name(name)
        return StoredExperiment(str(found.experiment_id), dict(found.tags)) if found else None

    def list_experiments(self) -> dict[str, str]:
        """Return the names of all experiments but deleted ones, by their ids."""
        found = self.client.search_experiments()
        return {str(experiment.experiment_id): experiment.name for experiment in found}

    def search(
        self, experiments: Sequence[str], wanted: Mapping[str, str], status: str = ""
    ) -> list[StoredRun]:
        """Return the runs of some experiments that have the `wanted` tags, the latest first."""
        if not experiments:
            return []
        conditions = [f"tags.`{tag}` = '{value}'" for tag, value in wanted.items()]
        if status:
            conditions.append(f"attributes.status = '{status}'")

        # Page by page, 1,000 runs at a time.
        runs: list[StoredRun] = []
        token = None
        while True:
            query = " and ".join(conditions)
            page = self.client.search_runs(list(experiments), query, page_token=token)
            runs += map(_take_run, page)
            token = page.token
            if not token:
                return runs

    def read_run(self, run_id: str) -> StoredRun:
        """Return one run, also a deleted one. Raises MlflowException when there is none."""
        return _take_run(self.client.get_run(run_id))

    def read_params(self, run_id: str) -> dict[str, str]:
        """Return the params of a run."""
        return dict(self.client.get_run(run_id).data.params)

    def read_histories(self, run_ids: Iterable[str], metric: str) -> list[History]:
        """Return every value of a metric of each run."""

        def read(run_id: str) -> History:
            points = self.client.get_metric_history(run_id, metric)
            return sorted((point.step, point.value) for point in points)

        # A server answers for one run at a time; most of that time is waiting.
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(read, run_ids))


def _take_run(run: Run) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun(
        run_id=str(info.run_id),
        start_time=info.start_time,
        status=info.status,
        artifact_uri=info.artifact_uri,
        tags=dict(data.tags),
        metrics=dict(data.metrics),
    )
