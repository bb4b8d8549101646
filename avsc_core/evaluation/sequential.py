"""Tests of a study that adds seeds until its differences are told: a group-sequential design.

Whoever tests after each seed at p < 0.05, and stops at the first success, finds a difference where
there is none far more often than in 5 % of studies. A group-sequential design shares the 5 % out
among the *looks*. Its parts:

    information   t_n = (n - 2) / (N - 2) of the look at n seeds, of a study with N seeds at most
    spending      how much of the level may be used up by then (Lan and DeMets 1983), by a function
                  that is like O'Brien and Fleming's bounds: 4 (1 - Phi(z / sqrt(t))) where
                  Phi(z) = 1 - level/4. Early looks get almost nothing, because three seeds say
                  little of how much seeds differ; the last one keeps most, so that a study which
                  reaches its limit has nearly the power of one with N seeds from the start.
    bounds        z values that a difference which is truly 0 crosses with just these
                  probabilities, when its sum moves as a Brownian motion does between looks
    thresholds    the bounds as p values, so that Student's t may take the place of the normal
                  distribution (Jennison and Turnbull 2000, section 3.8)

All looks share their locations, so the information of a figure grows more slowly than its seeds,
and looks are more alike than assumed: then the bounds are too strict, never too lax. Where only
seeds vary, t statistics of few seeds are less alike than sums, for each look estimates the spread
anew; information that counts seeds beyond the second makes up for most of that (a rate of 0.053
instead of 0.057 for the level 0.05, N = 10). `python -m benchmarks sequential` measures level,
power and seeds.

The *sequential p value* of the looks so far is the smallest level at which one of them crosses its
threshold (Liu and Anderson 2008). It is a p value whenever the study stops; so several of them may
be corrected by Holm's method as any others (Maurer and Bretz 2013, Ye et al. 2013).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy import ndarray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

TABLE = np.linspace(0.001, 5.0, 200)  # z values of the levels for which bounds are tabulated
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(201)  # of integrals over -1 to 1


def list_information(looks: Sequence[int]) -> ndarray:
    """List the information of every look, given its number of seeds, 3 or more: (K,)."""
    information: ndarray = (np.array(looks) - 2) / (looks[-1] - 2)
    return information


def spend_level(information: ndarray, level: float) -> ndarray:
    """Compute how much of a two-sided level is spent by each look: (K,) -> (K,), the last `level`.

    The function is Lan and DeMets's for bounds like O'Brien and Fleming's, half for each side.
    """
    spent: ndarray = 4 * ndtr(ndtri(level / 4) / np.sqrt(information))
    return spent


def find_bounds(information: ndarray, spent: ndarray) -> ndarray:
    """Find the z values whose crossing by |z| spends so much: (K,), (K,) -> (K,).

    With B the Brownian motion, z = B(t)/sqrt(t). The density of B among the studies that have not
    stopped is carried from look to look on Gauss-Legendre points (Armitage, McPherson and Rowe
    1969).
    """
    bounds = []
    # Before the first look all studies stand at 0.
    places = np.zeros(1)  # (Q,) values of B
    masses = np.ones(1)  # (Q,) probability of each
    for step, part in zip(np.diff(information, prepend=0), np.diff(spent, prepend=0), strict=True):
        deviation = np.sqrt(step)
        state = (places, masses, deviation, part)
        bound = brentq(_measure_excess, 0.0, 20.0, args=state, xtol=1e-13)
        bounds.append(bound)

        # The studies that go on are those within the bounds.
        inside = bound * POINTS  # (Q',)
        steps = (inside[:, None] - places) / deviation  # (Q',Q)
        density = np.exp(-(steps**2) / 2) @ masses / (deviation * np.sqrt(2 * np.pi))  # (Q',)
        masses = bound * WEIGHTS * density
        places = inside
    standardised: ndarray = np.array(bounds) / np.sqrt(information)
    return standardised


def find_thresholds(looks: Sequence[int], level: float) -> ndarray:
    """Find the p value that each look needs, two-sided, of a design with this level: (K,)."""
    information = list_information(looks)
    thresholds: ndarray = 2 * ndtr(-find_bounds(information, spend_level(information, level)))
    return thresholds


def combine_looks(p: ndarray, looks: Sequence[int]) -> ndarray:
    """Combine the p values of the looks so far, (K',...), into sequential p values, (...).

    `looks` has the number of seeds of all K looks of the design, those to come included. A look
    without a p value, nan, says nothing. The smallest value that comes out is 6e-7.
    """
    z = -ndtri(np.nan_to_num(p, nan=1.0) / 2)  # (K',...)
    bounds = _tabulate_bounds(tuple(looks))
    reached = [np.interp(z[look], bounds[look], TABLE) for look in range(len(p))]
    combined: ndarray = 2 * ndtr(-np.max(reached, axis=0))
    return combined


def _measure_excess(
    bound: float, places: ndarray, masses: ndarray, deviation: float, part: float
) -> float:
    """Compute the probability that B leaves (-bound, bound) in its next step, less `part`."""
    beyond = ndtr((places - bound) / deviation) + ndtr((-bound - places) / deviation)  # (Q,)
    return float(masses @ beyond - part)


@lru_cache
def _tabulate_bounds(looks: tuple[int, ...]) -> ndarray:
    """Tabulate the bound of every look for the levels of TABLE: (K,levels), rising."""
    information = list_information(looks)
    columns = []
    for level in 2 * ndtr(-TABLE):
        columns.append(find_bounds(information, spend_level(information, level)))
    return np.stack(columns, axis=1)
