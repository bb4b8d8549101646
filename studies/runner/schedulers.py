"""Which trials of a search are stopped early, by Ray's schedulers under the names a study file uses.

Schedulers compare trials at the same epoch by the study's metric and see the trials of the search alone: arms fill a
table and run to their end.
"""

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, HyperBandScheduler, MedianStoppingRule
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from studies.runner.schema import SEARCH_ARM, Search, Study


class SearchOnly(FIFOScheduler):  # type: ignore[misc]
    """A scheduler for the trials of the search; arms fill a table and run to their end untouched."""

    def __init__(self, inner: TrialScheduler) -> None:
        super().__init__()
        self.inner = inner

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if _searched(trial):
            self.inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if _searched(trial):
            self.inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(self.inner.on_trial_result(tune_controller, trial, result) if _searched(trial) else self.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if _searched(trial):
            self.inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        if _searched(trial):
            self.inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial in tune_controller.get_trials():
            if not _searched(trial) and trial.status == trial.PENDING:
                return trial
        return self.inner.choose_trial_to_run(tune_controller)


def build_scheduler(study: Study) -> TrialScheduler:
    """The scheduler of the study's search, kept away from its arms."""
    if study.search is None:
        return FIFOScheduler()
    return SearchOnly(SCHEDULERS[study.search.scheduler](study, study.search))


def _searched(trial: Any) -> bool:
    return bool(trial.config["arm"] == SEARCH_ARM)


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
