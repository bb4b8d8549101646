"""Studies that run without training, and that can be cut off at any write into their record.

The record is what MLflow would have; trials report curves that follow from their configuration. The
loop does what Ray does with one worker: while a trial runs, the next one waits already.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

from ray.tune.schedulers.trial_scheduler import TrialScheduler

from avsc_core.record.trials import TrialRecord
from studies.engine.schedulers import Reported, build_scheduler
from studies.engine.strategy import BEGUN, ENDED, FINISHED, Strategy
from studies.study.plan import Plan, PlannedTrial
from tests.builders.trials import record, told


class Cut(Exception):
    """The process was killed."""


@dataclass
class Run:
    """What the record has of a trial."""

    planned: PlannedTrial
    tags: dict[str, str]
    outcome: str = "running"
    history: list[float] = field(default_factory=list)  # of epochs 1, 2, ...

    def as_record(self) -> TrialRecord:
        """Return what a study that continues reads."""
        value = self.history[-1] if self.outcome in FINISHED and self.history else None
        found = record(self.planned, self.outcome, value)
        return found._replace(tags={**found.tags, **self.tags})


@dataclass
class Record:
    """A record that takes `most` writes; the process is killed at the next one."""

    runs: dict[str, Run] = field(default_factory=dict)  # by trial key, in the order of creation
    writes: int = 0
    most: int | None = None

    def write(self) -> None:
        """Count a write, or be killed before it."""
        if self.writes == self.most:
            raise Cut
        self.writes += 1

    def describe(self) -> list[tuple[object, ...]]:
        """What has to be the same: trials in their order, how they ended, and their values."""
        return [
            (run.planned, run.tags, run.outcome, tuple(run.history)) for run in self.runs.values()
        ]


def run(plan: Plan, kept: Record, earlier: Sequence[TrialRecord] = (), lost: int = 0) -> None:
    """Run what is left of a study; a trial that continues has lost its last `lost` epochs."""
    strategy = Strategy(plan, [each.as_record() for each in kept.runs.values()], earlier)
    scheduler = build_scheduler(plan, list_reports(kept))

    waiting: deque[PlannedTrial] = deque()
    while True:
        while len(waiting) <= 1 and (planned := strategy.next()):
            begin(strategy, kept, planned)
            waiting.append(planned)
        if not waiting:
            return

        planned = waiting.popleft()
        outcome, history = train(scheduler, kept, planned, lost)
        kept.write()  # outcome and number in one call
        kept.runs[planned.key].outcome = outcome
        kept.runs[planned.key].tags[ENDED] = str(strategy.number_event())
        strategy.finish(planned, outcome, told(history[-1]) if history else {})


def begin(strategy: Strategy, kept: Record, planned: PlannedTrial) -> None:
    """Open a trial's run unless it has one."""
    if planned.key not in strategy.run_ids:
        kept.write()
        kept.runs[planned.key] = Run(planned, {BEGUN: str(strategy.number_event())})


def train(
    scheduler: TrialScheduler, kept: Record, planned: PlannedTrial, lost: int
) -> tuple[str, list[float]]:
    """Report a trial's epochs to its scheduler and to the record. Returns how it ended."""
    history = kept.runs[planned.key].history
    trial = Trial(planned)
    scheduler.on_trial_add(CROWD, trial)

    curve = make_curve(planned)
    epochs = planned.config.training.epochs
    for epoch in range(max(1, len(history) - lost), epochs + 1):
        if curve[epoch - 1] is None:
            scheduler.on_trial_complete(CROWD, trial, {"outcome": "diverged"})
            return "diverged", []
        result = {"epoch": epoch, "val_acc": curve[epoch - 1]}
        verdict = "STOP"
        if epoch == epochs:
            result["outcome"] = "complete"
        else:
            verdict = scheduler.on_trial_result(CROWD, trial, result)
        if epoch > len(history):
            kept.write()
            history.append(curve[epoch - 1])
        if verdict == "STOP":
            scheduler.on_trial_complete(CROWD, trial, result)
            return result.get("outcome", "stopped"), history
    raise AssertionError


def make_curve(planned: PlannedTrial) -> list[float | None]:
    """A value for each epoch, or None where the trial diverges there."""
    rng = random.Random(planned.key)
    level = 0.1 * planned.config.alignment.k / 32 + 0.05 * rng.random()
    curve: list[float | None] = [
        level + 0.3 * rng.random() * (1 + epoch) for epoch in range(planned.config.training.epochs)
    ]
    if rng.random() < 0.25:
        curve[1] = None
    return curve


def list_reports(kept: Record) -> Iterator[Reported]:
    """What the searched trials of the record had reported to their schedulers."""
    for key, each in kept.runs.items():
        if each.planned.search:
            history = tuple(enumerate(each.history, 1))
            yield Reported(each.planned.search, key, each.outcome in FINISHED, history)


class Trial:
    """As much of Ray's trial as schedulers look at."""

    def __init__(self, planned: PlannedTrial) -> None:
        self.trial_id = f"{planned.key} in this invocation"
        self.status = "RUNNING"
        self.config = {"search": planned.search, "key": planned.key}


CROWD = SimpleNamespace(get_live_trials=list)  # as much of Ray's controller
