"""Writes what happens to the trials of a study into its record, while training goes on.

Whoever runs the study says what happened, and does not wait: each operation goes onto a spool on
disk, with the time and the name that it gets in the record, and one thread delivers the spool in
order. While the record is away (a server that is down or slow, an SQLite file that somebody has
locked) the thread tries again; what it has not delivered when the process ends is delivered at the
next start, before the record is read. An operation that is delivered twice changes nothing.

A new run has no id before it is delivered, so an operation names it: `begin` returns a name, which
stands for the id. A run that the record has already is named by its id.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from inspect import signature
from threading import Event, Thread
from types import TracebackType
from typing import Any, NamedTuple

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
)

from avsc_core.config import Config
from avsc_core.errors import EnvironmentFault, Fault, UserError
from avsc_core.record.address import hide_secrets, locate_state
from avsc_core.record.recorder import OPERATION, Recorder, Refused, describe_run, tell_time
from avsc_core.record.spool import Spool
from avsc_core.record.trials import FINISHED, FinishedTraining
from avsc_core.terminal import PLAIN_SECONDS, err

LONGEST_PAUSE = 5.0  # seconds between two tries
NOTED_AFTER = 10.0  # seconds without an answer, after which people are told
PATIENCE = 15.0  # seconds without an answer at the end of a study, after which it ends without it
BEGUN = "begun-"  # what the name of a run begins with that has no id yet


class Operation(NamedTuple):
    """One thing that happened."""

    call: str  # a key of CREATING or CHANGING
    run: str  # name or id
    values: dict[str, Any]  # what the method gets by name


class Writer:
    """The one that writes into the record of a study while it runs."""

    def __init__(self, recorder: Recorder, study: str) -> None:
        """Open the spool of a study. Raises EnvironmentFault while another process has it."""
        self.recorder = recorder
        self.study = study
        self.spool = Spool(locate_state(recorder.uri) / "spool" / study)
        self._left = self.spool.waiting  # operations that an earlier process has not delivered
        self._ids: dict[str, str] = {}  # name of a run that was begun -> its id
        self._uncertain: set[str] = set()  # runs that may have been created more than once
        self._away_since = 0.0  # when the record was first found away; 0 while it answers
        self._is_noted = False  # whether people were told that it is away
        self._reason = ""  # why the last try failed
        self._failure: Exception | None = None  # what ended the thread
        self._stopping = Event()
        self._retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_exponential(multiplier=0.5, max=LONGEST_PAUSE),
            stop=stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._stopping),
            before_sleep=self._note_outage,
            reraise=True,
        )
        self._thread = Thread(target=self._deliver_all, name="record writer", daemon=True)

    def __enter__(self) -> "Writer":
        """Deliver first what an earlier process has left. Raises EnvironmentFault."""
        if self._left:
            what = (
                f"{self._left} writes of an earlier run of study {self.study} are delivered first"
            )
            err.print(f"note: record: {what}", soft_wrap=True)
        self._thread.start()
        try:
            self.wait_until_delivered()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Deliver what is left. Raises EnvironmentFault when the record stays away."""
        try:
            # Ctrl-C for the second time, or SIGTERM outside of the trials: the spool keeps it.
            if error is None or isinstance(error, Exception):
                self.wait_until_delivered()
        except EnvironmentFault as fault:
            if error is None:
                raise
            if str(fault) != str(error):
                err.print(str(fault), soft_wrap=True)
        finally:
            self._stop()

    # What may happen to trials. The time and the names in the record are chosen here.

    def begin(self, config: Config, tags: Mapping[str, str], parent: str) -> str:
        """Create a run for a trial under the study's run. Returns the name of the run."""
        run = BEGUN + uuid.uuid4().hex
        description = describe_run(config, {**tags, OPERATION: run}, parent)
        return self._put("begin", run, **description, at=tell_time())

    def take_over(self, source: FinishedTraining, tags: Mapping[str, str], parent: str) -> None:
        """Copy a completed trial of another study."""
        run = BEGUN + uuid.uuid4().hex
        all_tags = {**tags, OPERATION: run}
        self._put("take over", run, source=source._asdict(), tags=all_tags, parent=parent)

    def resume(self, run: str) -> None:
        """Turn an interrupted run RUNNING again."""
        self._put("resume", run)

    def add_environment(self, run: str, tags: Mapping[str, str]) -> None:
        """Write with what and on what a run is computed."""
        self._put("environment", run, tags=tags)

    def log_epoch(self, run: str, number: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch."""
        self._put("epoch", run, number=number, metrics=_as_floats(metrics), at=tell_time())

    def log_text(self, run: str, name: str, content: str) -> None:
        """Write an artifact of text."""
        self._put("text", run, name=name, content=content)

    def end(
        self,
        run: str,
        outcome: str,
        metrics: Mapping[str, float] = {},
        tags: Mapping[str, str] = {},
    ) -> None:
        """Close a run, of a trial or of the study. When this returns, the outcome is on disk."""
        values = {"outcome": outcome, "metrics": _as_floats(metrics), "tags": tags}
        self._put("end", run, **values, at=tell_time())

    def wait_until_delivered(self) -> None:
        """Wait until the record has everything.

        Raises EnvironmentFault when nothing could be delivered for PATIENCE seconds.
        """
        changed = told = time.monotonic()
        before = self.spool.waiting
        while self.spool.waiting and not self._failure:
            self.spool.wait(0.2)
            now = time.monotonic()
            left = self.spool.waiting
            if left != before:
                before = left
                changed = now
            elif now - changed > PATIENCE:
                raise self._make_fault(self._reason or self._describe_silence())
            if now - told > PLAIN_SECONDS:
                told = now
                err.print(f"record: {left} writes are left to deliver", soft_wrap=True)
        self._check()

    # Delivery

    def _put(self, call: str, run: str, **values: Any) -> str:
        """Put an operation onto the spool. Returns the run's name. Raises EnvironmentFault."""
        self._check()
        try:
            operation = {"call": call, "run": run, **values}
            self.spool.append(operation, urgent=call == "end")
        except OSError as error:
            todo = "make room there; the same command continues"
            raise EnvironmentFault(
                Fault(str(self.spool.path), error.strerror or str(error), todo=todo)
            ) from None
        return run

    def _check(self) -> None:
        """Raise what ended the thread, as an EnvironmentFault."""
        if isinstance(self._failure, EnvironmentFault):
            raise self._failure
        if self._failure:
            raise self._make_fault(f"writing ended with {self._failure!r}") from self._failure

    def _deliver_all(self) -> None:
        """Deliver one operation after another until the spool is closed; runs on the thread."""
        try:
            while text := self.spool.read_next():
                for attempt in self._retrying:
                    with attempt:
                        self._deliver(text, attempt.retry_state.attempt_number > 1)
                self._left = max(0, self._left - 1)
                self._note_return()
        except Exception as error:
            # After `_stop` this is the last try of an operation that stays on the spool.
            if not self._stopping.is_set():
                self._failure = error

    def _deliver(self, text: bytes, is_again: bool) -> None:
        """Deliver an operation and drop it from the spool, or put aside what is not accepted."""
        try:
            self._carry_out(read_operation(text), is_again or self._left > 0)
            self.spool.drop()
        except Refused as error:
            path = self.spool.refuse(str(error))
            what = f"a write of study {self.study} is not accepted ({error}); it is kept in {path}"
            err.print(f"note: record: {what}", soft_wrap=True)

    def _carry_out(self, operation: Operation, is_again: bool) -> None:
        """Call the recorder. `is_again` tells that the record may have the operation already."""
        call, run, values = operation
        if call in CREATING:
            begun = self._find_begun(run) if is_again else ""
            create = CREATING[call]
            self._ids[run] = create(self.recorder, experiment=self.study, run_id=begun, **values)
        else:
            run_id = self._find_id(run)
            if not (self._left and self._is_outdated(run_id, values)):
                CHANGING[call](self.recorder, run_id, **values)
        if call in LAST:
            self._finish(run)

    def _find_id(self, run: str) -> str:
        """Return the id of a run, given its name. Raises Refused when the record has no such."""
        if not run.startswith(BEGUN):
            return run
        if run not in self._ids:
            self._ids[run] = self._find_begun(run)
        if not self._ids[run]:
            raise Refused(Fault("record", "its run was never created"))
        return self._ids[run]

    def _find_begun(self, run: str) -> str:
        """Return the id of a run that may have been created already, else an empty text."""
        self._uncertain.add(run)
        return next(iter(self.recorder.list_begun(self.study, run)), "")

    def _is_outdated(self, run_id: str, values: Mapping[str, Any]) -> bool:
        """Tell whether a trial that an earlier process left was finished by another one since."""
        if values.get("outcome") in FINISHED:
            return False
        return self.recorder.read_outcome(run_id) in FINISHED

    def _finish(self, run: str) -> None:
        """Forget a run. A server that hung may have created it twice, when it woke; one stays."""
        if run in self._uncertain:
            for other in self.recorder.list_begun(self.study, run):
                if other != self._ids[run]:
                    self.recorder.delete_run(other)
        self._uncertain.discard(run)
        self._ids.pop(run, None)

    # What people are told

    def _note_outage(self, state: RetryCallState) -> None:
        """Tell once that the record is away, when it has been so for a while."""
        assert state.outcome
        error = state.outcome.exception()
        self._reason = error.faults[0].what if isinstance(error, UserError) else str(error)
        now = time.monotonic()
        self._away_since = self._away_since or now
        if not self._is_noted and now - self._away_since > NOTED_AFTER:
            self._is_noted = True
            what = f"{self._reason}; training goes on, and writes wait in {self.spool.path}"
            err.print(f"note: record: {what}", soft_wrap=True)

    def _note_return(self) -> None:
        """Tell that the record answers again, when people were told that it does not."""
        if self._is_noted:
            seconds = time.monotonic() - self._away_since
            err.print(f"note: record: it answers again after {seconds:.0f} s", soft_wrap=True)
        self._away_since = 0.0
        self._is_noted = False
        self._reason = ""

    def _describe_silence(self) -> str:
        return f"{hide_secrets(self.recorder.uri)} has not answered for {PATIENCE:.0f} s"

    def _make_fault(self, what: str) -> EnvironmentFault:
        """Return the fault of a study that ends before everything is delivered."""
        kept = f"{self.spool.waiting} writes are kept in {self.spool.path}"
        todo = "the same command delivers them"
        return EnvironmentFault(Fault("record", f"{what}; {kept}", todo=todo))

    def _stop(self) -> None:
        """End the thread. One that hangs in a call keeps the spool until the process ends."""
        self._stopping.set()
        self.spool.end()
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self.spool.close()


def read_operation(text: bytes) -> Operation:
    """Read a line of a spool. Raises Refused when it makes no sense, as after a power cut."""
    try:
        values = json.loads(text)
        call = values.pop("call")
        run = values.pop("run")
        if "source" in values:
            values["source"] = FinishedTraining(**values["source"])
        method = (CREATING | CHANGING)[call]
        signature(method).bind_partial(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(Fault("spool", f"a line is not an operation ({error!r})")) from None
    return Operation(call, run, values)


def _as_floats(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as JSON knows them."""
    return {name: float(value) for name, value in metrics.items()}


def _may_pass(error: BaseException) -> bool:
    """Tell whether it helps to try again."""
    return isinstance(error, EnvironmentFault | OSError)


# An operation's `call` -> the method of the recorder that creates, or changes, its run.
CREATING: dict[str, Callable[..., str]] = {
    "begin": Recorder.create_run,
    "take over": Recorder.take_over_run,
}
CHANGING: dict[str, Callable[..., object]] = {
    "resume": Recorder.resume_run,
    "environment": Recorder.add_environment,
    "epoch": Recorder.log_epoch,
    "text": Recorder.log_text,
    "end": Recorder.end_run,
}
LAST = ("end", "take over")  # after which nothing more happens to a run
