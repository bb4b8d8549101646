"""What a study runs next: interrupted trials, the arms, what samplers suggest, follow-up trials.

The record is read once at the start. Finished trials are told to the samplers and never run again;
unfinished ones continue in their own MLflow run. A configuration that the study has trained
already, or is training, is not trained twice: the sampler is told the known values and asked
again.

The beginnings and endings of all trials have numbers in one sequence, which their runs keep as tags
(`avsc.begun`, `avsc.ended`). A study that continues goes through them in this order, so that its
samplers know what they would know without the interruption. This file knows neither Ray nor MLflow;
`tune.py` carries out what it says.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from avsc_core.metrics import find_figure
from avsc_core.record.trials import FINISHED, OWN_SEARCH, FinishedTraining, TrialRecord
from search_spaces.sampling import Sampler
from studies.study.plan import Completed, Plan, PlannedSearch, PlannedTrial, plan_follow_ups

# Tags of a trial: the numbers of its beginning and of its ending.
BEGUN = "avsc.begun"
ENDED = "avsc.ended"

# The outcome of a trial -> the state that Optuna calls it.
STATES = {
    "complete": "complete",
    "stopped": "pruned",
    "diverged": "failed",
    "failed": "failed",
}

Values = tuple[float, ...]  # of every metric of the study


@dataclass
class SearchProgress:
    """How far a search has come."""

    plan: PlannedSearch
    sampler: Sampler
    keys: set[str] = field(default_factory=set)  # trials that are over, running or waiting
    asked: dict[str, int] = field(default_factory=dict)  # running trial -> the sampler's number
    unfinished: set[str] = field(default_factory=set)  # trials that are not over
    completed: list[Completed] = field(default_factory=list)  # what follow-up trials may repeat
    exhausted: bool = False  # the sampler finds nothing new
    over: bool = False  # its follow-up trials are planned

    @property
    def left(self) -> int:
        """How many trials it may still ask for."""
        return 0 if self.exhausted else max(0, self.plan.trials - len(self.keys))


class Strategy:
    """The order of a study's trials. While they run, only `next` and `finish` are called."""

    def __init__(
        self,
        plan: Plan,
        records: Iterable[TrialRecord],
        earlier: Iterable[TrialRecord] = (),
        elsewhere: Mapping[str, FinishedTraining] | None = None,
    ) -> None:
        """`records` are the study's own trials, `earlier` those of a study for a warm start.

        `elsewhere` are finished trainings of other studies by trial key, which are taken over.
        """
        self.plan = plan
        self.elsewhere = elsewhere or {}
        # As they were at the start. What cannot continue is planned and trained anew.
        self.records = [
            record for record in records if record.outcome in FINISHED or record.can_continue
        ]
        self.earlier = list(earlier)
        self.run_ids: dict[str, str] = {}  # trial key -> the MLflow run to continue
        self.known: set[str] = set()  # trials that are over
        self.planned = {trial.key for trial in plan.trials}  # of the arms and follow-up trials
        self.searches = {search.name: self._open_search(search) for search in plan.searches}
        self.events = 0  # beginnings and endings of trials so far

        self.warm = sum(map(self._replay_earlier, self.earlier))
        interrupted = self._read_records()
        self.reused = len(self.known)

        # Interrupted trials come first, in the order in which they began, then arms as written.
        begun = self.known | {trial.key for trial in interrupted}
        arms = [trial for trial in plan.trials if trial.key not in begun]
        self.waiting = deque([*interrupted, *arms])
        if not any(search.left for search in self.searches.values()):
            self._queue_follow_ups()

        # What is taken over is not trained, so it counts as if the record had it.
        self.taken_over = [trial for trial in self.waiting if self.find_elsewhere(trial)]
        self.waiting = deque(trial for trial in self.waiting if not self.find_elsewhere(trial))
        self.reused += len(self.taken_over)

    @property
    def total(self) -> int:
        """Trials of the whole study as far as it is planned, those of the record included."""
        keys = self.planned | self.known
        left = 0
        for search in self.searches.values():
            keys |= search.keys
            left += search.left
        return len(keys) + left

    @property
    def done(self) -> bool:
        """Whether nothing is left to train."""
        return not self.waiting and all(search.over for search in self.searches.values())

    def next(self) -> PlannedTrial | None:
        """Return the next trial, or None when nothing can start before a running one is over."""
        if not self.waiting:
            for search in self.searches.values():
                trial = self._ask(search) if search.left else None
                if trial:
                    return trial
            self._queue_follow_ups()
        return self.waiting.popleft() if self.waiting else None

    def find_elsewhere(self, trial: PlannedTrial) -> FinishedTraining | None:
        """Return the training of another study that is taken over for a trial, if there is one.

        A trial that was interrupted continues. What a scheduler may stop is trained, because it is
        compared with the others epoch by epoch.
        """
        search = self.plan.study.search
        may_be_stopped = trial.search and search and search.scheduler != "none"
        if may_be_stopped or trial.key in self.run_ids:
            return None
        return self.elsewhere.get(trial.key)

    def number_event(self) -> int:
        """Return the number of a beginning or an ending that the record is about to be told."""
        self.events += 1
        return self.events

    def finish(self, trial: PlannedTrial, outcome: str, metrics: Mapping[str, float]) -> None:
        """Note how a trial ended, and tell the samplers.

        The sampler that suggested the trial is told the result of its suggestion. Every other
        search in whose space the trial lies gets it as a known point.
        """
        self.known.add(trial.key)
        values = self.list_values(metrics)
        state = STATES[outcome]
        for search in self.searches.values():
            search.unfinished.discard(trial.key)
            is_asking = search.plan.name == trial.search
            number = search.asked.pop(trial.key, None) if is_asking else None
            if number is not None:
                search.sampler.tell(number, state, values)
            else:
                point = search.plan.find_point(trial.config)
                if point is None:
                    continue
                search.sampler.replay(point, state, values)

            if outcome == "complete" and self._may_repeat(search, trial):
                search.completed.append((trial.config, metrics))

    def list_values(self, metrics: Mapping[str, float]) -> Values | None:
        """List a trial's value of every metric of the study; None when one is missing."""
        values = [find_figure(metrics, metric) for metric in self.plan.study.metrics]
        found = [value for value in values if value is not None]
        return tuple(found) if len(found) == len(values) else None

    def _may_repeat(self, search: SearchProgress, trial: PlannedTrial) -> bool:
        """Tell whether the follow-up trials of a search may repeat a trial.

        They may repeat the search's own trials, and of an arm's search the arm, which is the base
        of it. The base of the study's own search is left out, because it has seeds as an arm.
        """
        if trial.search == search.plan.name:
            return True
        is_base = trial.key == search.plan.base_key
        return is_base and (search.plan.name != OWN_SEARCH or self.plan.study.final is not None)

    def _open_search(self, plan: PlannedSearch) -> SearchProgress:
        search = self.plan.study.search
        assert search is not None
        directions = self.plan.study.directions
        sampler = Sampler(plan.space, search.sampler, search.seed, directions, plan.first)
        return SearchProgress(plan, sampler)

    def _read_records(self) -> list[PlannedTrial]:
        """Note what the record knows. Returns the trials that were interrupted."""
        arms = {trial.key: trial for trial in self.plan.trials}
        interrupted = []
        for number, record, ended in list_events(self.records):
            self.events = max(self.events, number)
            trial = PlannedTrial(record.key, record.role, record.arm, record.seed, record.config)
            if ended:
                self.finish(trial, record.outcome, record.metrics)
                continue

            self.run_ids[record.key] = record.run_id
            search = self.searches.get(trial.search)
            if search:
                self._take_up(search, trial)
            if record.outcome not in FINISHED and (search or record.key in arms):
                interrupted.append(trial if search else arms[record.key])
        return interrupted

    def _take_up(self, search: SearchProgress, trial: PlannedTrial) -> None:
        """Note a searched trial of the record, which its sampler had proposed."""
        point = search.plan.find_point(trial.config)
        if point is not None:
            useless = partial(self._is_useless, search.plan)
            search.asked[trial.key] = search.sampler.ask_again(point, useless)
        search.unfinished.add(trial.key)
        search.keys.add(trial.key)

    def _ask(self, search: SearchProgress) -> PlannedTrial | None:
        """Ask a search's sampler for a new trial; None when it has nothing new."""
        proposal = search.sampler.ask(partial(self._is_useless, search.plan))
        if proposal is None:
            search.exhausted = True
            return None
        trial = search.plan.make_trial(proposal.values)
        search.asked[trial.key] = proposal.number
        search.unfinished.add(trial.key)
        search.keys.add(trial.key)
        return trial

    def _is_useless(self, plan: PlannedSearch, values: dict[str, Any]) -> bool:
        """Tell whether the study has these values already, or they make no configuration."""
        try:
            key = plan.make_trial(values).key
        except ValueError:  # a rule across settings forbids them
            return True
        if key in self.known or key in self.planned:
            return True
        return any(key in search.unfinished for search in self.searches.values())

    def _replay_earlier(self, record: TrialRecord) -> bool:
        """Tell the searches of a trial of an earlier study. Returns whether any contains it."""
        values = self.list_values(record.metrics)
        if record.outcome != "complete" or values is None:
            return False
        contained = False
        for search in self.searches.values():
            point = search.plan.find_point(record.config)
            if point is not None:
                search.sampler.replay(point, "complete", values)
                contained = True
        return contained

    def _queue_follow_ups(self) -> None:
        """Queue the follow-up trials of the searches that are over."""
        for search in self.searches.values():
            if search.over or search.left or search.unfinished:
                continue
            follow_ups = plan_follow_ups(self.plan, search.plan, search.completed)
            new = {trial.key: trial for trial in follow_ups if trial.key not in self.planned}
            self.planned |= set(new)
            self.waiting += [trial for key, trial in new.items() if key not in self.known]
            search.over = True


def list_events(records: Iterable[TrialRecord]) -> list[tuple[int, TrialRecord, bool]]:
    """List the beginnings and endings of trials in their order: number, trial, whether it ended.

    Trials of earlier versions have no numbers; each of them ended before the next one began.
    """
    events = []
    for record in records:
        begun = int(record.tags.get(BEGUN, 0))
        events.append((begun, record, False))
        if record.outcome in FINISHED:
            events.append((int(record.tags.get(ENDED, begun)), record, True))
    return sorted(events, key=lambda event: event[0])


def describe_exhausted(strategy: Strategy) -> Iterator[str]:
    """Describe every search that ended early because its space has nothing new left."""
    for search in strategy.searches.values():
        found = len(search.keys)
        if search.exhausted and found < search.plan.trials:
            ended = f"{search.plan.title} ended with {found} of {search.plan.trials} trials"
            yield f"note: {ended}: its space has nothing new left"
