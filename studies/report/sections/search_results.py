"""What a search found: its best trials, which dimensions mattered, and the Pareto front.

Arms that are points of the space count with the searched trials, since the sampler knows them, too.
Only completed trials are here: those that a scheduler stopped early are counted in the costs alone.
"""

from functools import cache
from math import nan
from typing import Any

from avsc_core.record.trials import TrialRecord
from avsc_core.resolve import list_settings
from search_spaces.importance import ENOUGH, SHUFFLES, Importance, measure_importance
from studies.report.blocks import Table, Words, format_number, format_setting
from studies.report.statistics import sign_of
from studies.report.study_results import StudyResults, best_value

MOST_TRIALS_SHOWN = 10


def make_best_trials_table(study: StudyResults) -> Table | None:
    """Make the table of the best searched trials with their settings; None without a search."""
    if not study.searched or study.space is None:
        return None
    keys = list(study.space.dimensions)

    # Trial, both metrics, and the value of each dimension, empty where it does not exist.
    shown = list(zip(study.searched, list_points(study), strict=True))[:MOST_TRIALS_SHOWN]
    rows = []
    for trial, point in shown:
        cells = [f"{trial.name} {trial.key[:6]}"]
        cells.append(format_number(best_value(trial, "val_acc")))
        cells.append(format_number(best_value(trial, "val_logloss")))
        cells += [format_setting(point.get(key)) for key in keys]
        rows.append(cells)

    title = f"Best trials of the search{name_search_rung(study)}"
    header = ["trial", "val Acc", "val Logloss", *_shorten_keys(keys)]
    note = (
        f"The first {len(rows)} of {len(study.searched)} completed trials of this space"
        f" by {study.metric}, one seed."
    )
    return Table("search", title, header, rows, note)


def make_importance_table(study: StudyResults) -> Table | Words | None:
    """Tell how much each dimension mattered for every metric; None without a search."""
    if study.space is None or not study.searched:
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
        shares = [importance.shares.get(key, nan) for importance in importances]
        rows.append([key, *(format_number(share, digits=2) for share in shares)])
    by_chance = [format_number(importance.chance, digits=2) for importance in importances]
    rows.append(["by chance, at most", *by_chance])

    note = (
        f"PED-ANOVA over {trials}; shares add up to 1. A share does not say which values are good."
        f" By chance: the largest share of any dimension in {SHUFFLES} shuffles of the trials'"
        " values; a share below it may be luck."
    )
    return Table("importance", title, ["dimension", *study.metrics], rows, note)


def make_pareto_table(study: StudyResults) -> Table | None:
    """Make the table of the Pareto front; None unless the study has a search and two metrics."""
    if len(study.metrics) < 2 or not study.searched or study.space is None:
        return None
    keys = list(study.space.dimensions)
    front_keys = {trial.key for trial in find_pareto_front(study)}
    rows = []
    for trial, point in zip(study.searched, list_points(study), strict=True):
        if trial.key in front_keys:
            cells = [trial.key[:6]]
            cells += map(format_number, list_best_values(study, trial))
            cells += [format_setting(point.get(key)) for key in keys]
            rows.append(cells)

    title = f"Pareto front{name_search_rung(study)}"
    header = ["trial", *study.metrics, *_shorten_keys(keys)]
    note = "Trials that no other beats in both metrics, each at its best epoch by the first."
    return Table("pareto", title, header, rows, note)


def list_points(study: StudyResults) -> list[dict[str, Any]]:
    """List every searched trial's values of the dimensions that exist in it, in their order."""
    assert study.space is not None
    points = []
    for trial in study.searched:
        points.append(study.space.present(list_settings(trial.config)))
    return points


def list_best_values(study: StudyResults, trial: TrialRecord) -> list[float]:
    """List a trial's best value of every metric of the study."""
    return [best_value(trial, metric) for metric in study.metrics]


@cache  # tables, pictures and conclusions ask, and the shuffles take seconds
def measure_importances(study: StudyResults) -> list[Importance]:
    """Measure how much each dimension of the search mattered, for every metric of the study."""
    assert study.space is not None
    points = list_points(study)
    importances = []
    for metric in study.metrics:
        values = [best_value(trial, metric) for trial in study.searched]
        direction = "max" if sign_of(metric) > 0 else "min"
        importances.append(measure_importance(study.space, points, values, direction))
    return importances


def find_pareto_front(study: StudyResults) -> list[TrialRecord]:
    """Find the searched trials that no other beats in both metrics, in their order."""
    gains = [_list_gains(study, trial) for trial in study.searched]
    front = []
    for trial, own_gains in zip(study.searched, gains, strict=True):
        if not any(_dominates(other_gains, own_gains) for other_gains in gains):
            front.append(trial)
    return front


def name_search_rung(study: StudyResults) -> str:
    """Return what titles add when a search's figures are not of the report's own trainings."""
    return ", cheap rung" if study.is_ladder else ""


def _list_gains(study: StudyResults, trial: TrialRecord) -> list[float]:
    """List a trial's values with signs, so that more is better for every metric."""
    return [sign_of(metric) * best_value(trial, metric) for metric in study.metrics]


def _dominates(one: list[float], other: list[float]) -> bool:
    """Tell whether `one` is at least as good in all metrics, and better in one."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _shorten_keys(keys: list[str]) -> list[str]:
    """Shorten dimensions to titles of columns: the five loss weights fit only without a prefix."""
    return [key.removeprefix("loss_weights.") for key in keys]
