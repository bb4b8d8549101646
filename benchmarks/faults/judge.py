"""Compares a study that was disturbed and continued with the undisturbed one."""

import re
from typing import NamedTuple

from benchmarks.faults.place import Ending, Place
from benchmarks.faults.record import Snapshot

# How a command says that a trial begins again; anything else is silence.
BEGINS_AGAIN = re.compile(r"epoch 1\b|begins? (again|anew)|from (the|its) (start|beginning)")

ALLOWED = (0, 2, 3, 4, 75, 130)  # exit codes that avsc knows


class Case(NamedTuple):
    """One fault and what came of it; all counts are 0 where the study survived."""

    kind: str
    name: str
    lost: int  # finished trials that are gone, have failed, or have other values than before
    twice: int  # trials that were trained again after they were over, or stand in the record twice
    silent: int  # trials that began again at epoch 1, though they had a checkpoint, without a line
    unequal: int  # trials whose values are not those of the undisturbed study
    other: str  # what else is wrong, in a line

    @property
    def survived(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.twice or self.silent or self.unequal or self.other)


class Before(NamedTuple):
    """What there was between the fault and the next command."""

    snapshot: Snapshot
    checkpoints: dict[str, int]  # trial key -> the epoch of its checkpoint
    invocations: int


def note_state(place: Place) -> Before:
    """Note what a fault has left."""
    return Before(place.take_snapshot(), place.read_checkpoints(), place.invocations)


def judge(
    kind: str, name: str, place: Place, before: Before, reference: Snapshot, endings: list[Ending]
) -> Case:
    """Judge a study after its last command; `endings` are those of all its commands."""
    after = place.take_snapshot()
    finished = after.finished

    # Trials that were over before the last command.
    lost = 0
    for key, run in before.snapshot.finished.items():
        lost += key not in finished or finished[key].values != run.values
    lost += sum(run.outcome == "failed" for runs in after.trials.values() for run in runs)

    # Trials that the record has twice, and those that were trained although they were over.
    twice = sum(len(runs) > 1 for runs in after.trials.values())
    trained = {entry.key for entry in place.read_log() if entry.invocation > before.invocations}
    twice += len(trained & set(before.snapshot.finished))

    # Trials whose values are others than without the fault, or that are not there.
    unequal = 0
    for key, run in reference.finished.items():
        unequal += key not in finished or finished[key].values != run.values
    unequal += len(set(after.trials) - set(reference.trials))

    # Trials that began again, of which no line with their key says so.
    lines = [line for ending in endings for line in ending.err.splitlines()]
    told = " ".join(line for line in lines if BEGINS_AGAIN.search(line))
    silent = sum(key[:6] not in told for key in _list_restarts(place, before))

    other = _find_other(after, endings)
    return Case(kind, name, lost, twice, silent, unequal, other)


def _list_restarts(place: Place, before: Before) -> set[str]:
    """List the keys of trials that began at an earlier epoch than that of their checkpoint."""
    restarts = set()
    reached: dict[str, int] = {}  # key -> the last epoch it was seen at
    process: dict[str, int] = {}  # key -> the process that trained it last
    for entry in place.read_log():
        if entry.key in process and process[entry.key] != entry.pid:
            # Within a command the last one or two epochs may not be on disk yet.
            known = reached[entry.key] - 2
            if entry.invocation > before.invocations:
                known = before.checkpoints.get(entry.key, 0)
            if entry.epoch < known:
                restarts.add(entry.key)
        process[entry.key] = entry.pid
        reached[entry.key] = entry.epoch
    return restarts


def _find_other(after: Snapshot, endings: list[Ending]) -> str:
    """Name what else is wrong: how commands ended, what the record says of the study."""
    for ending in endings:
        if "Traceback" in ending.err:
            return f"traceback: {ending.last_line}"
        if ending.hung:
            return f"hung, and was killed: {ending.last_line}"
        if ending.code not in (*ALLOWED, -9):
            return f"exit code {ending.code}: {ending.last_line}"
    if endings[-1].code:
        return f"the last command ended with {endings[-1].code}: {endings[-1].last_line}"

    # The study is over, and so is everything in it.
    if [(run.outcome, run.status) for run in after.studies] != [("complete", "FINISHED")]:
        states = [f"{run.outcome} {run.status}" for run in after.studies]
        return f"runs of the study: {', '.join(states)}"
    for runs in after.trials.values():
        for run in runs:
            if run.status == "RUNNING" or run.outcome == "running":
                return f"a trial is {run.outcome} and {run.status} for ever"
    return ""
