"""What the readers of the record need of its experiments and runs, wherever these are stored.

MLflow takes a second and a half to import and makes an object of every param of every run, which
nobody needs who looks at a study. So the record is read by one of two readers: a database by its
tables, which takes no MLflow where it is an SQLite file (`database.py`), and what a server keeps by
MLflow's client (`server.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

History = list[tuple[int, float]]  # (epoch, value), in order


class NoSuchRun(LookupError):
    """The record has no run with that id."""


class StoredExperiment(NamedTuple):
    """An experiment of MLflow's, which holds one study."""

    experiment_id: str
    tags: dict[str, str]


class StoredRun(NamedTuple):
    """A run of MLflow's: a study, a trial or a training."""

    run_id: str
    start_time: int  # milliseconds since 1970
    status: str  # of MLflow: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED
    artifact_uri: str
    tags: dict[str, str]
    metrics: dict[str, float]  # the last value of each


class Reader(Protocol):
    """What both readers do."""

    def find_experiment(self, name: str) -> StoredExperiment | None:
        """Return the experiment with this name, also a deleted one; None when there is none."""

    def list_experiments(self) -> dict[str, str]:
        """Return the names of all experiments but deleted ones, by their ids."""

    def search(
        self, experiments: Sequence[str], wanted: Mapping[str, str], status: str = ""
    ) -> list[StoredRun]:
        """Return the runs of some experiments that have the `wanted` tags, the latest first."""

    def read_run(self, run_id: str) -> StoredRun:
        """Return one run, also a deleted one. Raises when there is none."""

    def read_params(self, run_id: str) -> dict[str, str]:
        """Return the params of a run."""

    def read_histories(self, run_ids: Iterable[str], metric: str) -> list[History]:
        """Return every value of a metric of each run."""
