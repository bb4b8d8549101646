"""Small statistics of a report: corrected p values, rank correlation, the direction of metrics."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def sign_of(metric: str) -> int:
    """Return 1 for a metric of which more is better (acc), -1 where less is (logloss)."""
    return 1 if "acc" in metric else -1


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values for being several (Holm 1979); nan stays nan and does not count."""
    known = sorted((value, place) for place, value in enumerate(p) if not np.isnan(value))
    corrected = [float("nan")] * len(p)

    # The smallest of m values is multiplied by m, the next by m - 1, ...; none may be smaller
    # than the one before.
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        corrected[place] = largest
    return corrected


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Compute Spearman's rank correlation between values of the same configurations.

    It is nan for fewer than three configurations, and when all values of a side are equal.
    """
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return float("nan")
    return float(stats.spearmanr(one, other).statistic)
