"""Which trials of a search are stopped early, by Ray's schedulers under the names a study file uses.

Schedulers compare trials at the same epoch by the study's metric and see the trials of one search alone: arms fill a
table and run to their end, and arms that are retuned do not compete with each other. None of them pauses a trial, so
what is not stopped runs to its end, however few the workers. A scheduler's state is not saved; after a restart it is
told again what the trials in the record had reported.
"""

import math
import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from studies.study.plan import Plan
from studies.study.schema import Search, Study

History = tuple[tuple[int, float], ...]  # (epoch, value of the deciding metric)


class Reported(NamedTuple):
    """What a trial of the record had reported to its scheduler."""

    search: str
    key: str
    finished: bool  # an unfinished one runs on
    history: History

    @property
    def trial_id(self) -> str:
        """Ray's word, as schedulers know a trial by it."""
        return self.key


class Bracket(NamedTuple):
    """A scheduler that judges some of a search's trials, and how many out of all brackets' shares."""

    share: int
    scheduler: TrialScheduler


class EachSearchItsOwn(FIFOScheduler):  # type: ignore[misc]
    """Schedulers for each search; arms run to their end untouched."""

    def __init__(self, study: Study, brackets: dict[str, list[Bracket]]) -> None:
        super().__init__()
        self.study, self.brackets = study, brackets
        self.unfinished: dict[
            str, History
        ] = {}  # by key: what trials that are to run on had reported

    def remember(self, trial: Reported) -> None:
        """Take in a trial of the record: what a finished one reported counts now, another's when it runs on."""
        if own := self.own(trial.search, trial.key):
            if trial.finished:
                _tell(own, trial, trial.history, self.study.metric)
            else:
                self.unfinished[trial.key] = trial.history

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if own := self.own(trial.config["search"], trial.config["key"]):
            own.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        own = self.own(trial.config["search"], trial.config["key"])
        if own is None:
            return str(self.CONTINUE)
        self._catch_up(own, trial, result["epoch"])
        return str(own.on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        own = self.own(trial.config["search"], trial.config["key"])
        if (
            own and "epoch" in result
        ):  # what diverged or failed ends with a word and no epoch, which Ray trips over
            self._catch_up(own, trial, result["epoch"])
            own.on_trial_complete(tune_controller, trial, result)

    def own(self, search: str, key: str) -> TrialScheduler | None:
        """Who judges this trial. Its key draws the bracket, so that a restart puts it into the same one."""
        brackets = self.brackets.get(search)
        if brackets is None:
            return None
        return (
            random.Random(key)
            .choices(brackets, [bracket.share for bracket in brackets])[0]
            .scheduler
        )

    def _catch_up(self, own: TrialScheduler, trial: Any, epoch: int) -> None:
        """Before the first epoch of a trial that runs on: what it had reported and will not report again.

        Only that epoch shows how far its checkpoint is. Untold, it would enter the first rung with a value that others
        had no time to reach.
        """
        if earlier := self.unfinished.pop(trial.config["key"], ()):
            _tell(own, trial, [told for told in earlier if told[0] < epoch], self.study.metric)
            own.on_trial_add(None, trial)


def build_scheduler(plan: Plan, reported: Iterable[Reported] = ()) -> TrialScheduler:
    """Schedulers for every search of the plan, told what trials of the record had reported."""
    study, search = plan.study, plan.study.search
    if search is None or search.scheduler == "none":
        return FIFOScheduler()
    build = SCHEDULERS[search.scheduler]
    brackets = {
        each.name: build(study, search, each.base.training.epochs) for each in plan.searches
    }
    scheduler = EachSearchItsOwn(study, brackets)
    for trial in reported:
        scheduler.remember(trial)
    return scheduler


def _tell(
    scheduler: TrialScheduler, trial: Any, history: Iterable[tuple[int, float]], metric: str
) -> None:
    """Tell a scheduler what a trial had reported, without a verdict: the trial has got past it already.

    Ray takes a value without judging it in `on_trial_complete` alone, where ASHA forgets the trial but not the value.
    """
    for epoch, value in history:
        scheduler.on_trial_add(None, trial)
        scheduler.on_trial_complete(None, trial, {"epoch": epoch, metric: value})


def _settings(study: Study) -> dict[str, Any]:
    """What every scheduler of Ray wants to know."""
    return {"time_attr": "epoch", "metric": study.metric, "mode": study.direction}


def _hyperband(study: Study, search: Search, epochs: int) -> list[Bracket]:
    """Asynchronous HyperBand: ASHA from several grace periods at once.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning". Nobody waits there for a bracket to fill.
    One grace period suits no problem for certain: a short one stops late starters, a long one wastes epochs. So the
    rungs of bracket s = 0 .. s_max begin at grace_epochs * eta^s epochs, eta being the reduction factor, and its share
    of the trials is the number of configurations that HyperBand starts there, ceil((s_max + 1) / (h + 1) * eta^h) with
    h = s_max - s halvings.
    """
    eta, graces = search.reduction_factor, [min(search.grace_epochs, epochs)]
    while graces[-1] * eta <= epochs:
        graces.append(graces[-1] * eta)
    return [
        Bracket(
            math.ceil(len(graces) * eta**halvings / (halvings + 1)),
            AsyncHyperBandScheduler(
                **_settings(study), max_t=epochs, grace_period=grace, reduction_factor=eta
            ),
        )
        for halvings, grace in zip(reversed(range(len(graces))), graces, strict=True)
    ]


def _asha(study: Study, search: Search, epochs: int) -> list[Bracket]:
    """HyperBand's first bracket alone."""
    return _hyperband(study, search, epochs)[:1]


def _median(study: Study, search: Search, epochs: int) -> list[Bracket]:
    """Stops what is worse than the median of running means."""
    # A slice without end: until there is a median, trials go on instead of taking turns, which costs a reload each.
    rule = MedianStoppingRule(
        **_settings(study), grace_period=search.grace_epochs, min_time_slice=math.inf
    )
    return [Bracket(1, rule)]


SCHEDULERS: dict[str, Callable[[Study, Search, int], list[Bracket]]] = {
    "asha": _asha,
    "hyperband": _hyperband,
    "median": _median,
}
