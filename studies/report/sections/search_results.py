"""What a search found: its best trials, which dimensions mattered, and the Pareto front.

Arms that are points of the space count with the searched trials, since the sampler knows them, too.
Only completed trials are the best, or on the front. What mattered is also judged at the first rung,
the last epoch that every trial reached: completed trials alone are those that a scheduler let run,
so that a dimension that decides this looks as if it did not matter.
"""

from collections.abc import Sequence
from functools import cache
from math import nan
from typing import Any, NamedTuple

import numpy as np

from avsc_core.metrics import direction_of, sign_of
from avsc_core.record.trials import TrialRecord
from avsc_core.resolve import list_settings
from search_spaces.importance import ENOUGH, SHUFFLES, Importance, measure_importance
from studies.report.blocks import Table, Words, format_number, format_setting
from studies.report.study_results import StudyResults, best_value

MOST_TRIALS_SHOWN = 10


class Judgement(NamedTuple):
    """How much each dimension mattered, by the values of some trials of one metric."""

    metric: str
    epoch: int | None  # at which the trials have these values; None for their final figures
    trials: list[TrialRecord]
    values: list[float]  # of the metric, one for each trial
    points: list[dict[str, Any]]  # of the space, one for each trial
    importance: Importance

    @property
    def title(self) -> str:
        """What a column calls it: the metric, and which trials where, if not all at their end."""
        return self.metric if self.epoch is None else f"{self.metric} at epoch {self.epoch}"

    @property
    def basis(self) -> str:
        """Which trials were judged by which of their values."""
        if self.epoch is None:
            return f"{len(self.trials)} completed trials"
        return f"all {len(self.trials)} trials at epoch {self.epoch}, the first rung"


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
    judgements = judge_importance(study)
    telling = [judgement for judgement in judgements if judgement.importance.shares]
    if not telling:
        bases = " or ".join(judgement.basis for judgement in judgements)
        reason = f"{bases}; importance needs at least {ENOUGH}, with values that differ."
        return Words(title, [reason])

    # A line for each dimension, the most important of the first column first; then chance.
    rows = []
    for key in telling[0].importance.shares:
        shares = [judgement.importance.shares.get(key, nan) for judgement in judgements]
        rows.append([key, *(format_number(share, digits=2) for share in shares)])
    by_chance = [format_number(judgement.importance.chance, digits=2) for judgement in judgements]
    rows.append(["by chance, at most", *by_chance])

    header = ["dimension", *(judgement.title for judgement in judgements)]
    return Table("importance", title, header, rows, _describe_importance(study, judgements))


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
def judge_importance(study: StudyResults) -> list[Judgement]:
    """Judge how much each dimension of the search mattered, for every metric of the study.

    Where a scheduler stopped trials, all trials are judged at the first rung, and then the
    completed ones at their end.
    """
    judgements = []
    epoch = find_first_rung(study)
    if epoch:
        trials = [*study.searched, *study.stopped]
        values = [dict(curve)[epoch] for curve in study.read_curves(trials, study.metric)]
        judgements.append(_judge(study, study.metric, epoch, trials, values))
    for metric in study.metrics:
        values = [best_value(trial, metric) for trial in study.searched]
        judgements.append(_judge(study, metric, None, study.searched, values))
    return judgements


def find_first_rung(study: StudyResults) -> int | None:
    """Find the last epoch that every trial of the search reached; None when none was stopped.

    The scheduler's first decision was made there, or at one of several first rungs the earliest.
    """
    if not study.stopped:
        return None
    last_epochs = []
    for curve in study.read_curves([*study.searched, *study.stopped], study.metric):
        last_epochs.append(max((epoch for epoch, _ in curve), default=0))
    return min(last_epochs) or None


def find_pareto_front(study: StudyResults) -> list[TrialRecord]:
    """Find the searched trials that no other beats in both metrics, in their order."""
    # With these signs, more is better for every metric.
    gains = collect_best_values(study, study.searched) * list(map(sign_of, study.metrics))

    # From the best in the first metric on, a trial is beaten unless it is better in the second than
    # all before it. Trials that are equal in both do not beat each other.
    front = set()
    best: tuple[float, float] = (np.inf, -np.inf)
    for place in np.lexsort((-gains[:, 1], -gains[:, 0])):
        first, second = gains[place]
        if second > best[1] or (first, second) == best:
            front.add(place)
            best = (first, second)
    return [trial for place, trial in enumerate(study.searched) if place in front]


def name_search_rung(study: StudyResults) -> str:
    """Return what titles add when a search's figures are not of the report's own trainings."""
    return ", cheap rung" if study.is_ladder else ""


def _judge(
    study: StudyResults,
    metric: str,
    epoch: int | None,
    trials: list[TrialRecord],
    values: list[float],
) -> Judgement:
    """Judge the importance of each dimension by these values of these trials."""
    points = [find_trial_point(study, trial) for trial in trials]
    importance = measure_importance(study.space, points, values, direction_of(metric))
    return Judgement(metric, epoch, trials, values, points, importance)


def _describe_importance(study: StudyResults, judgements: list[Judgement]) -> str:
    """Say which trials were judged where, and what the shares mean."""
    bases = "; ".join(dict.fromkeys(judgement.basis for judgement in judgements))
    note = (
        f"PED-ANOVA over {bases}. Shares add up to 1. A share does not say which values are good."
        f" By chance: the largest share of any dimension in {SHUFFLES} shuffles of the trials'"
        " values; a share below it may be luck."
    )
    if len(judgements) > len(study.metrics):
        note += (
            " Completed trials, judged by their final figures, are those that the scheduler let"
            " run: what decided that shows at the first rung alone."
        )
    lost = len(study.lost)
    if lost:
        note += f" Without a value: {lost} trial{'s' if lost > 1 else ''} that diverged or failed."
    return note


def _make_trial_cells(study: StudyResults, trial: TrialRecord, metrics: Sequence[str]) -> list[str]:
    """Make the cells of a trial's best values and dimensions, empty where one does not exist."""
    figures = [format_number(best_value(trial, metric)) for metric in metrics]
    point = find_trial_point(study, trial)
    return figures + [format_setting(point.get(key)) for key in study.space.dimensions]


def _name_dimensions(study: StudyResults) -> list[str]:
    """Name the dimensions in a header: the five loss weights fit only without their prefix."""
    return [key.removeprefix("loss_weights.") for key in study.space.dimensions]
