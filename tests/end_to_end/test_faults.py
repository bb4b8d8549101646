"""The judge of `make faults` (benchmarks/faults/judge.py) sees what is lost."""

from types import SimpleNamespace

import pytest

from benchmarks.faults.judge import Before, judge
from benchmarks.faults.place import Ending, Entry
from benchmarks.faults.record import Run, Snapshot

STUDY = Run("study", "FINISHED", {"avsc.outcome": "complete"}, {})
CALM = Ending(0, "")
TOLD = Ending(0, "note: all 1a: its checkpoint is damaged; begins again at epoch 1")


def trial(run_id: str, outcome: str = "complete", value: float = 0.5) -> Run:
    status = "RUNNING" if outcome == "running" else "FINISHED"
    return Run(run_id, status, {"avsc.outcome": outcome}, {("val_acc", 4): value})


WHOLE = Snapshot({"a": [trial("1")], "b": [trial("2")]}, [STUDY])
FAILED = WHOLE._replace(trials={**WHOLE.trials, "a": [trial("1", "failed")]})
DOUBLE = WHOLE._replace(trials={**WHOLE.trials, "b": 2 * [trial("2")]})
OTHERWISE = WHOLE._replace(trials={**WHOLE.trials, "b": [trial("2", value=0.4)]})
HALF = Snapshot({"a": [trial("1")], "b": [trial("2", "interrupted")]}, [STUDY])
CONTINUED = [Entry("b", 3, 7, 1), Entry("b", 3, 8, 2), Entry("b", 4, 8, 2)]
BEGUN_AGAIN = [Entry("b", 3, 7, 1), Entry("b", 1, 8, 2)]


@pytest.mark.parametrize(
    ("after", "log", "ending", "counts"),
    [
        (WHOLE, CONTINUED, CALM, ()),
        (WHOLE._replace(trials={"b": [trial("2")]}), [], CALM, ("lost", "unequal")),
        (
            WHOLE._replace(trials={**WHOLE.trials, "a": [trial("1", "failed")]}),
            [],
            CALM,
            ("lost", "unequal"),
        ),
        (DOUBLE, [], CALM, ("twice",)),
        (WHOLE, [Entry("a", 4, 8, 2)], CALM, ("twice",)),
        (WHOLE, BEGUN_AGAIN, CALM, ("silent",)),
        (WHOLE, BEGUN_AGAIN, TOLD, ()),
        (
            WHOLE._replace(trials={**WHOLE.trials, "b": [trial("2", value=0.4)]}),
            [],
            CALM,
            ("unequal",),
        ),
        (WHOLE, [], Ending(1, "Traceback (most recent call last):\nKeyError: 1"), ("other",)),
        (WHOLE, [], Ending(-9, "", hung=True), ("other",)),
        (WHOLE, [], Ending(4, "record: away"), ("other",)),
        (HALF, [], CALM, ("unequal",)),
        (WHOLE._replace(studies=[STUDY, STUDY]), [], CALM, ("other",)),
    ],
)
def test_the_judge(after: Snapshot, log: list[Entry], ending: Ending, counts: tuple[str, ...]):
    place = SimpleNamespace(take_snapshot=lambda: after, read_log=lambda: log)
    case = judge("kind", "name", place, Before(HALF, {"b": 3}, 1), WHOLE, [ending])
    found = case._asdict()
    names = ("lost", "twice", "silent", "unequal", "other")
    assert tuple(name for name in names if found[name]) == counts
    assert case.survived != bool(counts)
