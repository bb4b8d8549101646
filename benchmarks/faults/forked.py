"""A command in a forked process, with a stand-in for Ray's loop.

The fork has torch, MLflow and avsc loaded already, and Ray's processes are left out, so that a run
of a study takes a second and hundreds of faults can be tried. The stand-in calls the study's
searcher and callbacks in the order in which Ray calls them, and trains in the worker's own class;
everything else is the product: the command line, the strategy, the callback, the record.

The process may kill itself at a write (`Strike`): a call of MLflow's client, or a rename on disk,
which is how checkpoints and other whole files come to be.
"""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import mlflow
import ray
import ray.tune
from ray.tune.error import TuneError

import avsc_core.trainer.loop
import studies.cli
import studies.engine.tune
import studies.looks
import studies.report.status
from benchmarks.faults.hooks.sitecustomize import log_epochs, shift_clock
from benchmarks.faults.place import PATIENCE, Ending, Place, kill_group

# Methods of MLflow's client that write.
WRITES = (
    "create_experiment",
    "create_run",
    "delete_run",
    "delete_tag",
    "log_artifact",
    "log_artifacts",
    "log_batch",
    "log_metric",
    "log_param",
    "log_text",
    "restore_run",
    "set_experiment_tag",
    "set_tag",
    "set_terminated",
    "update_run",
)


class Strike(NamedTuple):
    """At which write the process kills itself."""

    number: int  # counted from 1
    after: bool  # when the write is done, else before it
    only: str = ""  # count only writes with this in their description


class Forked(NamedTuple):
    """A command that runs in a fork."""

    pid: int
    number: int  # of the invocation

    @property
    def runs(self) -> bool:
        """Whether the process still runs."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        if self.runs:
            os.kill(self.pid, number)


def fork(
    place: Place,
    strike: Strike | None = None,
    more: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Forked:
    """Start the command of a place in a fork."""
    place.invocations += 1
    environment = place.make_environment(more)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            err = os.open(place.folder / f"err{place.invocations}", os.O_WRONLY | os.O_CREAT)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(err, 2)
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(cwd or place.folder)
            code = _run_command(place, strike)
        finally:
            sys.stderr.flush()
            os._exit(code if "code" in locals() else 1)
    place.groups.append(pid)
    return Forked(pid, place.invocations)


def wait(place: Place, forked: Forked, patience: float = PATIENCE) -> Ending:
    """Wait for a command in a fork, and end it when it hangs."""
    until = time.monotonic() + patience
    hung = False
    while forked.runs:
        if time.monotonic() > until:
            hung = True
            kill_group(forked.pid)
        time.sleep(0.01)
    _, status = os.waitpid(forked.pid, 0)
    return Ending(os.waitstatus_to_exitcode(status), place.read_err(forked.number), hung)


def run(
    place: Place,
    strike: Strike | None = None,
    more: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Ending:
    """Run the command of a place in a fork, to its end."""
    return wait(place, fork(place, strike, more, cwd))


def call(action: Callable[[], object]) -> None:
    """Do something in a fork, because MLflow keeps the records that a process has opened."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0, "could not be prepared"


def _run_command(place: Place, strike: Strike | None) -> int:
    """Run the command line in this process. Returns its exit code."""
    log_epochs(avsc_core.trainer.loop)
    if "FAULTS_CLOCK" in os.environ:
        shift_clock(float(os.environ["FAULTS_CLOCK"]))
    _put_in_stand_in()
    _count_writes(place.folder / "writes.txt", strike)
    sys.argv = place.command
    try:
        studies.cli.main()
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def _count_writes(log: Path, strike: Strike | None) -> None:
    """Number every write of this process, and kill it at the one that is asked for.

    Without a strike the descriptions of all writes go into `log`.
    """
    count = 0
    inside = threading.local()
    lock = threading.Lock()

    def wrap(name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if getattr(inside, "write", False):  # one write that makes another one
                return write(*args, **kwargs)
            described = f"{name} {args[-1]}" if name == "rename" else name
            with lock:
                count += not strike or strike.only in described
                number = count
            hit = strike and strike.only in described and strike.number == number
            if strike is None:
                with log.open("a") as file:
                    file.write(f"{described}\n")
            elif hit and not strike.after:
                os.kill(os.getpid(), signal.SIGKILL)

            inside.write = True
            try:
                result = write(*args, **kwargs)
            finally:
                inside.write = False
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in WRITES:
        setattr(mlflow.MlflowClient, name, wrap(name, getattr(mlflow.MlflowClient, name)))
    os.replace = wrap("rename", os.replace)
    os.rename = wrap("rename", os.rename)


def _put_in_stand_in() -> None:
    """Put a loop in this process in Ray's place."""
    nothing = SimpleNamespace(address_info={}, dashboard_url="")
    stand_ins: dict[str, Any] = {
        "init": lambda *args, **kwargs: nothing,
        "shutdown": lambda *args, **kwargs: None,
        "is_initialized": lambda: True,
        "cluster_resources": lambda: {"CPU": float(os.cpu_count() or 1)},
        "nodes": lambda: [],
        "put": lambda value: value,
        "get": lambda value, **kwargs: value,
    }
    for name, stand_in in stand_ins.items():
        setattr(ray, name, stand_in)
    ray.tune.with_parameters = lambda trainable, **parameters: (trainable, parameters)
    ray.tune.with_resources = lambda trainable, resources: trainable
    ray.tune.Tuner = OneProcessTuner


class OneProcessTuner:
    """Calls the searcher, the worker and the callbacks of a study as Ray does with one worker."""

    def __init__(self, trainable: Any, tune_config: Any, run_config: Any) -> None:
        kind, self.parameters = trainable
        self.worker = kind.__new__(kind)
        self.is_set_up = False
        self.searcher = tune_config.search_alg
        self.callbacks = run_config.callbacks
        self.stopper = run_config.stop
        self.trials: list[Any] = []

    def fit(self) -> None:
        """Run all trials. Raises TuneError around whatever a callback raises, as Ray does."""
        try:
            self._loop()
        except Exception as error:
            raise TuneError(str(error))  # noqa: B904 - the study looks at the context

    def _loop(self) -> None:
        waiting: deque[Any] = deque()
        finished = False
        self._tell("setup")
        while not self.stopper.stop_all():
            # Ray asks for one trial ahead of the worker.
            while not finished and len(waiting) < 2:
                suggestion = self.searcher.suggest(f"trial{len(self.trials)}")
                finished = suggestion == "FINISHED"
                if not isinstance(suggestion, dict):
                    break
                waiting.append(self._make_trial(suggestion))
            if not waiting:
                break

            # One epoch of the first one.
            trial = waiting[0]
            if trial.status == "PENDING":
                self._start(trial)
            self._tell("on_step_begin")
            trial.last_result = result = self.worker.step()
            self._tell("on_trial_result", trial=trial, result=result)
            if result.get("done"):
                waiting.popleft()
                trial.status = "TERMINATED"
                self.searcher.on_trial_complete(trial.trial_id, result=result)
                self._tell("on_trial_complete", trial=trial)
            self._tell("on_step_end")
        if self.is_set_up:
            self.worker.cleanup()
        self._tell("on_experiment_end")

    def _make_trial(self, suggestion: dict[str, Any]) -> Any:
        trial = SimpleNamespace(
            trial_id=f"trial{len(self.trials)}",
            config=suggestion,
            status="PENDING",
            PENDING="PENDING",
            RUNNING="RUNNING",
            TERMINATED="TERMINATED",
            error_file=None,
            last_result={},
            num_failures=0,
            max_failures=0,
            temporary_state=SimpleNamespace(ray_actor=None, location=None),
            get_error=lambda: None,
        )
        self.trials.append(trial)
        return trial

    def _start(self, trial: Any) -> None:
        trial.status = "RUNNING"
        if self.is_set_up:
            self.worker.reset_config(trial.config)
        else:
            self.worker.setup(trial.config, **self.parameters)
            self.is_set_up = True
        self._tell("on_trial_start", trial=trial)

    def _tell(self, event: str, **what: Any) -> None:
        for callback in self.callbacks:
            if event == "setup":
                callback.setup()
            elif event == "on_experiment_end":
                callback.on_experiment_end(trials=self.trials)
            else:
                getattr(callback, event)(iteration=0, trials=self.trials, **what)
