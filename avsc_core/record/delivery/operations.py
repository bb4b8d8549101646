"""Operations on the runs of trials: read from a line of a spool, and carried out once.

A new run has no id before it is in the record, so an operation names it: a name that begins with
BEGUN stands for the id. Any other run is named by its id. An operation that is carried out twice
changes nothing: what it creates has its name as a tag, by which it is found again.
"""

import json
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, NamedTuple

from avsc_core.errors import Fault
from avsc_core.record.reading.guard import Refused
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import FINISHED, FinishedTraining

BEGUN = "begun-"


class Operation(NamedTuple):
    """One thing that happened to a run."""

    call: str  # a key of CREATING or CHANGING
    run: str  # name or id
    values: dict[str, Any]  # what the method gets by name


class Carrier:
    """Carries out the operations of a study, in order."""

    def __init__(self, recorder: Recorder, study: str) -> None:
        self.recorder = recorder
        self.study = study
        self._ids: dict[str, str] = {}  # name of a run that was begun -> its id
        self._uncertain: set[str] = set()  # runs that may have been created more than once
        # MLflow repeats by itself what a server did not answer, and may have done.
        self.is_server = recorder.uri.startswith("http")

    def carry_out(self, operation: Operation, is_again: bool, is_left: bool) -> None:
        """Call the recorder. Raises Refused, and EnvironmentFault when the record is away.

        `is_again` tells that the record may have the operation already, `is_left` that an earlier
        process left it.
        """
        call, run, values = operation
        if call in CREATING:
            begun = self._find_begun(run) if is_again else ""
            create = CREATING[call]
            self._ids[run] = create(self.recorder, experiment=self.study, run_id=begun, **values)
            if self.is_server:
                self._uncertain.add(run)
        else:
            run_id = self._find_id(run)
            if not (is_left and self._is_outdated(run_id, values)):
                CHANGING[call](self.recorder, run_id, **values)
        if call in LAST:
            self._finish(run)

    def _find_id(self, run: str) -> str:
        """Return the id of a run, given its name. Raises Refused when the record has no such."""
        if not run.startswith(BEGUN):
            return run
        if not self._ids.get(run):
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
