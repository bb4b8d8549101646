"""Carries a plan out with Ray Tune: gives trials CPUs and GPUs, runs them, records what happens.

Ray provides processes and resources; the order of trials comes from `strategy.py`, training from
`worker.py`, and memory from MLflow. So Ray's own restore, checkpoints and loggers are switched
off. Worker processes are reused: a trial costs a function call, not an interpreter with torch.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from ray import tune
from ray.air.execution import FixedResourceManager
from ray.tune.error import TuneError
from ray.tune.execution import class_cache, tune_controller
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from avsc_core.data.dataset import DataSet
from avsc_core.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, UserError
from avsc_core.record.address import locate_checkpoint
from avsc_core.record.delivery.writer import Writer
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import FINISHED, SEARCH
from studies.engine.blame import end_study, judge, list_causes
from studies.engine.callback import RecordCallback
from studies.engine.deaths import MOST_DEATHS, Recovery, treat_losses_as_deaths
from studies.engine.display import Display
from studies.engine.schedulers import Reported, build_scheduler
from studies.engine.strategy import Strategy
from studies.engine.watchdog import Watchdog
from studies.engine.worker import StudyTrial
from studies.study.plan import Plan


class Ending(NamedTuple):
    """How an invocation of a study ended."""

    recorder: Recorder
    failed: int = 0  # trials of this invocation that failed or diverged
    signal: int = 0  # SIGINT or SIGTERM when it was stopped from outside, else 0


class Expected(NamedTuple):
    """What the driver expects of a study's trials."""

    epoch_seconds: float  # of the longest epoch
    checkpoint_bytes: int  # of the largest checkpoint


class Suggestions(Searcher):  # type: ignore[misc]
    """Ray's interface to `Strategy`."""

    def __init__(self, callback: RecordCallback, workers: int) -> None:
        super().__init__()
        self.callback = callback
        self.workers = workers

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the parameters of the next trial for `worker.StudyTrial`."""
        # One trial is asked for ahead of the workers, because Ray keeps a worker process only
        # while a trial waits for it.
        if len(self.callback.running) > self.workers:
            return None
        planned = self.callback.find_next()
        if planned is None:
            return None if self.callback.running else str(Searcher.FINISHED)
        self.callback.open_trial(trial_id, planned)

        # A trial without a share of a GPU still sees the GPU, so it is told to use the CPU.
        config = planned.config
        study = self.callback.study
        recorder = self.callback.writer.recorder
        if not study.resources.gpus:
            config = config.model_copy(update={"device": "cpu"})
        return {
            "config": config.model_dump_json(),
            "checkpoint": str(locate_checkpoint(recorder.uri, study.name, planned.key)),
            "search": planned.search,  # this and the key tell the scheduler who judges the trial
            "key": planned.key,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the callback has told the strategy already."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the record is the memory."""


class Interruption(Stopper):  # type: ignore[misc]
    """Ends a study by a fault, or at SIGINT or SIGTERM; a second signal ends it at once."""

    def __init__(self, callback: RecordCallback) -> None:
        self.callback = callback
        self.signal = 0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Answer Ray, which asks at every turn of its loop."""
        ends = bool(self.signal or self.callback.fault)
        if ends:
            self.callback.keep_states()
        return ends

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.signal:
            raise SystemExit(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)
        self.signal = number

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle both signals here, whatever handlers Ray has installed."""
        interrupt = signal.signal(signal.SIGINT, self.handle)
        terminate = signal.signal(signal.SIGTERM, self.handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, interrupt)
            signal.signal(signal.SIGTERM, terminate)


def run_trials(
    strategy: Strategy,
    data: DataSet,
    writer: Writer,
    parent: str,  # the id of the study's run
    workers: int,
    expected: Expected,
    folder: Path,  # for what Ray writes
    is_own_ray: bool,  # and not a cluster's
) -> Ending:
    """Run every trial that the strategy has, `workers` at a time, recorded under `parent`.

    Raises EnvironmentFault when its environment cannot hold the study any longer, after what runs
    is marked as interrupted.
    """
    recorder = writer.recorder
    plan = strategy.plan
    study = plan.study
    cpus = study.resources.cpus
    gpus = study.resources.gpus
    display = Display(strategy, workers)
    recovery = Recovery()
    watchdog = Watchdog(recovery, workers, expected.epoch_seconds)
    begun = _read_begun(recorder, strategy)
    callback = RecordCallback(study, data, writer, parent, strategy, display, recovery, begun)
    interruption = Interruption(callback)
    treat_losses_as_deaths()
    if is_own_ray:
        take_waiting_workers(workers, cpus, gpus)
    # With a searcher Ray would wait for each trial's worker before it asks for the next trial.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
    for trial in strategy.taken_over:
        callback.take_over(trial, strategy.elsewhere[trial.key])

    # Ray fails where there is no trial at all, as when other studies have trained them all.
    first = callback.find_next()
    if first is None:
        return Ending(recorder)
    strategy.waiting.appendleft(first)

    # The data set is put into Ray's object store once, not sent with every trial.
    trainable = tune.with_parameters(
        StudyTrial,
        data=data,
        metric=study.metric,
        rule=study.rule,
        cpus=cpus,
        gpus=gpus,
        checkpoint_bytes=expected.checkpoint_bytes,
    )
    with interruption.installed(), display.live:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=Suggestions(callback, workers),
                scheduler=build_scheduler(plan, _list_reports(plan, recorder, strategy)),
                num_samples=1_000_000,  # the strategy says when there are no more trials
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=study.name,
                storage_path=str(folder),
                callbacks=[watchdog, callback],  # the second takes out of results what it reads
                stop=interruption,
                # A trial writes its own checkpoints; Ray's would fail on nodes without its folder.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                # A trial whose worker died continues from its own checkpoint on another worker;
                # with each epoch `Recovery` allows it as many deaths again.
                failure_config=tune.FailureConfig(max_failures=MOST_DEATHS - 1),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except TuneError as error:
            # Ray wraps what a callback raises, sometimes in errors of its own clean-up; a fault of
            # the record is reported as itself.
            for cause in list_causes(error):
                if isinstance(cause, UserError):
                    raise cause from None
            # Ray writes to the folder too, and may find its disk full.
            verdict = judge(error, Path(folder))
            if verdict.environment:
                raise end_study(verdict.line) from None
            raise
        finally:
            callback.interrupt()
            callback.remove_checkpoints()
    if callback.fault:
        raise end_study(callback.fault)
    return Ending(recorder, callback.failed, interruption.signal)


def take_waiting_workers(places: int, cpus: float, gpus: float) -> None:
    """Have Ray Tune run trials in the worker processes that Ray has started already.

    By itself it gives trials variables of their own, which none of these processes has; and it
    reserves a place for each trial, which costs one of these processes and takes time before each
    trial. On one machine that nobody shares, counting the places is enough.
    """
    class_cache.DEFAULT_ENV_VARS = {}
    class_cache.ENV_VARS_TO_PROPAGATE = set()
    most = places * (1 + 1e-6)  # whatever the last binary digits of fractions say
    totals = {"CPU": most * cpus, "GPU": most * gpus}
    tune_controller.PlacementGroupResourceManager = partial(FixedResourceManager, totals)


def _read_begun(recorder: Recorder, strategy: Strategy) -> dict[str, tuple[int, float]]:
    """Read how far trials had come that are not finished: key -> epochs recorded, seconds."""
    begun = {}
    for trial in strategy.records:
        if trial.outcome not in FINISHED:
            history = recorder.read_history(trial.run_id, "seconds")
            begun[trial.key] = history[-1] if history else (0, 0.0)
    return begun


def _list_reports(plan: Plan, recorder: Recorder, strategy: Strategy) -> Iterator[Reported]:
    """Yield what the searched trials of the record had reported to their schedulers."""
    search = plan.study.search
    if search is None or search.scheduler == "none":
        return
    names = {planned.name for planned in plan.searches}
    trials = [trial for trial in strategy.records if trial.role == SEARCH and trial.arm in names]
    run_ids = [trial.run_id for trial in trials]
    histories = recorder.read_histories(run_ids, plan.study.metric)
    for trial, history in zip(trials, histories, strict=True):
        yield Reported(trial.arm, trial.key, trial.outcome in FINISHED, tuple(history))
