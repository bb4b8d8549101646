"""Writes what happens to the trials of a study into its record, while training goes on.

Whoever runs the study says what happened, and does not wait: each operation goes onto a spool on
disk, with the time and the name that it gets in the record, and one thread delivers the spool in
order. While the record is away (a server that is down or slow, an SQLite file that somebody has
locked) the thread tries again; what it has not delivered when the process ends is delivered at the
next start, before the record is read.
"""

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

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
from avsc_core.record.delivery.operations import BEGUN, Carrier, read_operation
from avsc_core.record.delivery.spool import Spool
from avsc_core.record.reading.guard import Refused
from avsc_core.record.recorder import OPERATION, Recorder, describe_run, tell_time
from avsc_core.record.trials import FinishedTraining
from avsc_core.terminal import PLAIN_SECONDS, err

LONGEST_PAUSE = 5.0  # seconds between two tries
NOTED_AFTER = 10.0  # seconds without an answer, after which people are told
PATIENCE = 15.0  # seconds without an answer at the end of a study, after which it ends without it


class Writer:
    """The one that writes into the record of a study while it runs."""

    def __init__(self, recorder: Recorder, study: str) -> None:
        """Open the spool of a study. Raises EnvironmentFault while another process has it."""
        self.recorder = recorder
        self.study = study
        self.spool = Spool(locate_state(recorder.uri) / "spool" / study)
        self._left = self.spool.waiting  # operations that an earlier process has not delivered
        self._carrier = Carrier(recorder, study)
        self._away_since = 0.0  # when the record was first found away; 0 while it answers
        self._is_noted = False  # whether people were told that it is away
        self._reason = ""  # why the last try failed
        self._failure: Exception | None = None  # what ended the thread
        self._refused: Path | None = None  # where writes are kept that were not accepted
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
                self._check_refused()
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
                self.recorder.away = self._reason or self._describe_silence()
                raise self._make_fault(self.recorder.away)
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
            what = error.strerror or str(error)
            todo = "make room there; the same command continues"
            raise EnvironmentFault(Fault(str(self.spool.path), what, todo=todo)) from None
        return run

    def _check(self) -> None:
        """Raise what ended the thread; a mistake in it as an EnvironmentFault."""
        if isinstance(self._failure, UserError):
            raise self._failure
        if self._failure:
            raise self._make_fault(f"writing ended with {self._failure!r}") from self._failure

    def _check_refused(self) -> None:
        """Raise EnvironmentFault when the record lacks what it did not accept."""
        if self._refused:
            what = f"writes of study {self.study} were not accepted and are kept in {self._refused}"
            todo = "look at the runs that were deleted or changed; the same command trains the rest"
            raise EnvironmentFault(Fault("record", what, todo=todo))

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
            is_left = self._left > 0
            self._carrier.carry_out(read_operation(text), is_again or is_left, is_left)
            self.spool.drop()
        except Refused as error:
            self._refused = self.spool.refuse(str(error))
            reason = error.faults[0].what
            what = f"a write of study {self.study} is not accepted ({reason})"
            err.print(f"note: record: {what}; it is kept in {self._refused}", soft_wrap=True)

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


def _as_floats(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as JSON knows them."""
    return {name: float(value) for name, value in metrics.items()}


def _may_pass(error: BaseException) -> bool:
    """Tell whether it helps to try again: not after a fault of a more special kind."""
    return type(error) is EnvironmentFault or isinstance(error, OSError)
