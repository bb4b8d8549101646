"""Estimates of rows and of their contrasts: values with 95 % intervals and p values.

The figures are means over seeds of the selected epochs on validation. Every estimate starts from
the values of single clips, (R,N) for R seeds and N clips, so that differences of rows pair the same
clips, locations and seeds. `avsc_core.evaluation.intervals` has the method.
"""

from collections.abc import Sequence, Set
from math import inf, nan
from typing import NamedTuple

import numpy as np

from avsc_core.evaluation.intervals import (
    Estimate,
    bound,
    compute_costs,
    estimate,
    estimate_variance,
    mark_correct,
)
from avsc_core.evaluation.power import count_seeds, find_smallest_difference
from avsc_core.evaluation.sequential import combine_looks, find_thresholds
from studies.report.statistics import correct_by_holm
from studies.report.study_results import ReportRow, StudyResults
from studies.study.schema import BELIEVED_BELOW

# metric -> the function from probabilities (R,B,N,S) and scenes (N,) to values of clips (R,B,N)
CLIP_VALUES = {"acc": mark_correct, "logloss": compute_costs}

ONE_POINT = 0.01  # of Acc, and as much of Logloss

NO_ESTIMATE = Estimate(nan, nan, nan, nan, seeds=0)  # of rows that have no seed to estimate it from

# A contrast is a weighted sum of rows' figures; a difference has the weights 1 and -1.
Contrast = Sequence[tuple[ReportRow, float]]


class Power(NamedTuple):
    """What the test of a contrast could have told."""

    level: float  # of the test, corrected
    # The smallest difference that it tells with 80 % power; inf where Acc would need more than 1.
    smallest: float = nan
    more_seeds: float = nan  # that ONE_POINT would take; inf when no number suffices


def estimate_level(study: StudyResults, row: ReportRow, metric: str) -> Estimate:
    """Estimate a row's own figure; NO_ESTIMATE without trials."""
    if not row.trials:
        return NO_ESTIMATE
    values = _read_values(study, row, metric, sorted(row.trials))  # (R,N)
    return bound(estimate(values, study.clips, metric), metric)


def estimate_contrast(
    study: StudyResults, contrast: Contrast, metric: str, omitted_seeds: Set[int] = frozenset()
) -> Estimate:
    """Estimate a contrast over the seeds that all of its rows have; NO_ESTIMATE without any."""
    values = _read_clip_values(study, contrast, metric, omitted_seeds)
    if values is None:
        return NO_ESTIMATE
    return estimate(values, study.clips, metric, study.difference_level)


def estimate_contrasts(
    study: StudyResults, contrasts: Sequence[Contrast], metric: str
) -> list[Estimate]:
    """Estimate every contrast, with p values that are corrected for being several (Holm)."""
    figures = [_estimate_over_looks(study, each, metric) for each in contrasts]
    corrected = correct_by_holm([figure.p for figure in figures])
    return [figure._replace(p=p) for figure, p in zip(figures, corrected, strict=True)]


def _estimate_over_looks(study: StudyResults, contrast: Contrast, metric: str) -> Estimate:
    """Estimate a contrast; its p is that of all looks so far, where seeds were added until told."""
    figure = estimate_contrast(study, contrast, metric)
    if not study.looks or figure.p != figure.p:
        return figure
    p = []
    for count in range(study.looks[0], len(study.seeds)):
        later_seeds = set(study.seeds[count:])
        p.append(estimate_contrast(study, contrast, metric, later_seeds).p)
    combined = combine_looks(np.array([*p, figure.p]), study.looks)
    return figure._replace(p=float(combined))


def state_powers(study: StudyResults, contrasts: Sequence[Contrast], metric: str) -> list[Power]:
    """State what the test of every contrast could have told.

    Each is tested at the level of `find_level`.
    """
    nothing = Power(level=find_level(study, max(1, len(contrasts))))
    powers = []
    for contrast in contrasts:
        values = _read_clip_values(study, contrast, metric)
        variance = None if values is None else estimate_variance(values, study.clips, metric)
        if variance is None:
            powers.append(nothing)
            continue
        smallest = find_smallest_difference(variance, nothing.level)
        if metric == "acc" and smallest > 1:
            smallest = inf
        seeds = count_seeds(variance, ONE_POINT, nothing.level)
        powers.append(Power(nothing.level, smallest, seeds - variance.seed_count))
    return powers


def find_level(study: StudyResults, count: int) -> float:
    """Find the level that Holm's correction asks of the smallest of `count` p values.

    It is the strictest. Where seeds are added until told, it is that of the last look alone.
    """
    level = BELIEVED_BELOW / count
    return float(find_thresholds(study.looks, level)[-1]) if study.looks else level


def subtract(row: ReportRow, other: ReportRow) -> Contrast:
    """Make the contrast `row` less `other`."""
    return [(row, 1.0), (other, -1.0)]


def _read_clip_values(
    study: StudyResults, contrast: Contrast, metric: str, omitted_seeds: Set[int] = frozenset()
) -> np.ndarray | None:
    """Read a contrast's values of single clips, (R,N), over the seeds that all of its rows have."""
    shared_seeds = set.intersection(*(set(row.trials) for row, _ in contrast))
    seeds = sorted(shared_seeds - omitted_seeds)
    if not seeds:
        return None

    values = np.zeros(())  # becomes (R,N)
    for row, weight in contrast:
        values = values + weight * _read_values(study, row, metric, seeds)
    return values


def _read_values(study: StudyResults, row: ReportRow, metric: str, seeds: list[int]) -> np.ndarray:
    """Read the values of clips of which `metric` is a mean: (R,N), means over B epochs."""
    probabilities = study.read_probabilities(row, seeds)  # (R,B,N,S)
    values: np.ndarray = CLIP_VALUES[metric](probabilities, study.clips.scenes).mean(1)
    return values
