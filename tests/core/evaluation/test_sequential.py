"""Group-sequential bounds beside published ones and scipy, and the level that they hold."""

import numpy as np
import pytest
from scipy import stats

from avsc_core.evaluation.sequential import (
    combine_looks,
    find_bounds,
    find_thresholds,
    list_information,
    spend_level,
)

LOOKS = range(3, 11)
FIFTHS = np.arange(1, 6) / 5


def test_bounds_are_the_published_ones():
    """Five looks at level 0.05; Jennison and Turnbull 2000, and R's gsDesign (sfLDOF, sfLDPocock).

    Lan and DeMets's function for bounds like Pocock's is level * ln(1 + (e - 1) t).
    """
    like_obrien_fleming = find_bounds(FIFTHS, spend_level(FIFTHS, 0.05))
    assert like_obrien_fleming == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    like_pocock = find_bounds(FIFTHS, 0.05 * np.log(1 + (np.e - 1) * FIFTHS))
    assert like_pocock == pytest.approx([2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=1e-4)


@pytest.mark.parametrize("level", [0.05, 0.3])
def test_bounds_spend_what_scipy_says(level: float):
    """z at looks i <= j of a Brownian motion correlates by sqrt(t_i / t_j)."""
    information = np.array([0.2, 0.5, 0.7, 1.0])
    spent = spend_level(information, level)
    assert spent[-1] == pytest.approx(level)
    bounds = find_bounds(information, spent)
    ratio = information[:, None] / information
    correlation = np.sqrt(np.minimum(ratio, 1 / ratio))
    for count in range(1, 5):
        joint = stats.multivariate_normal(cov=correlation[:count, :count])
        inside = joint.cdf(bounds[:count], lower_limit=-bounds[:count])
        assert 1 - inside == pytest.approx(spent[count - 1], abs=2e-5)


def test_a_sequential_p_value_is_the_level_whose_threshold_is_met():
    for level in (0.3, 0.05, 0.05 / 6, 0.001):
        thresholds = find_thresholds(LOOKS, level)
        assert (np.diff(thresholds) > 0).all()
        for look, threshold in enumerate(thresholds):
            p = np.ones(len(LOOKS))
            p[look] = threshold
            assert combine_looks(p, LOOKS) == pytest.approx(level, rel=1e-4)


def test_later_looks_take_nothing_back():
    p = np.array([[0.5, 0.5], [1e-6, np.nan], [0.9, 0.9]])  # (looks,differences)
    first = combine_looks(p[:1], LOOKS)
    second = combine_looks(p[:2], LOOKS)
    assert (first > 0.99).all()  # three seeds say almost nothing
    assert second[0] < 0.05 < second[1] == first[1]
    assert combine_looks(p, LOOKS) == pytest.approx(second)


def test_level_is_held_by_t_tests_of_seeds_alone():
    """Where locations add nothing, looks are least alike; careless testing errs in 13 %."""
    draws = np.random.default_rng(0).normal(size=(50_000, LOOKS[-1]))  # (studies,seeds)
    p = []
    for seeds in LOOKS:
        p.append(stats.ttest_1samp(draws[:, :seeds], 0.0, axis=1).pvalue)
    combined = combine_looks(np.array(p), LOOKS)
    for level in (0.05, 0.05 / 6):
        assert level * 0.9 < np.mean(combined < level) < level * 1.12
    assert np.mean(np.min(p, axis=0) < 0.05) > 0.12


def test_information_grows_with_the_seeds_beyond_the_second():
    assert list_information(range(3, 7)) == pytest.approx([0.25, 0.5, 0.75, 1.0])
