"""Estimates of rows and of their contrasts: values with 95 % intervals and p values.

The figures are means over seeds of the best epoch on validation. Every estimate starts from the
values of single clips, (R,N) for R seeds and N clips, so that differences of rows pair the same
clips, locations and seeds. `avsc_core.evaluation.intervals` has the method.
"""

from collections.abc import Callable, Sequence, Set

import numpy as np

from avsc_core.evaluation.intervals import Estimate, bounded, correct, costs, estimate
from studies.report.statistics import holm
from studies.report.study_results import ReportRow, StudyResults

# metric -> the function from probabilities (R,N,S) and scenes (N,) to values of clips (R,N)
CLIP_VALUES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "acc": correct,
    "logloss": costs,
}

# A contrast is a weighted sum of rows' figures; a difference has the weights 1 and -1.
Contrast = Sequence[tuple[ReportRow, float]]

# metric -> one estimate for each contrast; None when its rows have no seed in common
ContrastEstimates = dict[str, list[Estimate | None]]


def estimate_level(study: StudyResults, row: ReportRow, metric: str) -> Estimate | None:
    """Estimate a row's own figure; None without trials."""
    if not row.trials:
        return None
    values = CLIP_VALUES[metric](study.read_probabilities(row), study.clips.scenes)  # (R,N)
    return bounded(estimate(values, study.clips, metric), metric)


def estimate_contrast(
    study: StudyResults, contrast: Contrast, metric: str, omitted_seeds: Set[int] = frozenset()
) -> Estimate | None:
    """Estimate a contrast over the seeds that all of its rows have; None without such a seed."""
    shared_seeds = set.intersection(*(set(row.trials) for row, _ in contrast))
    seeds = sorted(shared_seeds - omitted_seeds)
    if not seeds:
        return None

    values = np.zeros(())  # becomes (R,N)
    for row, weight in contrast:
        probabilities = study.read_probabilities(row, seeds)  # (R,N,S)
        values = values + weight * CLIP_VALUES[metric](probabilities, study.clips.scenes)
    return estimate(values, study.clips, metric)


def estimate_contrasts(study: StudyResults, contrasts: Sequence[Contrast]) -> ContrastEstimates:
    """Estimate every contrast, for both metrics."""
    estimates = {}
    for metric in CLIP_VALUES:
        estimates[metric] = [estimate_contrast(study, each, metric) for each in contrasts]
    return estimates


def subtract(row: ReportRow, other: ReportRow) -> Contrast:
    """Make the contrast `row` less `other`."""
    return [(row, 1.0), (other, -1.0)]


def correct_p_values(estimates: Sequence[Estimate | None]) -> list[float]:
    """Correct the p values of several estimates (Holm); nan where there is no estimate."""
    return holm([figure.p if figure else float("nan") for figure in estimates])
