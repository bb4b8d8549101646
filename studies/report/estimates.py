"""Estimates of rows and of their contrasts: values with 95 % intervals and p values.

The figures are means over seeds of the best epoch on validation. Every estimate starts from the
values of single clips, (R,N) for R seeds and N clips, so that differences of rows pair the same
clips, locations and seeds. `avsc_core.evaluation.intervals` has the method.
"""

from collections.abc import Sequence, Set
from math import nan
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
from studies.report.statistics import correct_by_holm
from studies.report.study_results import ReportRow, StudyResults

# metric -> the function from probabilities (R,N,S) and scenes (N,) to values of clips (R,N)
CLIP_VALUES = {"acc": mark_correct, "logloss": compute_costs}

TEST_LEVEL = 0.05  # of all tests of a table and metric together
ONE_POINT = 0.01  # of Acc, and as much of Logloss

NO_ESTIMATE = Estimate(nan, nan, nan, nan, seeds=0)  # of rows that have no seed to estimate it from

# A contrast is a weighted sum of rows' figures; a difference has the weights 1 and -1.
Contrast = Sequence[tuple[ReportRow, float]]


class Power(NamedTuple):
    """What the test of a contrast could have told."""

    level: float  # of the test, corrected
    smallest: float = nan  # the smallest difference that it tells with 80 % power
    more_seeds: float = nan  # that ONE_POINT would take; inf when no number suffices


def estimate_level(study: StudyResults, row: ReportRow, metric: str) -> Estimate:
    """Estimate a row's own figure; NO_ESTIMATE without trials."""
    if not row.trials:
        return NO_ESTIMATE
    values = CLIP_VALUES[metric](study.read_probabilities(row), study.clips.scenes)  # (R,N)
    return bound(estimate(values, study.clips, metric), metric)


def estimate_contrast(
    study: StudyResults, contrast: Contrast, metric: str, omitted_seeds: Set[int] = frozenset()
) -> Estimate:
    """Estimate a contrast over the seeds that all of its rows have; NO_ESTIMATE without any."""
    values = _read_clip_values(study, contrast, metric, omitted_seeds)
    return NO_ESTIMATE if values is None else estimate(values, study.clips, metric)


def estimate_contrasts(
    study: StudyResults, contrasts: Sequence[Contrast], metric: str
) -> list[Estimate]:
    """Estimate every contrast, with p values that are corrected for being several (Holm)."""
    figures = [estimate_contrast(study, each, metric) for each in contrasts]
    corrected = correct_by_holm([figure.p for figure in figures])
    return [figure._replace(p=p) for figure, p in zip(figures, corrected, strict=True)]


def state_powers(study: StudyResults, contrasts: Sequence[Contrast], metric: str) -> list[Power]:
    """State what the test of every contrast could have told.

    Each is tested at the level that Holm's correction asks of the smallest p value, the strictest.
    """
    nothing = Power(level=TEST_LEVEL / max(1, len(contrasts)))
    powers = []
    for contrast in contrasts:
        values = _read_clip_values(study, contrast, metric)
        variance = None if values is None else estimate_variance(values, study.clips, metric)
        if variance is None:
            powers.append(nothing)
            continue
        smallest = find_smallest_difference(variance, nothing.level)
        seeds = count_seeds(variance, ONE_POINT, nothing.level)
        powers.append(Power(nothing.level, smallest, seeds - variance.seed_count))
    return powers


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
        probabilities = study.read_probabilities(row, seeds)  # (R,N,S)
        values = values + weight * CLIP_VALUES[metric](probabilities, study.clips.scenes)
    return values
