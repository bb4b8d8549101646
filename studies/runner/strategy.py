"""What a study runs next: what was interrupted, the arms, what samplers ask for, what searches hand on.

The record is read once at the start: finished trials are told to the samplers and never run again, unfinished ones
continue in their own MLflow run. A combination that the study has already, or is training, is not trained twice: the
sampler is told the known values and asked again. This file knows neither Ray nor MLflow; `tune.py` carries out what it
says.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from avsc_core.config import Config
from avsc_core.record.recorder import TrialRecord
from search_spaces.sampling import Sampler
from studies.study.plan import Complete, Plan, PlannedSearch, PlannedTrial, plan_follow_ups

FINISHED = ("complete", "stopped", "diverged")  # a failed trial, in contrast, is tried again
STATES = {
    "complete": "complete",
    "stopped": "pruned",
    "diverged": "failed",
    "failed": "failed",
}  # Optuna's words

Values = tuple[float, ...]  # of every metric, at the best epoch by the first


class Known(NamedTuple):
    """How a trial ended."""

    outcome: str
    metrics: Mapping[str, float]  # as the record has them


@dataclass
class SearchProgress:
    """How far a search is."""

    plan: PlannedSearch
    sampler: Sampler
    keys: set[str] = field(default_factory=set)  # of its trials that are over, running or waiting
    asked: dict[str, int] = field(
        default_factory=dict
    )  # key of a running trial -> the sampler's number
    waiting: set[str] = field(default_factory=set)  # keys of its trials that are not over
    complete: list[Complete] = field(
        default_factory=list
    )  # those of them, and its base, that ran to their end
    exhausted: bool = False
    over: bool = False  # and what it hands on is in the queue

    @property
    def left(self) -> int:
        """How many trials it may still ask for."""
        return 0 if self.exhausted else max(0, self.plan.trials - len(self.keys))


def describe_used_up(strategy: "Strategy") -> list[str]:
    """A line for every search that ended with fewer trials than it was given, because nothing new was left to try."""
    return [
        f"note: {name} ended with {len(each.keys)} of {each.plan.trials} trials: its space has nothing new left"
        for name, each in strategy.searches.items()
        if each.exhausted and len(each.keys) < each.plan.trials
    ]


class Strategy:
    """The order of a study's trials; `next` and `finish` are all the runner calls."""

    def __init__(
        self, plan: Plan, records: Iterable[TrialRecord], earlier: Iterable[TrialRecord] = ()
    ) -> None:
        """`records` are the study's own; `earlier` are those of the study that a search starts warm from."""
        self.plan = plan
        self.run_ids: dict[str, str] = {}  # trial key -> the MLflow run to continue
        self.known: dict[str, Known] = {}
        self.planned = {
            trial.key for trial in plan.trials
        }  # of the arms and of what searches hand on
        self.searches: dict[str, SearchProgress] = {}
        records = list(records)
        for search in plan.searches:
            own = {record.key for record in records if record.arm == search.name}
            self.searches[search.name] = SearchProgress(
                search, self._sampler(search, len(own)), own
            )
        interrupted = []
        for record in records:
            self.run_ids[record.key] = record.run_id
            if record.outcome in FINISHED:
                self._note(
                    record.key, record.config, Known(record.outcome, record.metrics), record.arm
                )
            elif record.arm in self.searches:
                searching = self.searches[record.arm]
                interrupted.append(
                    PlannedTrial(record.key, record.arm, record.seed, record.config, record.arm)
                )
                searching.waiting.add(record.key)
        self.reused = len(self.known)
        self.warm = sum(self._replay_earlier(record) for record in earlier)
        under_way = {trial.key for trial in interrupted}
        arms = [trial for trial in plan.trials if trial.key not in {*self.known, *under_way}]
        arms.sort(
            key=lambda trial: trial.key not in self.run_ids
        )  # interrupted ones first, otherwise as written
        self.waiting = deque([*interrupted, *arms])
        self._hand_on()

    @property
    def total(self) -> int:
        """Trials of the whole study as far as it is known, those of the record included."""
        searches = self.searches.values()
        return len(self.planned.union(*(each.keys for each in searches))) + sum(
            each.left for each in searches
        )

    @property
    def done(self) -> bool:
        """Whether the record has every trial already."""
        return not self.waiting and all(searching.over for searching in self.searches.values())

    def next(self) -> PlannedTrial | None:
        """The next trial to start, or None when there is nothing to start until one that runs is over."""
        if not self.waiting:
            for searching in self.searches.values():
                trial = self._ask(searching) if searching.left else None
                if trial:
                    return trial
            self._hand_on()
        return self.waiting.popleft() if self.waiting else None

    def finish(self, trial: PlannedTrial, outcome: str, metrics: Mapping[str, float]) -> None:
        """Note how a trial ended and tell the samplers."""
        self._note(trial.key, trial.config, Known(outcome, metrics), trial.arm)

    def values(self, metrics: Mapping[str, float]) -> Values | None:
        """A trial's value of every metric out of what the record has of it."""
        names = [f"best_{metric}" for metric in self.plan.study.metrics]
        return (
            tuple(metrics[name] for name in names)
            if all(name in metrics for name in names)
            else None
        )

    def _sampler(self, plan: PlannedSearch, known: int) -> Sampler:
        search = self.plan.study.search
        assert search is not None
        # A sampler's random state is not saved; a seed that counts what is known keeps it from asking twice.
        seed = search.seed + 1000 * known
        return Sampler(plan.space, search.sampler, seed, self.plan.study.directions, plan.first)

    def _ask(self, searching: SearchProgress) -> PlannedTrial | None:
        asked = searching.sampler.ask(lambda values: self._useless(searching.plan, values))
        if asked is None:
            searching.exhausted = True
            return None
        number, values = asked
        trial = searching.plan.trial(values)
        searching.asked[trial.key] = number
        searching.waiting.add(trial.key)
        searching.keys.add(trial.key)
        return trial

    def _useless(self, plan: PlannedSearch, values: dict[str, Any]) -> bool:
        """Whether the study has these values already, or they are no configuration: a rule across settings forbids."""
        try:
            key = plan.trial(values).key
        except ValueError:
            return True
        return (
            key in self.known
            or key in self.planned
            or any(key in each.waiting for each in self.searches.values())
        )

    def _note(self, key: str, config: Config, known: Known, arm: str) -> None:
        """Remember how a trial ended; tell the sampler that asked for it, and every search it is a point of."""
        self.known[key] = known
        values = self.values(known.metrics)
        for searching in self.searches.values():
            searching.waiting.discard(key)
            own = searching.plan.name == arm
            number = searching.asked.pop(key, None) if own else None
            point = searching.plan.point(config)
            if number is not None:
                searching.sampler.tell(number, STATES[known.outcome], values)
            elif point is not None:
                searching.sampler.replay(point, STATES[known.outcome], values)
            if (
                point is not None
                and known.outcome == "complete"
                and (own or key == searching.plan.base_key)
            ):
                searching.complete.append((config, known.metrics))

    def _replay_earlier(self, record: TrialRecord) -> bool:
        """Tell the searches of a trial of an earlier study, when it is a point of any."""
        values = self.values(record.metrics) if record.outcome == "complete" else None
        told = False
        for searching in self.searches.values() if values else ():
            point = searching.plan.point(record.config)
            if point is not None:
                searching.sampler.replay(point, "complete", values)
                told = True
        return told

    def _hand_on(self) -> None:
        """Queue what the searches that are over hand on."""
        for searching in self.searches.values():
            if searching.over or searching.left or searching.waiting:
                continue
            trials = plan_follow_ups(self.plan, searching.plan, searching.complete)
            new = {trial.key: trial for trial in trials if trial.key not in self.planned}
            self.planned |= set(new)
            self.waiting += [trial for key, trial in new.items() if key not in self.known]
            searching.over = True
