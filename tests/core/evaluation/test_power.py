"""Power: parity with statsmodels and a naive simulation, and what a study states about itself."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from avsc_core.evaluation.intervals import Clips, Variance, estimate, estimate_variance
from avsc_core.evaluation.power import (
    change_seeds,
    compute_power,
    count_seeds,
    find_smallest_difference,
)
from tests.builders.intervals import SIMULATIONS, clips, draw


def make_variance(
    locations: float = 1.0, both: float = 0.0, seeds: float = 0.0, freedom: int = 20, count: int = 1
) -> Variance:
    """Make the variance of a figure in one stratum of locations."""
    return Variance((locations,), (both,), (freedom,), seeds, count)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
@pytest.mark.parametrize("errors", [1.0, 3.0, 4.0])
def test_with_a_well_known_variance_it_is_the_power_of_the_t_test(errors: float, alpha: float):
    places = 5000
    variance = make_variance(1 / places, freedom=places - 1)
    difference = errors / np.sqrt(places)
    # Half of a two-sided test's level is for differences of this sign.
    expected = TTestPower().power(difference, places, alpha / 2, alternative="larger")
    assert compute_power(variance, difference, alpha) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("freedom", [2, 5, 20])
def test_a_roughly_known_variance_is_averaged_over(freedom: int):
    """Against drawn studies: one measures the variance, another one tests the difference."""
    rng = np.random.default_rng(freedom)
    draws = 200_000
    measured = rng.chisquare(freedom, draws) / freedom  # of a true variance of 1
    errors = 3.0 * np.sqrt(measured)  # the difference, as a multiple of the measured error
    t = (rng.normal(size=draws) + errors) / np.sqrt(rng.chisquare(freedom, draws) / freedom)
    critical = {2: 4.302653, 5: 2.570582, 20: 2.085963}[freedom]
    found = compute_power(make_variance(freedom=freedom), 3.0, 0.05)
    assert found == pytest.approx(np.mean(t > critical), abs=5e-3)


@pytest.mark.parametrize("freedom", [1, 2, 7, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_the_smallest_difference_has_80_percent_power(freedom: int, alpha: float):
    variance = make_variance(4.0, freedom=freedom)
    smallest = find_smallest_difference(variance, alpha)
    assert compute_power(variance, smallest, alpha) == pytest.approx(0.8)
    # It grows with the error and with the number of comparisons.
    assert find_smallest_difference(make_variance(1.0, freedom=freedom), alpha) == pytest.approx(
        smallest / 2
    )
    assert find_smallest_difference(variance, alpha / 6) > smallest


def test_seeds_shrink_what_they_can():
    variance = make_variance(locations=3.0, both=1.0, seeds=2.0, count=3)
    assert change_seeds(variance, 3) == variance
    more = change_seeds(variance, 12)
    assert more.locations == pytest.approx((2.0 + 1.0 / 4,))
    assert more.both == pytest.approx((1.0 / 4,))
    assert more.seeds == 2.0 / 4
    assert more.total == pytest.approx(2.0 + 2.0 / 4)  # V_both is in V_locations and taken off
    # Where less than V_both is seen at the locations, all of it shrinks.
    rough = make_variance(locations=0.5, both=1.0, seeds=2.0, count=3)
    assert change_seeds(rough, 3) == rough
    assert change_seeds(rough, 6).locations == (0.25,)


def test_the_seeds_for_a_difference():
    variance = make_variance(locations=0.0, seeds=1.0, count=3)
    needed = count_seeds(variance, 1.5, 0.05)
    assert compute_power(variance, 1.5, 0.05, int(needed)) >= 0.8
    assert compute_power(variance, 1.5, 0.05, int(needed) - 1) < 0.8
    assert count_seeds(variance, 100.0, 0.05) == 3  # as many as it has
    of_places = make_variance(locations=1.0, seeds=1.0, count=3)
    assert count_seeds(of_places, 1.5, 0.05) == np.inf  # the locations alone vary too much
    assert np.isnan(count_seeds(make_variance(), 1.5, 0.05))  # one seed


def test_the_variance_is_that_of_the_interval():
    layout = clips()
    values = draw(np.random.default_rng(0), layout, 3, 0.3, 0.2, 0.1, 1.0)
    figure = estimate(values, layout, "acc")
    variance = estimate_variance(values, layout, "acc")
    assert variance is not None
    per_seed = values.mean(1)
    assert variance.seeds == pytest.approx(per_seed.var(ddof=1) / 3)
    t = (figure.high - figure.value) / np.sqrt(variance.total)
    assert t > 1.96
    nothing = np.zeros((3, len(layout.names)))
    assert estimate_variance(nothing, layout, "acc") is None
    alone = Clips(("a", "b"), np.array([0, 0]), np.array([0, 0]))
    assert estimate_variance(np.eye(2), alone, "acc") is None


def test_what_a_study_states_is_what_studies_find():
    """New studies with the smallest difference that an earlier one states find it in 80 %."""
    rng, layout = np.random.default_rng(1), clips()
    found = []
    for _ in range(SIMULATIONS // 2):
        earlier = estimate_variance(draw(rng, layout, 3, 0.3, 0.3, 1.0, 1.0), layout, "acc")
        truth = find_smallest_difference(earlier, 0.05)
        new = estimate(draw(rng, layout, 3, 0.3, 0.3, 1.0, 1.0) + truth, layout, "acc")
        found.append(new.p < 0.05 and new.value > 0)
    assert 0.74 <= np.mean(found) <= 0.86
