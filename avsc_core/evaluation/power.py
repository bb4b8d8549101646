"""What a study could have told: the power of its tests, from the same variance as its intervals.

A test of a difference d has Student's t with Satterthwaite's degrees of freedom f (intervals.py).
When d is the true difference, t follows the non-central t distribution with f degrees of freedom
and non-centrality d / sqrt(V). So the variance V that a study has measured says how likely a study
like it finds a difference of any size, the smallest difference that it finds with a power of 80 %,
and how many seeds another size takes.

A study of a few seeds knows its own variance only roughly: V_measured / V is chi-squared over its
degrees of freedom. Power is the mean over that distribution; with V_measured taken for V, it would
be overstated (`python -m benchmarks power`).

With R' seeds in place of R, V_seeds and V_both shrink by R / R'. What locations contribute beyond
V_both does not shrink: no number of seeds makes the validation clips more.
"""

from bisect import bisect_left

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from avsc_core.evaluation.intervals import Variance

POWER = 0.8
MOST_SEEDS = 1000  # where these do not suffice, the locations alone vary too much
CASES = (np.arange(100) + 0.5) / 100  # equally likely cases of V_measured / V, by their quantiles


def compute_power(
    variance: Variance, difference: float, alpha: float, seeds: int | None = None
) -> float:
    """Compute how likely a true difference is found, by a two-sided test at level `alpha`.

    `variance` was measured; the test has as many seeds or `seeds`. A test that finds the opposite
    of the truth has not found it.
    """
    tested = change_seeds(variance, seeds or variance.seed_count)
    if not tested.total:
        return 1.0
    critical = stats.t.ppf(1 - alpha / 2, tested.freedom)
    ratios = stats.chi2.ppf(CASES, variance.freedom) / variance.freedom  # V_measured / V
    noncentrality = difference * np.sqrt(ratios / tested.total)
    return float(stats.nct.sf(critical, tested.freedom, noncentrality).mean())


def find_smallest_difference(variance: Variance, alpha: float) -> float:
    """Find the smallest true difference that a test at level `alpha` finds with 80 % power."""

    def miss_power(errors: float) -> float:
        return compute_power(variance, errors * error, alpha) - POWER

    error = float(np.sqrt(variance.total))
    critical = stats.t.ppf(1 - alpha / 2, variance.freedom)
    # With one degree of freedom, the fewest, 3.1 times the critical value has 80 % power.
    return float(brentq(miss_power, 0.0, 4 * critical)) * error


def count_seeds(variance: Variance, difference: float, alpha: float) -> float:
    """Count the seeds with which a true difference is found with 80 % power.

    They are never fewer than the variance was measured with. The count is nan when that was one
    seed, which does not show how trainings differ, and inf when no number suffices.
    """
    if variance.seed_count < 2:
        return float("nan")

    def suffice(seeds: int) -> bool:
        return compute_power(variance, difference, alpha, seeds) >= POWER

    counts = range(variance.seed_count, MOST_SEEDS + 1)
    place = bisect_left(counts, True, key=suffice)
    return counts[place] if place < len(counts) else float("inf")


def change_seeds(variance: Variance, seeds: int) -> Variance:
    """Predict the variance of the same figure over another number of seeds."""
    shrink = variance.seed_count / seeds

    # V_locations holds V_both once, which shrinks; each stratum keeps its share of their sum.
    locations = sum(variance.locations)
    shrinking = min(sum(variance.both), locations)
    left = 1 - (1 - shrink) * shrinking / locations if locations else 1.0
    return variance._replace(
        locations=tuple(left * location for location in variance.locations),
        both=tuple(shrink * both for both in variance.both),
        seeds=shrink * variance.seeds,
        seed_count=seeds,
    )
