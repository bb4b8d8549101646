"""What a search found: its best trials, what mattered, the Pareto front of two metrics, both rungs of a ladder.

Arms that are points of the space count with the searched trials, as the sampler was told of them. Only trials that ran
to their end are here: what a scheduler stopped early is counted in the costs and nowhere else.
"""

from typing import Any

from avsc_core.config import flatten
from avsc_core.trainer.recorder import TrialRecord
from search_spaces.importance import ENOUGH, importances
from studies.report.blocks import Table, Words, number
from studies.report.gather import Gathered, Row
from studies.report.statistics import rank_correlation
from studies.runner.plan import PUBLISHED_ARM

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
        for cells in [[_short(point.get(key)) for key in keys]]
    ]
    header = ["trial", "val Acc", "val Logloss", *_columns(keys)]
    note = f"The first {len(rows)} of {len(study.searched)} complete trials of this space by {study.metric}, one seed."
    return Table("search", "Best trials of the search", header, rows, note)


def importance(study: Gathered) -> Table | Words | None:
    """How much each dimension mattered, for every metric."""
    if study.space is None or not study.searched:
        return None
    shares = shares_of(study)
    if not shares[0]:
        return Words(
            "What mattered", [f"{len(study.searched)} complete trials; importance asks for {ENOUGH} at least."]
        )
    rows = [[key, *(number(share[key], 2) for share in shares)] for key in shares[0]]
    note = f"PED-ANOVA over {len(study.searched)} complete trials; shares add up to 1. A share is no direction."
    return Table("importance", "What mattered", ["dimension", *study.metrics], rows, note)


def shares_of(study: Gathered) -> list[dict[str, float]]:
    """For every metric: dimension -> its share of importance."""
    assert study.space is not None
    told = [values(study, trial) for trial in study.searched]
    directions = ["max" if metric == "val_acc" else "min" for metric in study.metrics]
    return importances(study.space, points(study), told, directions)


def front(study: Gathered) -> list[TrialRecord]:
    """The complete trials of a study with two metrics that no other beats in both, by the first metric."""
    signs = [1 if metric == "val_acc" else -1 for metric in study.metrics]
    told = [(trial, [s * v for s, v in zip(signs, values(study, trial), strict=True)]) for trial in study.searched]
    kept = []
    for trial, own in told:
        beaten = any(all(a >= b for a, b in zip(other, own, strict=True)) and other != own for _, other in told)
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
        [trial.key[:6], *(number(value) for value in values(study, trial)), *(_short(point.get(key)) for key in keys)]
        for trial, point in zip(study.searched, points(study), strict=True)
        if trial.key in best
    ]
    note = "Trials that no other beats in both metrics, each at its best epoch by the first."
    return Table("pareto", "Pareto front", ["trial", *study.metrics, *_columns(keys)], rows, note)


def rungs(study: Gathered) -> list[tuple[Row, float]]:
    """The rows of a ladder's upper rung, each with its value at the lower one (nan when that is not in the record)."""
    found = []
    for row in study.upper:
        first = row.trials.get(study.seeds[0])
        below = study.lower_of(first) if first else None
        found.append((row, below.metrics[f"best_{study.metric}"] if below else float("nan")))
    return found


def agreement(both: list[tuple[Row, float]], metric: str) -> float:
    """Spearman's rank correlation of two rungs; nan for fewer than three configurations."""
    whole = [(below, row.mean(metric)) for row, below in both if below == below]
    return rank_correlation([below for below, _ in whole], [above for _, above in whole])


def ladder(study: Gathered) -> Table | None:
    """Finalists and the published configuration at both rungs, with the rank correlation of the two."""
    if not study.about["ladder"]:
        return None
    both = rungs(study)
    rows = [
        [row.name, number(below), number(row.mean(study.metric)), f"{len(row.trials)}/{row.wanted}"]
        for row, below in both
    ]
    shown = number(agreement(both, study.metric), 2)
    note = (
        f"Rank correlation (Spearman) of the two rungs over {len(both)} configurations: {shown}. "
        f"{PUBLISHED_ARM.capitalize()} is the base without the search's values. Figures of different rungs never mix."
    )
    header = ["configuration", f"lower rung, {study.metric}", f"upper rung, {study.metric}", "seeds above"]
    return Table("ladder", "Both rungs of the ladder", header, rows, note)


def _columns(keys: list[str]) -> list[str]:
    """Dimensions as the heads of columns: of the five loss weights only which loss, so that all of them fit."""
    return [key.removeprefix("loss_weights.") for key in keys]


def _short(value: Any) -> str:
    """A setting in a table; nothing where the dimension does not exist."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
