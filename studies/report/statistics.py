"""Small statistics of a report: corrected p values, and rank correlation."""

from collections.abc import Sequence
from math import nan

import numpy as np
from scipy import stats


def correct_by_holm(p: Sequence[float]) -> list[float]:
    """Correct p values for being several (Holm 1979); nan stays nan and does not count."""
    values = np.array(p)
    order = values.argsort()  # nan last
    factors = np.sum(values == values) - np.arange(len(values))

    # The smallest of m values is multiplied by m, the next by m - 1, ...; none may be smaller
    # than the one before.
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(np.minimum(values[order] * factors, 1.0))
    return list(map(float, corrected))


def correlate_ranks(one: Sequence[float], other: Sequence[float]) -> float:
    """Compute Spearman's rank correlation between values of the same configurations.

    It is nan for fewer than three configurations, and when all values of a side are equal.
    """
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return nan
    return float(stats.spearmanr(one, other).statistic)
