"""Carries a plan out with Ray Tune: gives trials CPUs and GPUs, runs them, and writes the record from the driver.

Ray provides processes and resources; the order of trials comes from `strategy.py`, training from `worker.py`, and memory
from MLflow. So Ray's own restore, checkpoints and loggers are switched off. Worker processes are reused: a trial costs a
function call, not an interpreter with torch in it.
"""

import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

for name, value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours knows what to record
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the record keeps them
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the record is the only memory
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
}.items():
    os.environ.setdefault(name, value)

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, HyperBandScheduler, MedianStoppingRule
from ray.tune.schedulers.trial_scheduler import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from avsc_core.data.tau import DataSet, split_parts
from avsc_core.errors import EnvironmentFault, Fault
from avsc_core.trainer.evaluate import confusion_table, prediction_table
from avsc_core.trainer.recorder import Recorder
from avsc_core.trainer.retrain import CHECKPOINTS
from studies.runner.display import Display
from studies.runner.plan import PlannedTrial
from studies.runner.schema import Search, Study
from studies.runner.strategy import Strategy
from studies.runner.worker import StudyTrial


class Ending(NamedTuple):
    """How a sitting of a study ended."""

    failed: int  # trials that failed or diverged in it
    signal: int  # SIGINT or SIGTERM when it was stopped from outside, else 0


@dataclass
class Running:
    """A trial that Ray has been given."""

    planned: PlannedTrial
    run_id: str
    recorded: int  # the last epoch that the record has


class Ledger(tune.Callback):  # type: ignore[misc]
    """What happens to trials, written into the record and onto the display."""

    def __init__(self, study: Study, data: DataSet, recorder: Recorder, parent: str, strategy: Strategy, display: Display):
        self.study, self.data, self.recorder, self.parent = study, data, recorder, parent
        self.strategy, self.display = strategy, display
        self.running: dict[str, Running] = {}  # by Ray's trial id
        self.failed = 0

    def open(self, trial_id: str, planned: PlannedTrial) -> None:
        """A trial is about to start: its run is there before it does anything."""
        run_id = self.strategy.run_ids.get(planned.key)
        recorded = self.recorder.resume(run_id) if run_id else 0
        if run_id is None:
            tags = {
                "avsc.kind": "trial",
                "avsc.study": self.study.name,
                "avsc.arm": planned.arm,
                "avsc.data": self.data.title,
                "avsc.data_fingerprint": self.data.fingerprint,
            }
            run_id = self.recorder.begin(self.study.name, planned.config, tags, self.parent)
        self.running[trial_id] = Running(planned, run_id, recorded)
        self.display.update(planned, 0, None)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """An epoch is over."""
        running = self.running[trial.trial_id]
        if "metrics" in result:
            if result["epoch"] > running.recorded:
                self.recorder.epoch(running.run_id, result["epoch"], result["metrics"])
                running.recorded = result["epoch"]
            self.display.update(running.planned, result["epoch"], result[self.study.metric])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial is over: by itself, or because the scheduler stopped it."""
        result = trial.last_result
        self._close(trial.trial_id, result.get("outcome", "stopped"), result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died for the second time."""
        self._close(trial.trial_id, "failed", {"error": f"the worker process died: {trial.get_error()}"})

    def interrupt(self) -> None:
        """What still runs can be continued."""
        for running in self.running.values():
            self.recorder.end(running.run_id, "interrupted", {})

    def _close(self, trial_id: str, outcome: str, result: dict[str, Any]) -> None:
        planned, run_id = self.running[trial_id].planned, self.running[trial_id].run_id
        best = dict(result.get("best", {}))
        tags = {"avsc.error": result["error"][-4000:]} if "error" in result else {}
        if outcome == "complete":
            self._tables(run_id, planned, result["probability"])
        self.recorder.end(run_id, outcome, {f"best_{name}": value for name, value in best.items()}, tags)
        del self.running[trial_id]
        checkpoint_of(self.study.name, planned.key).unlink(missing_ok=True)
        self.failed += outcome in ("failed", "diverged")
        value = best.get(self.study.metric)
        self.strategy.finish(planned, outcome, value)
        self.display.finish(planned, outcome, value, self.strategy.total)

    def _tables(self, run_id: str, planned: PlannedTrial, probability: list[list[float]]) -> None:
        import numpy as np

        rows = split_parts(self.data, planned.config.split.validation, planned.config.split.seed).validation
        names = [self.data.clips[row].name for row in rows]
        self.recorder.text(run_id, "predictions_val.tsv", prediction_table(names, np.array(probability)))
        scenes = self.data.scenes[rows]
        self.recorder.text(run_id, "confusion_val.tsv", confusion_table(np.array(probability), scenes))


class Suggestions(Searcher):  # type: ignore[misc]
    """Ray's interface to `Strategy`: the next trial when a worker is free, so that the sampler knows all there is."""

    def __init__(self, strategy: Strategy, ledger: Ledger, workers: int, gpus: float) -> None:
        super().__init__()
        self.strategy, self.ledger, self.workers, self.gpus = strategy, ledger, workers, gpus

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's parameters for `worker.StudyTrial`."""
        if len(self.ledger.running) >= self.workers:
            return None
        planned = self.strategy.next()
        if planned is None:
            return None if self.ledger.running else str(Searcher.FINISHED)
        self.ledger.open(trial_id, planned)
        # A trial without a GPU share still sees the GPU, so it is told to leave it alone.
        config = planned.config if self.gpus else planned.config.model_copy(update={"device": "cpu"})
        checkpoint = checkpoint_of(self.ledger.study.name, planned.key)
        return {"arm": planned.arm, "config": config.model_dump_json(), "checkpoint": str(checkpoint)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The ledger has told the strategy already."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the record is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


class SearchOnly(FIFOScheduler):  # type: ignore[misc]
    """A scheduler for the trials of the search; arms fill a table and run to their end untouched."""

    def __init__(self, inner: TrialScheduler) -> None:
        super().__init__()
        self.inner = inner

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if _searched(trial):
            self.inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if _searched(trial):
            self.inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(self.inner.on_trial_result(tune_controller, trial, result) if _searched(trial) else self.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if _searched(trial):
            self.inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        if _searched(trial):
            self.inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial in tune_controller.get_trials():
            if not _searched(trial) and trial.status == trial.PENDING:
                return trial
        return self.inner.choose_trial_to_run(tune_controller)


class Interruption(Stopper):  # type: ignore[misc]
    """SIGINT and SIGTERM end the study after what is in hand; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked by Ray at every turn of its loop."""
        return bool(self.signal)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle both signals here, whatever Ray has installed."""
        before = {number: signal.signal(number, self.note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_trials(
    study: Study, data: DataSet, recorder: Recorder, parent: str, strategy: Strategy, address: str | None
) -> Ending:
    """Run every trial the strategy has, recording under the study's run `parent`.

    Raises EnvironmentFault when the machine or the cluster cannot hold a single trial.
    """
    interruption = Interruption()
    with _ray(address), interruption.installed(), tempfile.TemporaryDirectory() as folder:
        workers = _workers(study)
        with Display(study.metric, strategy.total, strategy.reused, workers) as display:
            ledger = Ledger(study, data, recorder, parent, strategy, display)
            gpus = study.resources.gpus
            trainable = tune.with_parameters(
                StudyTrial, data=data, metric=study.metric, threads=max(1, int(study.resources.cpus)), gpus=gpus
            )
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"cpu": study.resources.cpus, "gpu": gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=Suggestions(strategy, ledger, workers, gpus),
                    scheduler=build_scheduler(study),
                    num_samples=1_000_000,  # the strategy says when it is over
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name=study.name,
                    storage_path=folder,
                    callbacks=[ledger],
                    stop=interruption,
                    failure_config=tune.FailureConfig(max_failures=1),  # from its own checkpoint, on another worker
                    verbose=0,
                ),
            )
            try:
                tuner.fit()
            finally:
                ledger.interrupt()
    return Ending(ledger.failed, interruption.signal)


def build_scheduler(study: Study) -> TrialScheduler:
    """The scheduler of the study's search, kept away from its arms."""
    if study.search is None:
        return FIFOScheduler()
    return SearchOnly(SCHEDULERS[study.search.scheduler](study, study.search))


def checkpoint_of(study: str, key: str) -> Path:
    """Where a trial keeps its checkpoint; an absolute path, because workers have their own current folder."""
    return (CHECKPOINTS / study / f"{key}.pt").resolve()


def _searched(trial: Any) -> bool:
    return bool(trial.config["arm"] == "search")


def _workers(study: Study) -> int:
    """How many trials run at a time."""
    have, want = ray.cluster_resources(), study.resources
    room = int(have.get("CPU", 0) // want.cpus)
    if want.gpus:
        per_gpu = int(have.get("GPU", 0) / want.gpus) if want.gpus >= 1 else int(have.get("GPU", 0)) * int(1 / want.gpus)
        room = min(room, per_gpu)
    if room < 1:
        what = f"a trial needs {want.cpus} CPUs and {want.gpus} GPUs"
        found = f"there are {have.get('CPU', 0):.0f} CPUs and {have.get('GPU', 0):.0f} GPUs"
        raise EnvironmentFault(Fault("resources", what, found, "lower --cpus or --gpus"))
    return room


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """A quiet Ray session: a local one, or the cluster at `address`."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(address, include_dashboard=False if address is None else None, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError) as error:
        raise EnvironmentFault(Fault("--address", f"no Ray cluster at {address} ({error})")) from None
    try:
        yield
    finally:
        ray.shutdown()


def _settings(study: Study, search: Search) -> dict[str, Any]:
    """What every scheduler of Ray wants to know."""
    return {"time_attr": "epoch", "metric": study.metric, "mode": study.direction}


SCHEDULERS: dict[str, Callable[[Study, Search], TrialScheduler]] = {
    "none": lambda study, search: FIFOScheduler(),
    "asha": lambda study, search: AsyncHyperBandScheduler(
        **_settings(study, search),
        max_t=study.base.training.epochs,
        grace_period=search.grace_epochs,
        reduction_factor=search.reduction_factor,
    ),
    "hyperband": lambda study, search: HyperBandScheduler(
        **_settings(study, search), max_t=study.base.training.epochs, reduction_factor=search.reduction_factor
    ),
    "median": lambda study, search: MedianStoppingRule(**_settings(study, search), grace_period=search.grace_epochs),
}
