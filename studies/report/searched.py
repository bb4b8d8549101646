"""What a search found: its best trials, what mattered, the Pareto front of two metrics, both rungs of a ladder.

Arms that are points of the space count with the searched trials, as the sampler was told of them. Only trials that ran
to their end are here: what a scheduler stopped early is counted in the costs and nowhere else.
"""

from functools import cache
from math import nan
from typing import Any

from avsc_core.record.trials import TrialRecord
from avsc_core.resolve import flatten
from search_spaces.importance import ENOUGH, SHUFFLES, Importance
from search_spaces.importance import measure_importance as measure
from studies.report.blocks import Table, Words, number, setting
from studies.report.gather import Gathered, Row
from studies.report.statistics import rank_correlation
from studies.study.plan import PUBLISHED_ARM

SHOWN = 10  # of the best trials


def points(study: Gathered) -> list[dict[str, Any]]:
    """Each complete searched trial's values of the dimensions that exist in it, in the order of `study.searched`."""
    space = study.space
    assert space is not None
    return [space.present(dict(flatten(trial.config.model_dump()))) for trial in study.searched]


def values(study: Gathered, trial: TrialRecord) -> list[float]:
    """A trial's value of every metric of the study."""
    return [trial.metrics[f"best_{metric}"] for metric in study.metrics]


def best_trials(study: Gathered) -> Table | None:
    """The best trials of the search with their settings."""
    if not study.searched or study.space is None:
        return None
    keys = list(study.space.dimensions)
    rows = [
        [
            f"{trial.arm} {trial.key[:6]}",
            *(number(trial.metrics[f"best_{metric}"]) for metric in ("val_acc", "val_logloss")),
            *cells,
        ]
        for trial, point in list(zip(study.searched, points(study), strict=True))[:SHOWN]
        for cells in [[setting(point.get(key)) for key in keys]]
    ]
    header = ["trial", "val Acc", "val Logloss", *_columns(keys)]
    note = f"The first {len(rows)} of {len(study.searched)} complete trials of this space by {study.metric}, one seed."
    return Table("search", "Best trials of the search" + rung(study), header, rows, note)


def importance(study: Gathered) -> Table | Words | None:
    """How much each dimension mattered, for every metric."""
    if study.space is None or not study.searched:
        return None
    found = importances(study)
    title, many = "What mattered" + rung(study), f"{len(study.searched)} complete trials"
    if not found[0].shares:
        return Words(
            title, [f"{many}; importance asks for {ENOUGH} at least, with values that differ."]
        )
    rows = [
        [key, *(number(each.shares.get(key, nan), 2) for each in found)] for key in found[0].shares
    ]
    rows.append(["by chance, at most", *(number(each.chance, 2) for each in found)])
    note = (
        f"PED-ANOVA over {many}; shares add up to 1. A share is no direction. By chance: the largest share of any "
        f"dimension in {SHUFFLES} shuffles of the trials' values; what lies below may be luck."
    )
    return Table("importance", title, ["dimension", *study.metrics], rows, note)


@cache
def importances(study: Gathered) -> list[Importance]:
    """Of the study's metrics, in their order."""
    assert study.space is not None
    told = list(zip(*(values(study, trial) for trial in study.searched), strict=True))
    directions = ["max" if metric == "val_acc" else "min" for metric in study.metrics]
    whole = points(study)
    return [
        measure(study.space, whole, own, way) for own, way in zip(told, directions, strict=True)
    ]


def rung(study: Gathered) -> str:
    """What titles of a search's figures say where they are not of the trainings that the report is about."""
    return ", lower rung" if study.about["ladder"] else ""


def front(study: Gathered) -> list[TrialRecord]:
    """The complete trials of a study with two metrics that no other beats in both, by the first metric."""
    signs = [1 if metric == "val_acc" else -1 for metric in study.metrics]
    told = [
        (trial, [s * v for s, v in zip(signs, values(study, trial), strict=True)])
        for trial in study.searched
    ]
    kept = []
    for trial, own in told:
        beaten = any(
            all(a >= b for a, b in zip(other, own, strict=True)) and other != own
            for _, other in told
        )
        if not beaten:
            kept.append(trial)
    return kept


def pareto(study: Gathered) -> Table | None:
    """The Pareto front as a table."""
    if len(study.metrics) < 2 or not study.searched or study.space is None:
        return None
    keys = list(study.space.dimensions)
    best = {trial.key for trial in front(study)}
    rows = [
        [
            trial.key[:6],
            *(number(value) for value in values(study, trial)),
            *(setting(point.get(key)) for key in keys),
        ]
        for trial, point in zip(study.searched, points(study), strict=True)
        if trial.key in best
    ]
    note = "Trials that no other beats in both metrics, each at its best epoch by the first."
    return Table(
        "pareto",
        "Pareto front" + rung(study),
        ["trial", *study.metrics, *_columns(keys)],
        rows,
        note,
    )


def rungs(study: Gathered) -> list[tuple[Row, float]]:
    """The rows of a ladder's upper rung, each with its value at the lower one (nan when that is not in the record)."""
    found = []
    for row in study.upper:
        below = next((study.lower_of(trial) for trial in row.trials.values()), None)
        found.append((row, below.metrics[f"best_{study.metric}"] if below else nan))
    return found


def agreement(study: Gathered) -> tuple[int, float]:
    """How many configurations both rungs have, and Spearman's rank correlation of them; nan for fewer than three."""
    both = [
        (below, row.mean(study.metric))
        for row, below in rungs(study)
        if below == below and row.trials
    ]
    return len(both), rank_correlation([below for below, _ in both], [above for _, above in both])


def ladder(study: Gathered) -> Table | None:
    """Finalists and the published configuration at both rungs, with the rank correlation of the two."""
    if not study.about["ladder"]:
        return None
    rows = [
        [row.name, number(below), number(row.mean(study.metric)), f"{len(row.trials)}/{row.wanted}"]
        for row, below in rungs(study)
    ]
    many, correlation = agreement(study)
    note = (
        f"Rank correlation (Spearman) of the two rungs over {many} configurations: {number(correlation, 2)}. "
        f"Below one training, above the mean over seeds. "
        f"{PUBLISHED_ARM.capitalize()} is the base without the search's values. Figures of different rungs never mix."
    )
    header = [
        "configuration",
        f"lower rung, {study.metric}",
        f"upper rung, {study.metric}",
        "seeds above",
    ]
    return Table("ladder", "Both rungs of the ladder", header, rows, note)


def _columns(keys: list[str]) -> list[str]:
    """Dimensions as the heads of columns: of the five loss weights only which loss, so that all of them fit."""
    return [key.removeprefix("loss_weights.") for key in keys]
