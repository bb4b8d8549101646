"""Carries a plan out with Ray Tune: gives trials CPUs and GPUs, runs them, and writes the record from the driver.

Ray provides processes and resources; the order of trials comes from `strategy.py`, training from `worker.py`, and
memory from MLflow. So Ray's own restore, checkpoints and loggers are switched off. Worker processes are reused: a trial
costs a function call, not an interpreter with torch in it.
"""

import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
from ray.tune.error import TuneError
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from avsc_core.data.dataset import DataSet
from avsc_core.errors import EnvironmentFault, Fault, UserError
from avsc_core.record.recorder import Recorder
from studies.runner.callback import RecordCallback, locate_checkpoint
from studies.runner.cost import count_places
from studies.runner.display import Display
from studies.runner.schedulers import Reported, build_scheduler
from studies.runner.strategy import FINISHED, Strategy
from studies.runner.worker import StudyTrial
from studies.study.plan import Plan
from studies.study.schema import Study


class Ending(NamedTuple):
    """How a sitting of a study ended."""

    failed: int  # trials that failed or diverged in it
    signal: int  # SIGINT or SIGTERM when it was stopped from outside, else 0


class Suggestions(Searcher):  # type: ignore[misc]
    """Ray's interface to `Strategy`: one trial ahead of the workers, as Ray keeps a worker only for one that waits."""

    def __init__(
        self, strategy: Strategy, ledger: RecordCallback, workers: int, gpus: float
    ) -> None:
        super().__init__()
        self.strategy, self.ledger, self.workers, self.gpus = strategy, ledger, workers, gpus

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's parameters for `worker.StudyTrial`."""
        if len(self.ledger.running) > self.workers:
            return None
        planned = self.strategy.next()
        if planned is None:
            return None if self.ledger.running else str(Searcher.FINISHED)
        self.ledger.open(trial_id, planned)
        # A trial without a GPU share still sees the GPU, so it is told to leave it alone.
        config = (
            planned.config if self.gpus else planned.config.model_copy(update={"device": "cpu"})
        )
        checkpoint = locate_checkpoint(self.ledger.study.name, planned.key)
        known = {"search": planned.search, "key": planned.key}  # what schedulers go by
        return known | {"config": config.model_dump_json(), "checkpoint": str(checkpoint)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The ledger has told the strategy already."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the record is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


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
        before = {
            number: signal.signal(number, self.note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_trials(
    plan: Plan, data: DataSet, recorder: Recorder, parent: str, strategy: Strategy, workers: int
) -> Ending:
    """Run every trial the strategy has, `workers` at a time, recording under the study's run `parent`."""
    study = plan.study
    interruption = Interruption()
    display = Display(study.metric, strategy.total, strategy.reused, workers)
    ledger = RecordCallback(study, data, recorder, parent, strategy, display)
    cpus, gpus = study.resources.cpus, study.resources.gpus
    trainable = tune.with_parameters(
        StudyTrial, data=data, metric=study.metric, threads=max(1, int(cpus)), gpus=gpus
    )
    with interruption.installed(), tempfile.TemporaryDirectory() as folder, display:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=Suggestions(strategy, ledger, workers, gpus),
                scheduler=build_scheduler(plan, _reported(plan, recorder)),
                num_samples=1_000_000,  # the strategy says when it is over
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=study.name,
                storage_path=folder,
                callbacks=[ledger],
                stop=interruption,
                failure_config=tune.FailureConfig(
                    max_failures=1
                ),  # from its own checkpoint, on another worker
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except TuneError as error:
            if isinstance(
                error.__context__, UserError
            ):  # the record's own fault, out of a callback
                raise error.__context__ from None
            raise
        finally:
            ledger.interrupt()
    return Ending(ledger.failed, interruption.signal)


def _reported(plan: Plan, recorder: Recorder) -> Iterator[Reported]:
    """What the searches' trials in the record have told their schedulers."""
    names = {search.name for search in plan.searches}
    for trial in recorder.list_trials(plan.study.name):
        if trial.arm in names:
            history = tuple(recorder.read_history(trial.run_id, plan.study.metric))
            yield Reported(trial.arm, trial.key, trial.outcome in FINISHED, history)


def start_ray(study: Study, address: str | None) -> int:
    """Start a quiet Ray session, local or on the cluster at `address`; returns how many trials run at a time.

    Raises EnvironmentFault when there is no such cluster, or it cannot hold a single trial.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Ray copies its own experiment state on a thread that races with its clean-up; nobody reads the copy.
    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    try:
        ray.init(
            address,
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:  # ValueError: no address at all
        raise EnvironmentFault(
            Fault("--address", f"no Ray cluster at {address} ({error})")
        ) from None
    return _workers(study)


def _workers(study: Study) -> int:
    """How many trials run at a time."""
    have, want = ray.cluster_resources(), study.resources
    places = count_places(want, have.get("CPU", 0), have.get("GPU", 0))
    if places < 1:
        what = f"a trial needs {want.cpus} CPUs and {want.gpus} GPUs"
        found = f"there are {have.get('CPU', 0):.0f} CPUs and {have.get('GPU', 0):.0f} GPUs"
        raise EnvironmentFault(Fault("resources", what, found, "lower --cpus or --gpus"))
    return places
