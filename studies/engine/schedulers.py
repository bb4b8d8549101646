"""Which trials of a search are stopped early, by schedulers under the names of a study file.

`asha` and `hyperband` are Ray's, `median` is our own (median.py).

Schedulers compare trials at the same epoch by the study's metric and see the trials of one search
only: arms fill a table and are never stopped, and arms that are retuned do not compete with each
other. No scheduler pauses a trial, so what is not stopped runs to its end, however few the
workers. A scheduler's state is not saved; after a restart it is told again what the trials in the
record had reported.
"""

import math
import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from studies.engine.median import MedianRule
from studies.study.plan import Plan
from studies.study.schema import Search, Study

History = tuple[tuple[int, float], ...]  # (epoch, value of the deciding metric)


class Reported(NamedTuple):
    """What a trial of the record had reported to its scheduler."""

    search: str
    key: str
    finished: bool  # an unfinished trial runs on
    history: History

    @property
    def trial_id(self) -> str:
        """The name by which Ray's schedulers know a trial."""
        return self.key


class Bracket(NamedTuple):
    """A scheduler that judges a share of a search's trials."""

    share: int  # relative to the shares of the search's other brackets
    scheduler: TrialScheduler


class SchedulerPerSearch(FIFOScheduler):  # type: ignore[misc]
    """Gives every search schedulers of its own; trials of arms are never stopped."""

    def __init__(self, study: Study, brackets: dict[str, list[Bracket]]) -> None:
        super().__init__()
        self.study = study
        self.brackets = brackets  # by the search's name
        self.unfinished: dict[str, History] = {}  # key -> what a trial that runs on had reported

    def remember(self, trial: Reported) -> None:
        """Take in a trial of the record.

        Reports of a finished trial count now, those of an unfinished one when it runs on.
        """
        scheduler = self.find_scheduler(trial.search, trial.key)
        if scheduler is None:
            return
        if trial.finished:
            _replay(scheduler, trial, trial.history, self.study.metric)
        else:
            self.unfinished[trial.key] = trial.history

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        scheduler = self.find_scheduler(trial.config["search"], trial.config["key"])
        if scheduler:
            scheduler.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        scheduler = self.find_scheduler(trial.config["search"], trial.config["key"])
        if scheduler is None:
            return str(self.CONTINUE)
        self._catch_up(scheduler, trial, result["epoch"])
        return str(scheduler.on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        scheduler = self.find_scheduler(trial.config["search"], trial.config["key"])
        # A trial that diverged or failed reports no epoch, which Ray's schedulers cannot take. One
        # that its scheduler stopped has no outcome of its own, and its last epoch was judged: the
        # median would count it twice, and once when it is told again after a restart.
        if scheduler and "epoch" in result and "outcome" in result:
            self._catch_up(scheduler, trial, result["epoch"])
            scheduler.on_trial_complete(tune_controller, trial, result)

    def find_scheduler(self, search: str, key: str) -> TrialScheduler | None:
        """Return the scheduler that judges a trial; None for trials of arms.

        The trial's key draws the bracket, so that a restart draws the same one.
        """
        brackets = self.brackets.get(search)
        if brackets is None:
            return None
        shares = [bracket.share for bracket in brackets]
        return random.Random(key).choices(brackets, shares)[0].scheduler

    def _catch_up(self, scheduler: TrialScheduler, trial: Any, epoch: int) -> None:
        """Tell a scheduler what a continued trial had reported before its first epoch here.

        Only that epoch shows how far the trial's checkpoint was. Without its past, the trial would
        enter the first rung with a value that the others had no time to reach.
        """
        history = self.unfinished.pop(trial.config["key"], ())
        if history:
            past = [report for report in history if report[0] < epoch]
            _replay(scheduler, trial, past, self.study.metric)
            scheduler.on_trial_add(None, trial)


def build_scheduler(plan: Plan, reported: Iterable[Reported] = ()) -> TrialScheduler:
    """Build schedulers for every search, told what trials of the record had reported."""
    study = plan.study
    search = study.search
    if search is None or search.scheduler == "none":
        return FIFOScheduler()

    build = SCHEDULERS[search.scheduler]
    brackets = {}
    for planned in plan.searches:
        brackets[planned.name] = build(study, search, planned.base.training.epochs)
    scheduler = SchedulerPerSearch(study, brackets)
    for trial in reported:
        scheduler.remember(trial)
    return scheduler


def _replay(
    scheduler: TrialScheduler, trial: Any, history: Iterable[tuple[int, float]], metric: str
) -> None:
    """Tell a scheduler what a trial had reported, without asking it to judge the trial again.

    Ray takes a value without judging it in `on_trial_complete` only, where ASHA forgets the trial
    but not the value.
    """
    for epoch, value in history:
        scheduler.on_trial_add(None, trial)
        scheduler.on_trial_complete(None, trial, {"epoch": epoch, metric: value})


def _build_hyperband(study: Study, search: Search, epochs: int) -> list[Bracket]:
    """Build asynchronous HyperBand: ASHA with several grace periods at once.

    After Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning": no trial waits
    for a bracket to fill. No single grace period suits every problem: a short one stops late
    starters, a long one wastes epochs. So the rungs of bracket s = 0 .. s_max begin at
    grace_epochs * eta^s epochs, eta being the reduction factor, and its share of the trials is the
    number of configurations that HyperBand starts there, ceil((s_max + 1) / (h + 1) * eta^h) with
    h = s_max - s halvings.
    """
    eta = search.reduction_factor
    graces = [min(search.grace_epochs, epochs)]
    while graces[-1] * eta <= epochs:
        graces.append(graces[-1] * eta)

    brackets = []
    for number, grace in enumerate(graces):
        halvings = len(graces) - 1 - number
        share = math.ceil(len(graces) * eta**halvings / (halvings + 1))
        scheduler = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric=study.metric,
            mode=study.direction,
            max_t=epochs,
            grace_period=grace,
            reduction_factor=eta,
        )
        brackets.append(Bracket(share, scheduler))
    return brackets


def _build_asha(study: Study, search: Search, epochs: int) -> list[Bracket]:
    """Build ASHA, which is the first bracket of HyperBand."""
    return _build_hyperband(study, search, epochs)[:1]


def _build_median(study: Study, search: Search, epochs: int) -> list[Bracket]:
    """Build the rule that stops a trial whose mean so far is worse than the median of the
    others."""
    return [Bracket(1, MedianRule(study.metric, study.direction, search.grace_epochs))]


SCHEDULERS: dict[str, Callable[[Study, Search, int], list[Bracket]]] = {
    "asha": _build_asha,
    "hyperband": _build_hyperband,
    "median": _build_median,
}
