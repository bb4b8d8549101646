"""Which trials of a search are stopped early, by Ray's schedulers under the names a study file uses.

Schedulers compare trials at the same epoch by the study's metric and see the trials of one search alone: arms fill a
table and run to their end, and arms that are retuned do not compete with each other. A scheduler's state is not saved;
after a restart it is told again what the trials in the record had reported.
"""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, HyperBandScheduler, MedianStoppingRule
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from studies.runner.plan import Plan
from studies.runner.schema import Search, Study


class Reported(NamedTuple):
    """What a trial of the record had reported to its scheduler."""

    search: str
    trial_id: str  # Ray's word
    history: tuple[tuple[int, float], ...]  # (epoch, value of the deciding metric)


ALONE = SimpleNamespace(get_live_trials=list)  # stands for Ray's controller while the past is told: nothing else runs


class EachSearchItsOwn(FIFOScheduler):  # type: ignore[misc]
    """A scheduler for each search; arms fill a table and run to their end untouched."""

    def __init__(self, inner: dict[str, TrialScheduler]) -> None:
        super().__init__()
        self.inner = inner

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if own := self._own(trial):
            own.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if own := self._own(trial):
            own.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        own = self._own(trial)
        return str(own.on_trial_result(tune_controller, trial, result) if own else self.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if own := self._own(trial):
            own.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        if own := self._own(trial):
            own.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial in tune_controller.get_trials():
            if not self._own(trial) and trial.status == trial.PENDING:
                return trial
        chosen = (own.choose_trial_to_run(tune_controller) for own in self.inner.values())
        return next((trial for trial in chosen if trial), None)

    def _own(self, trial: Any) -> TrialScheduler | None:
        return self.inner.get(trial.config["search"])


def build_scheduler(plan: Plan, reported: Iterable[Reported] = ()) -> TrialScheduler:
    """A scheduler for every search of the plan, told what trials of the record had reported."""
    study, search = plan.study, plan.study.search
    if search is None:
        return FIFOScheduler()
    inner = {each.name: SCHEDULERS[search.scheduler](study, search) for each in plan.searches}
    for trial in reported:
        if search.scheduler in REMEMBERING and trial.search in inner:
            _tell(inner[trial.search], study.metric, trial)
    return EachSearchItsOwn(inner)


def _tell(scheduler: TrialScheduler, metric: str, trial: Reported) -> None:
    scheduler.on_trial_add(ALONE, trial)
    result: dict[str, Any] = {}
    for epoch, value in trial.history:
        result = {"epoch": epoch, metric: value}
        scheduler.on_trial_result(ALONE, trial, result)
    scheduler.on_trial_complete(ALONE, trial, result)


def _settings(study: Study, search: Search) -> dict[str, Any]:
    """What every scheduler of Ray wants to know."""
    return {"time_attr": "epoch", "metric": study.metric, "mode": study.direction}


SCHEDULERS: dict[str, Callable[[Study, Search], TrialScheduler]] = {
    "none": lambda study, search: FIFOScheduler(),
    "asha": lambda study, search: AsyncHyperBandScheduler(
        **_settings(study, search),
        max_t=study.base.training.epochs,
        grace_period=min(search.grace_epochs, study.base.training.epochs),
        reduction_factor=search.reduction_factor,
    ),
    "hyperband": lambda study, search: HyperBandScheduler(
        **_settings(study, search), max_t=study.base.training.epochs, reduction_factor=search.reduction_factor
    ),
    "median": lambda study, search: MedianStoppingRule(**_settings(study, search), grace_period=search.grace_epochs),
}

# Rungs and medians are of all trials so far; a bracket of hyperband compares its own members, so it may begin anew.
REMEMBERING = ("asha", "median")
