"""Tests corrected for being several, and rank correlations: parity with statsmodels, level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from avsc_core.evaluation.intervals import estimate
from studies.report.statistics import correct_by_holm, correlate_ranks
from tests.builders.intervals import SIMULATIONS, clips, draw


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]):
    assert correct_by_holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_leaves_out_what_is_not_known():
    assert correct_by_holm([0.01, float("nan"), 0.04])[::2] == pytest.approx([0.02, 0.04])


def test_families_of_tests_cry_out_in_one_of_twenty():
    """Six comparisons of nothing, corrected: any of them below 0.05 in at most 5 % of studies."""
    rng, layout = np.random.default_rng(5), clips()
    cried = []
    for _ in range(SIMULATIONS):
        p = [estimate(draw(rng, layout, 3, 0.5, 0.1, 0.3, 1.0), layout, "acc").p for _ in range(6)]
        cried.append(min(correct_by_holm(p)) < 0.05)
    assert np.mean(cried) <= 0.06


def test_rank_correlation():
    assert np.isnan(correlate_ranks([1, 2], [2, 1]))
    assert correlate_ranks([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
