"""Corrections and correlations of a report: p values for being several, and how alike two rankings are."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for being several (Holm 1979); nan stays nan and counts for nothing."""
    known = sorted((value, place) for place, value in enumerate(p) if not np.isnan(value))
    corrected, largest = [float("nan")] * len(p), 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        corrected[place] = largest
    return corrected


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's, between the values of the same configurations at two rungs; nan for fewer than three."""
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return float("nan")
    return float(stats.spearmanr(one, other).statistic)
