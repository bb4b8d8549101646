"""Arms side by side: the study's own table with what is published, and how their differences compare.

A row's figures are means over its seeds of the best epoch on validation, with 95 % intervals over locations and seeds.
Differences pair the same clips, locations and seeds of two arms; their p values are corrected for being several (Holm).
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from studies.report.blocks import INTERVAL, MISSING, NAMES, Table, number, p_value, signed, span
from studies.report.gather import Gathered, Row
from studies.report.statistics import Estimate, bounded, correct, costs, estimate, holm

VALUES = {"acc": correct, "logloss": costs}
ALL_PAIRS = 5  # arms; of more, each is compared with the first

Found = dict[str, list[Estimate | None]]  # metric -> a figure for each difference asked for; None: no seed in common


def results(study: Gathered) -> Table:
    """Every row: seeds, Acc and Logloss with intervals, what is published and how far ours is from it."""
    rows = study.rows
    told = [metric for metric in VALUES if any((row.published or {}).get(metric) is not None for row in rows)]
    header = ["arm", "seeds"]
    for metric in VALUES:
        header += [NAMES[metric], INTERVAL]
        header += ["published"] if metric in told else []
        header += ["ours - it"] if metric in told and not study.embedded else []
    table = []
    for row in rows:
        cells = [row.name, f"{len(row.trials)}/{row.wanted}"]
        for metric in VALUES:
            figure = level(study, row, metric)
            cells += [number(figure.value), span(figure.low, figure.high)] if figure else [MISSING, MISSING]
            if metric in told:
                theirs = (row.published or {}).get(metric)
                cells.append("" if theirs is None else number(theirs))
            if metric in told and not study.embedded:
                cells.append("" if theirs is None else signed(row.mean(f"val_{metric}") - theirs))
        table.append(cells)
    note = "Means of the best epoch on validation; intervals over locations and seeds."
    if any(row.wanted == 1 for row in rows):
        note += " One seed says nothing about the luck of a training: its interval is over locations alone."
    if any(row.selected for row in rows):
        note += " Rows that were picked as the best of several by these same clips flatter themselves."
    if told:
        note += " Published figures are of real streets' test split, ours of validation: for comparison only."
    else:
        note += " The study's file has no published figures."
    return Table("results", "Results", header, table, note)


def sources(study: Gathered) -> Table | None:
    """Where published figures stand, and what a reader should know of a row."""
    told = [row for row in study.rows if row.published or row.note]
    if not told:
        return None
    rows = [[row.name, _place(row.published) if row.published else "", row.note] for row in told]
    return Table("sources", "What the rows are", ["arm", "published in", "note"], rows)


def level(study: Gathered, row: Row, metric: str) -> Estimate | None:
    """A row's own figure, or None without trials."""
    if not row.trials:
        return None
    values = VALUES[metric](study.probability(row), study.clips.scenes)
    return bounded(estimate(values, study.clips, metric), metric)


def contrast(study: Gathered, weights: Sequence[tuple[Row, float]], metric: str) -> Estimate | None:
    """A sum of rows' figures with these weights, over the seeds that all of them have; None when there are none."""
    seeds = sorted(set.intersection(*(set(row.trials) for row, _ in weights)))
    if not seeds:
        return None
    values = sum(weight * VALUES[metric](study.probability(row, seeds), study.clips.scenes) for row, weight in weights)
    return estimate(np.asarray(values), study.clips, metric)


def compared_arms(study: Gathered) -> list[Row]:
    """The arms that tests compare: those with trials that were not picked by their figures, equal ones once."""
    rows = [row for row in study.rows if row.trials and not row.selected]
    return list({frozenset(t.run_id for t in row.trials.values()): row for row in rows[::-1]}.values())[::-1]


def pairs_of(arms: Sequence[Row]) -> list[tuple[Row, Row]]:
    """All pairs of a few arms, the later first; of more, each with the first."""
    return list(combinations(arms[::-1], 2)) if len(arms) <= ALL_PAIRS else [(arm, arms[0]) for arm in arms[1:]]


def differences(study: Gathered, pairs: Sequence[tuple[Row, Row]]) -> Found:
    """What the first of each pair has more than the second."""
    return {metric: [contrast(study, [(one, 1.0), (other, -1.0)], metric) for one, other in pairs] for metric in VALUES}


def comparisons(study: Gathered) -> Table | None:
    """Differences between arms."""
    pairs = pairs_of(compared_arms(study))
    if not pairs:
        return None
    cells = differences_table([[one.name, other.name] for one, other in pairs], differences(study, pairs))
    header = ["arm", "against", "seeds", *DIFFERENCE_HEADER]
    note = f"Paired by clip, location and seed; p corrected for {len(pairs)} comparisons of each metric (Holm)."
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
