"""Tests corrected for being several, and rank correlations: parity with statsmodels, level."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from avsc_core.evaluation.intervals import estimate
from studies.report.statistics import correct_by_holm, correlate_ranks
from tests.builders.intervals import SIMULATIONS, clips, draw


@settings(max_examples=25)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), min_size=1, max_size=12))
def test_holm_counts_tests_without_a_p_value(p: list[float]):
    """Each is one of the comparisons that the note names: as if its p value were 1."""
    known = np.isfinite(p)
    wanted = multipletests(np.where(known, p, 1.0), method="holm")[1]
    corrected = np.array(correct_by_holm(p))
    assert corrected[known] == pytest.approx(wanted[known])
    assert np.isnan(corrected[~known]).all()


def test_families_of_tests_cry_out_in_one_of_twenty():
    """Six comparisons of nothing, corrected: any of them below 0.05 in at most 5 % of studies."""
    rng, layout = np.random.default_rng(5), clips()
    cried = []
    for _ in range(SIMULATIONS):
        p = [estimate(draw(rng, layout, 3, 0.5, 0.1, 0.3, 1.0), layout, "acc").p for _ in range(6)]
        cried.append(min(correct_by_holm(p)) < 0.05)
    assert np.mean(cried) <= 0.06


def test_rank_correlation():
    assert np.isnan(correlate_ranks([1, 2], [2, 1])).all()
    assert np.isnan(correlate_ranks([1, 2, 3], [1, 1, 1])).all()
    correlation, _ = correlate_ranks([1, 2, 3, 4], [1, 3, 2, 4])
    assert correlation == pytest.approx(0.8)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_its_p_is_the_share_of_orders_that_agree_as_well(count: int):
    """Perfect agreement of four has 1 / 24; of five, one swap of neighbours is still below 5 %."""
    one = np.arange(count)
    assert correlate_ranks(one, one)[1] == pytest.approx(1 / math.factorial(count))
    swapped = [1, 0, *range(2, count)]
    assert (correlate_ranks(one, swapped)[1] < 0.05) == (count >= 5)
    rng = np.random.default_rng(count)
    other = rng.integers(0, count, count)  # with ties
    correlation, p = correlate_ranks(one, other)
    orders = [stats.spearmanr(one, order).statistic for order in permutations(other)]
    if correlation == correlation:
        assert p == pytest.approx(np.mean(np.array(orders) >= correlation - 1e-9))


def test_p_of_many_configurations_is_drawn():
    correlation, p = correlate_ranks(range(12), [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10])
    assert 0 < p < 0.001 < correlation
