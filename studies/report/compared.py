"""Arms side by side: the study's own table with what is published, and how their differences compare.

A row's figures are means over its seeds of the best epoch on validation, with 95 % intervals over locations and seeds.
Differences pair the same clips, locations and seeds of two arms; their p values are corrected for being several (Holm).
"""

from collections.abc import Mapping, Sequence, Set
from itertools import combinations
from math import nan
from typing import Any

import numpy as np

from avsc_core.evaluation.intervals import Estimate, bounded, correct, costs, estimate
from avsc_core.resolve import flatten, identify
from search_spaces.space import list_inactive
from studies.report.blocks import (
    INTERVAL,
    MISSING,
    NAMES,
    Table,
    number,
    p_value,
    setting,
    signed,
    span,
)
from studies.report.gather import Gathered, Row
from studies.report.statistics import holm

VALUES = {"acc": correct, "logloss": costs}
ALL_PAIRS = 5  # arms; of more, each is compared with the first

CORRECTED = "p is corrected for {} of each metric (Holm), each interval is its own alone."

Found = dict[
    str, list[Estimate | None]
]  # metric -> a figure for each difference asked for; None: no seed in common


def results(study: Gathered) -> Table:
    """Every row: seeds, Acc and Logloss with intervals."""
    table = []
    for row in study.rows:
        cells = [row.name, f"{len(row.trials)}/{row.wanted}"]
        for metric in VALUES:
            figure = level(study, row, metric)
            cells += (
                [number(figure.value), span(figure.low, figure.high)]
                if figure
                else [MISSING, MISSING]
            )
        table.append(cells)
    note = "Means of the best epoch on validation; intervals over locations and seeds."
    if any(len(row.trials) == 1 for row in study.rows):
        note += " One seed says nothing about the luck of a training: its interval is over locations alone."
    if any(row.selected for row in study.rows):
        note += (
            " Rows that were picked as the best of several by these same clips flatter themselves."
        )
    header = ["arm", "seeds", *(title for metric in VALUES for title in (NAMES[metric], INTERVAL))]
    return Table("results", "Results", header, table, note)


def published(study: Gathered) -> Table | None:
    """What is published, with where it stands, beside ours; on synthetic scenes there is no difference to speak of."""
    told = [row for row in study.rows if row.published]
    if not told:
        return None
    titles = ["published {}", "our {}"] + ([] if study.embedded else ["ours - it"])
    header = [
        "arm",
        "where",
        *(title.format(name) for name in ("Acc", "Logloss") for title in titles),
    ]
    rows = []
    for row in told:
        cells = [row.name, _place(row.published or {})]
        for metric in VALUES:
            theirs, ours = (row.published or {})[metric], row.mean(f"val_{metric}")
            theirs = nan if theirs is None else theirs
            cells += [number(theirs), number(ours)] + (
                [] if study.embedded else [signed(ours - theirs)]
            )
        rows.append(cells)
    note = "Published figures are of other clips than ours, which are of validation: for comparison only."
    return Table("published", "Beside what is published", header, rows, note)


def settings(study: Gathered) -> Table | None:
    """What each row changes of the base, and what a reader should know of it."""
    base = dict(flatten(study.definition["base"]))
    rows = []
    for row in study.rows:
        config = next((trial.config for trial in row.trials.values()), None)
        told = dict(flatten(identify(config))) if config else {}
        kept = [
            key
            for key in told
            if key != "seed" and (config is None or key not in list_inactive(config))
        ]
        changed = [f"{key} {setting(told[key])}" for key in kept if told[key] != base[key]]
        rows.append([row.name, ", ".join(changed) or ("nothing" if config else MISSING), row.note])
    notes = any(row.note for row in study.rows)
    header = ["arm", "changes of the base", *(["note"] if notes else [])]
    return (
        Table("settings", "What the rows are", header, [row[: len(header)] for row in rows])
        if rows
        else None
    )


def level(study: Gathered, row: Row, metric: str) -> Estimate | None:
    """A row's own figure, or None without trials."""
    if not row.trials:
        return None
    values = VALUES[metric](study.probability(row), study.clips.scenes)
    return bounded(estimate(values, study.clips, metric), metric)


def contrast(
    study: Gathered,
    weights: Sequence[tuple[Row, float]],
    metric: str,
    without: Set[int] = frozenset(),
) -> Estimate | None:
    """A sum of rows' figures with these weights, over the seeds that all of them have; None when there are none."""
    seeds = sorted(set.intersection(*(set(row.trials) for row, _ in weights)) - without)
    if not seeds:
        return None
    values = sum(
        weight * VALUES[metric](study.probability(row, seeds), study.clips.scenes)
        for row, weight in weights
    )
    return estimate(np.asarray(values), study.clips, metric)


def compared_arms(study: Gathered) -> list[Row]:
    """The arms that tests compare: those with trials that were not picked by their figures, equal ones once."""
    return [same[0] for same in _by_training(study)]


def _by_training(study: Gathered) -> list[list[Row]]:
    """Rows that tests may compare, those with the same trainings together, in the order of the first of each."""
    found: dict[frozenset[str], list[Row]] = {}
    for row in study.rows:
        if row.trials and not row.selected:
            found.setdefault(frozenset(trial.run_id for trial in row.trials.values()), []).append(
                row
            )
    return list(found.values())


def pairs_of(arms: Sequence[Row]) -> list[tuple[Row, Row]]:
    """All pairs of a few arms, the later first; of more, each with the first."""
    return (
        list(combinations(arms[::-1], 2))
        if len(arms) <= ALL_PAIRS
        else [(arm, arms[0]) for arm in arms[1:]]
    )


def differences(study: Gathered, pairs: Sequence[tuple[Row, Row]]) -> Found:
    """What the first of each pair has more than the second."""
    return {
        metric: [contrast(study, [(one, 1.0), (other, -1.0)], metric) for one, other in pairs]
        for metric in VALUES
    }


def comparisons(study: Gathered) -> Table | None:
    """Differences between arms."""
    pairs = pairs_of(compared_arms(study))
    if not pairs:
        return None
    cells = differences_table(
        [[one.name, other.name] for one, other in pairs], differences(study, pairs)
    )
    header = ["arm", "against", "seeds", *DIFFERENCE_HEADER]
    note = "Paired by clip, location and seed. " + CORRECTED.format(f"{len(pairs)} comparisons")
    if any(len(row.trials) == 1 for pair in pairs for row in pair):
        note += " Where there is one seed, nothing speaks of the luck of trainings."
    for first, *others in _by_training(study):
        if others:
            note += f" {', '.join(row.name for row in others)}: the same training as {first.name}."
    return Table("comparisons", "Differences between arms", header, cells, note)


DIFFERENCE_HEADER = ["Acc", INTERVAL, "p", "Logloss", INTERVAL, "p"]


def corrected(figures: Sequence[Estimate | None]) -> list[float]:
    """Their p values, corrected for being several."""
    return holm([figure.p if figure else float("nan") for figure in figures])


def differences_table(names: list[list[str]], found: Found) -> list[list[str]]:
    """Rows of names, seeds, and each metric's difference, interval and corrected p."""
    told = {metric: corrected(figures) for metric, figures in found.items()}
    rows = []
    for place, name in enumerate(names):
        first = next(iter(found.values()))[place]
        cells = [*name, str(first.seeds) if first else "0"]
        for metric, figures in found.items():
            figure = figures[place]
            if figure is None:
                cells += [MISSING] * 3
            else:
                p = p_value(told[metric][place])
                cells += [signed(figure.value), span(figure.low, figure.high), p]
        rows.append(cells)
    return rows


def _place(published: Mapping[str, Any]) -> str:
    table = str(published["table"])
    return f"{'Table ' if set(table) <= set('IVX') else ''}{table}, row {published['row']}"
