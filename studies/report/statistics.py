"""Small statistics of a report: corrected p values, and rank correlation."""

from collections.abc import Sequence
from math import factorial, nan

import numpy as np
from scipy import stats


def correct_by_holm(p: Sequence[float]) -> list[float]:
    """Correct p values for being several (Holm 1979).

    A test without a p value counts as one of them, with the largest; its nan stays nan.
    """
    values = np.array(p)
    order = values.argsort()  # nan last
    factors = len(values) - np.arange(len(values))

    # The smallest of m values is multiplied by m, the next by m - 1, ...; none may be smaller
    # than the one before.
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(np.minimum(values[order] * factors, 1.0))
    return list(map(float, corrected))


def correlate_ranks(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Compute Spearman's rank correlation between values of the same configurations, and its p.

    p is one-sided: the share of all orders of `other` that agree with `one` at least as well. It is
    exact for up to eight configurations; for more, as many orders as eight have are drawn. Both are
    nan for fewer than three configurations, and when all values of a side are equal.
    """
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return nan, nan
    ranks = stats.rankdata(one)
    other_ranks = stats.rankdata(other)

    # With the ranks given, the correlation rises with the sum of their products alone.
    def sum_products(orders: np.ndarray, axis: int) -> np.ndarray:
        sums: np.ndarray = np.sum(orders * other_ranks, axis)
        return sums

    tested = stats.permutation_test(
        [ranks],
        sum_products,
        permutation_type="pairings",
        vectorized=True,
        alternative="greater",
        n_resamples=factorial(8),
        rng=0,
    )
    return float(stats.spearmanr(one, other).statistic), float(tested.pvalue)
