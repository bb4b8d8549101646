"""A watchdog over worker processes: one that has been silent for too long is replaced.

Too long is ten times the median of the epochs so far of trainings that cost as much; where there
are none yet, ten times what the driver expects, and ten minutes at least. Only time that the driver
has seen pass counts: a laptop that slept, or a driver that was stopped itself, wakes up to workers
that were silent for a moment.
"""

import signal
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import psutil
import ray
from ray import tune
from ray._private.state import actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from avsc_core.config import Config
from avsc_core.terminal import format_duration
from avsc_core.trainer.probe import describe_cost
from studies.engine.deaths import Death, Recovery
from studies.engine.worker import DUMP_SIGNAL

TIMES = 10.0  # the usual epoch, after which a silent worker is replaced
SHORTEST = 60.0  # seconds of silence that are always allowed
UNKNOWN = 600.0  # while no such training has ended an epoch
LONGEST_TURN = 2.0  # seconds that count of a turn of the driver's loop, which usually takes 0.1
LATEST = 101  # epochs that the median is of
ANSWER_SECONDS = 60.0  # that a node has to end a process

# psutil's names for what keeps a process from running -> what people read.
STATES = {
    psutil.STATUS_STOPPED: "somebody had stopped its process",
    psutil.STATUS_TRACING_STOP: "a debugger had stopped its process",
    psutil.STATUS_DISK_SLEEP: "its process waited for a disk or a network file system",
}


@dataclass
class Watched:
    """A trial that has a worker."""

    trial: Any  # Ray's
    kind: str  # of training, equal where an epoch costs as much
    silent: float = 0.0  # seconds without an epoch that the driver has seen pass
    hangs: int = 0  # since its last epoch


class Ended(NamedTuple):
    """A process that was told to end."""

    state: str  # before that, one of psutil's names
    is_gone: bool


@dataclass(eq=False)
class Watchdog(tune.Callback):  # type: ignore[misc]
    """Replaces workers that have been silent for too long.

    Ray gives its methods everything by name; `info` takes what they do not need.
    """

    recovery: Recovery
    workers: int
    expected_epoch: float  # seconds of the longest epoch, as the driver expects
    watched: dict[str, Watched] = field(default_factory=dict)  # by Ray's trial id
    # Kind -> seconds of the latest epochs.
    seconds: dict[str, deque[float]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=LATEST))
    )
    last_turn: float = field(default_factory=time.monotonic)

    def __getstate__(self) -> dict[str, object]:
        """Leave everything out: Ray pickles its callbacks, for a restore that nobody asks for."""
        return {}

    def on_trial_start(self, trial: Any, **info: Any) -> None:
        """Watch a trial that has a worker now."""
        self._watch(trial).silent = 0.0

    def on_trial_result(self, trial: Any, result: Mapping[str, Any], **info: Any) -> None:
        """Note an epoch."""
        watched = self._watch(trial)
        watched.silent = 0.0
        watched.hangs = 0
        if "seconds" in result:
            self.seconds[watched.kind].append(result["seconds"])

    def on_trial_recover(self, trial: Any, **info: Any) -> None:
        """Wait until a trial whose worker died has another one."""
        self._watch(trial).silent = 0.0

    def on_trial_complete(self, trial: Any, **info: Any) -> None:
        """Watch a trial no longer that is over."""
        self.watched.pop(trial.trial_id, None)

    def on_trial_error(self, trial: Any, **info: Any) -> None:
        """Watch a trial no longer that is over."""
        self.watched.pop(trial.trial_id, None)

    def on_step_end(self, trials: list[Any], **info: Any) -> None:
        """Look at all workers. Ray calls this at every turn of its loop."""
        now = time.monotonic()
        passed = min(now - self.last_turn, LONGEST_TURN)
        self.last_turn = now

        # Trials that wait for a worker, or that a worker is being reset for, are the latest.
        for trial in trials[-self.workers - 2 :]:
            if trial.status == trial.PENDING:
                self._watch(trial)
        for watched in list(self.watched.values()):
            if watched.trial.temporary_state.ray_actor is None:  # it waits for a worker
                continue
            watched.silent += passed
            patience = self.find_patience(watched)
            if watched.silent > patience:
                self._replace_worker(watched, patience)

    def find_patience(self, watched: Watched) -> float:
        """Return for how many seconds a trial may be silent, each time twice as long."""
        latest = self.seconds.get(watched.kind)
        if latest:
            seconds = max(SHORTEST, TIMES * median(latest))
        else:
            seconds = max(UNKNOWN, TIMES * self.expected_epoch)
        return float(seconds * 2**watched.hangs)

    def _watch(self, trial: Any) -> Watched:
        """Return what is known of a trial's silence."""
        if trial.trial_id not in self.watched:
            config = Config.model_validate_json(trial.config["config"])
            self.watched[trial.trial_id] = Watched(trial, describe_cost(config))
        return self.watched[trial.trial_id]

    def _replace_worker(self, watched: Watched, patience: float) -> None:
        """End the worker of a silent trial; Ray then starts another one."""
        actor = watched.trial.temporary_state.ray_actor
        ended = _end_worker(actor._actor_id.hex())
        what = f"no epoch for {format_duration(patience)}"
        if ended is None:
            what += ", its node does not answer"
        elif ended.state in STATES:
            what += f", {STATES[ended.state]}"
        if ended and not ended.is_gone:
            what += " and cannot be ended"

        # An endless loop is the trial's own.
        environment = ended is None or ended.state in STATES or not ended.is_gone
        self.recovery.known[watched.trial.trial_id] = Death(what, environment)
        watched.silent = 0.0
        watched.hangs += 1
        ray.kill(actor)  # Ray forgets it, even where its process does not end


def _end_worker(actor_id: str) -> Ended | None:
    """End the process of an actor, on whichever node it is; None when that takes too long."""
    # Ray's public interface to this needs its dashboard.
    actor = actors(actor_id)
    node = actor["Address"]["NodeID"]
    if node == ray.get_runtime_context().get_node_id():
        return end_process(actor["Pid"])
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(end_process).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    try:
        ended: Ended = ray.get(task.remote(actor["Pid"]), timeout=ANSWER_SECONDS)
    except ray.exceptions.RayError:
        return None
    return ended


def end_process(pid: int) -> Ended:
    """Have a worker process write its stack, then end it.

    A process that waits for a disk or a network file system does not end before that answers.
    """
    try:
        process = psutil.Process(pid)
        state = process.status()
        process.send_signal(DUMP_SIGNAL)
        process.send_signal(signal.SIGCONT)  # one that was stopped writes nothing
        time.sleep(1.0)
        process.kill()
        process.wait(5.0)
    except psutil.TimeoutExpired:
        return Ended(state, is_gone=False)
    except psutil.NoSuchProcess:
        return Ended(psutil.STATUS_DEAD, is_gone=True)
    return Ended(state, is_gone=True)
