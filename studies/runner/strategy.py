"""What a study runs next: first what was interrupted, then the arms, then what the sampler asks for.

The record is read once at the start: finished trials are told to the sampler and never run again, unfinished ones
continue in their own MLflow run. A combination that the study has already is not trained twice: the sampler is told the
known value and asked again. This file knows neither Ray nor MLflow; `tune.py` carries out what it says.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from avsc_core.config import Config, flatten
from avsc_core.trainer.recorder import TrialRecord
from search_spaces.sampling import Sampler
from studies.runner.plan import Plan, PlannedTrial, searched_trial, values_in

FINISHED = ("complete", "stopped", "diverged")  # a failed trial, in contrast, is tried again
STATES = {"complete": "complete", "stopped": "pruned", "diverged": "failed", "failed": "failed"}  # Optuna's words
ATTEMPTS = 100  # questions to the sampler that bring nothing new before the space counts as exhausted


class Known(NamedTuple):
    """How a trial ended."""

    outcome: str
    value: float | None  # of its best epoch


class Strategy:
    """The order of a study's trials; `next` and `finish` are all the runner calls."""

    def __init__(self, plan: Plan, records: Iterable[TrialRecord]) -> None:
        self.plan = plan
        self.run_ids: dict[str, str] = {}  # trial key -> the MLflow run to continue
        self.known: dict[str, Known] = {}
        self.asked: dict[str, int] = {}  # trial key -> the sampler's number
        self.searched = 0  # trials of the search that are over, running or waiting
        self.reused = 0  # trials of the plan that the record had already
        search = plan.study.search
        interrupted, again = [], {}
        for record in records:
            self.searched += record.arm == "search"
            self.run_ids[record.key] = record.run_id
            if record.outcome in FINISHED:
                self.known[record.key] = Known(record.outcome, record.metrics.get(f"best_{plan.study.metric}"))
            elif record.arm == "search":
                interrupted.append(searched_trial(plan, dict(flatten(record.config.model_dump()))))
            again[record.key] = record.config
        arms = [trial for trial in plan.trials if trial.key not in self.known]
        arms.sort(key=lambda trial: trial.key not in self.run_ids)  # interrupted ones first, otherwise as written
        self.waiting = deque([*interrupted, *arms])
        self.reused = len(self.known)
        self.sampler = None
        if search:
            # A sampler's random state is not saved; a seed that counts what is known keeps it from asking twice.
            self.sampler = Sampler(
                search.space, search.sampler, search.seed + 1000 * len(self.known), plan.study.direction
            )
            for key, known in self.known.items():
                self._replay(again[key], known)

    @property
    def total(self) -> int:
        """Trials of the whole study, those of the record included."""
        search = self.plan.study.search
        return len(self.plan.trials) + (max(search.trials, self.searched) if search else 0)

    @property
    def done(self) -> bool:
        """Whether the record has every trial already."""
        search = self.plan.study.search
        return not self.waiting and (search is None or self.searched >= search.trials)

    def next(self) -> PlannedTrial | None:
        """The next trial to start, or None when there is nothing left to start."""
        if self.waiting:
            return self.waiting.popleft()
        search = self.plan.study.search
        if search is None or self.sampler is None or self.searched >= search.trials:
            return None
        for _ in range(ATTEMPTS):
            number, values = self.sampler.ask()
            trial = searched_trial(self.plan, values)
            if trial.key not in self.known and trial.key not in self.asked:
                self.asked[trial.key] = number
                self.searched += 1
                return trial
            known = self.known.get(trial.key, Known("failed", None))
            self.sampler.tell(number, STATES[known.outcome], known.value)
        return None

    def finish(self, trial: PlannedTrial, outcome: str, value: float | None) -> None:
        """Note how a trial ended and tell the sampler."""
        self.known[trial.key] = Known(outcome, value)
        if self.sampler is None:
            return
        if trial.key in self.asked:
            self.sampler.tell(self.asked[trial.key], STATES[outcome], value)
        else:
            self._replay(trial.config, self.known[trial.key])

    def _replay(self, config: Config, known: Known) -> None:
        """Tell the sampler of a trial it did not ask for: an arm, or one from the record."""
        search = self.plan.study.search
        values = values_in(search.space, config) if search else None
        if self.sampler and values is not None:
            self.sampler.replay(values, STATES[known.outcome], known.value)
