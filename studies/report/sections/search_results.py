"""What a search found: its best trials, which dimensions mattered, and the Pareto front.

Arms that are points of the space count with the searched trials, since the sampler knows them, too.
Only completed trials are here: those that a scheduler stopped early are counted in the costs alone.
"""

from collections.abc import Sequence
from functools import cache
from itertools import compress
from math import nan
from typing import Any

import numpy as np

from avsc_core.metrics import direction_of, sign_of
from avsc_core.record.trials import TrialRecord
from avsc_core.resolve import list_settings
from search_spaces.importance import ENOUGH, SHUFFLES, Importance, measure_importance
from studies.report.blocks import Table, Words, format_number, format_setting
from studies.report.study_results import StudyResults, best_value

MOST_TRIALS_SHOWN = 10


def make_best_trials_table(study: StudyResults) -> Table | None:
    """Make the table of the best searched trials with their settings; None without a search."""
    if not study.searched:
        return None
    rows = []
    for trial in study.searched[:MOST_TRIALS_SHOWN]:
        cells = _make_trial_cells(study, trial, ("val_acc", "val_logloss"))
        rows.append([f"{trial.name} {trial.key[:6]}", *cells])

    title = f"Best trials of the search{name_search_rung(study)}"
    header = ["trial", "val Acc", "val Logloss", *_name_dimensions(study)]
    note = (
        f"The first {len(rows)} of {len(study.searched)} completed trials of this space"
        f" by {study.metric}, one seed."
    )
    return Table("search", title, header, rows, note)


def make_importance_table(study: StudyResults) -> Table | Words | None:
    """Tell how much each dimension mattered for every metric; None without a search."""
    if not study.searched:
        return None
    title = f"What mattered{name_search_rung(study)}"
    trials = f"{len(study.searched)} completed trials"
    importances = measure_importances(study)
    if not importances[0].shares:
        reason = f"{trials}; importance needs at least {ENOUGH}, with values that differ."
        return Words(title, [reason])

    # A line for each dimension, the most important for the first metric first; then chance.
    rows = []
    for key in importances[0].shares:
        cells = [format_number(each.shares.get(key, nan), digits=2) for each in importances]
        rows.append([key, *cells])
    by_chance = [format_number(each.chance, digits=2) for each in importances]
    rows.append(["by chance, at most", *by_chance])

    note = (
        f"PED-ANOVA over {trials}; shares add up to 1. A share does not say which values are good."
        f" By chance: the largest share of any dimension in {SHUFFLES} shuffles of the trials'"
        " values; a share below it may be luck."
    )
    return Table("importance", title, ["dimension", *study.metrics], rows, note)


def make_pareto_table(study: StudyResults) -> Table | None:
    """Make the table of the Pareto front; None unless the study has a search and two metrics."""
    if len(study.metrics) < 2 or not study.searched:
        return None
    rows = []
    for trial in find_pareto_front(study):
        rows.append([trial.key[:6], *_make_trial_cells(study, trial, study.metrics)])

    title = f"Pareto front{name_search_rung(study)}"
    header = ["trial", *study.metrics, *_name_dimensions(study)]
    note = "Trials that no other beats in both metrics; their epochs are selected by the first."
    return Table("pareto", title, header, rows, note)


def find_trial_point(study: StudyResults, trial: TrialRecord) -> dict[str, Any]:
    """Find a trial's values of the dimensions that exist in it, in their order."""
    return study.space.present(list_settings(trial.config))


def collect_best_values(study: StudyResults, trials: Sequence[TrialRecord]) -> np.ndarray:
    """Collect the value of every trial for every metric of the study: (trials,metrics)."""
    return np.array([[best_value(trial, metric) for metric in study.metrics] for trial in trials])


@cache  # tables, pictures and conclusions ask, and the shuffles take seconds
def measure_importances(study: StudyResults) -> list[Importance]:
    """Measure how much each dimension of the search mattered, for every metric of the study."""
    points = [find_trial_point(study, trial) for trial in study.searched]
    importances = []
    for metric in study.metrics:
        values = [best_value(trial, metric) for trial in study.searched]
        importances.append(measure_importance(study.space, points, values, direction_of(metric)))
    return importances


def find_pareto_front(study: StudyResults) -> list[TrialRecord]:
    """Find the searched trials that no other beats in both metrics, in their order."""
    # With these signs, more is better for every metric.
    gains = collect_best_values(study, study.searched) * list(map(sign_of, study.metrics))

    # A trial beats another that it equals in all metrics or is better, and is better in one.
    others = gains[:, None]  # (trials,1,metrics)
    beats = np.all(others >= gains, -1) & np.any(others > gains, -1)  # (trials,trials)
    return list(compress(study.searched, np.invert(beats.any(0))))


def name_search_rung(study: StudyResults) -> str:
    """Return what titles add when a search's figures are not of the report's own trainings."""
    return ", cheap rung" if study.is_ladder else ""


def _make_trial_cells(study: StudyResults, trial: TrialRecord, metrics: Sequence[str]) -> list[str]:
    """Make the cells of a trial's best values and dimensions, empty where one does not exist."""
    figures = [format_number(best_value(trial, metric)) for metric in metrics]
    point = find_trial_point(study, trial)
    return figures + [format_setting(point.get(key)) for key in study.space.dimensions]


def _name_dimensions(study: StudyResults) -> list[str]:
    """Name the dimensions in a header: the five loss weights fit only without their prefix."""
    return [key.removeprefix("loss_weights.") for key in study.space.dimensions]
