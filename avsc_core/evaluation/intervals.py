"""How sure a figure is: 95 % intervals and tests for means over clips of locations, and over seeds.

Clips of one location are alike, and the luck of a training moves all its clips; so a figure of R
seeds on L locations varies for two reasons at once. With D[r,l] the part of the figure that seed r
and location l contribute, its variance is estimated as for a two-way layout with random rows and
columns (Cameron, Gelbach and Miller 2011; Owen 2007):

    V = V_locations + V_seeds - V_both

V_locations is the variance over locations within scenes, to which a bootstrap that draws locations
within scenes converges; V_seeds is the variance over seeds; their interaction is part of both and
is subtracted once. The interval is Student's t with Satterthwaite's degrees of freedom, in which
each scene counts by how much it varies: where few scenes vary, few locations are informative. Where
nothing varies, the data do not say how far the figure moves, and no interval is given.

A percentile bootstrap over locations and seeds, the usual way, covers too seldom with three to five
seeds (`python -m benchmarks coverage` has the figures). The difference of two arms is estimated in
the same way from the difference of each clip's values, which pairs clips, locations and seeds; so
is any contrast of arms.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy import stats

from avsc_core.metrics import SMALLEST

LEVEL = 0.95
ROUNDING = 1e-12  # a smaller error, relative to the values, is no variance


class Clips(NamedTuple):
    """The clips that a figure is a mean over."""

    names: tuple[str, ...]  # N
    scenes: ndarray  # (N,) int
    places: ndarray  # (N,) int, locations


class Variance(NamedTuple):
    """The parts of the variance of a figure of several seeds; see the head of this module."""

    locations: tuple[float, ...]  # V_locations, by stratum
    both: tuple[float, ...]  # V_both, by stratum
    freedom_of_locations: tuple[int, ...]  # the degrees of freedom of a stratum's locations
    seeds: float  # V_seeds; 0 for a single seed, which does not show how trainings differ
    seed_count: int

    @property
    def total(self) -> float:
        """V = V_locations + V_seeds - V_both, never below either of the first two."""
        locations = sum(self.locations)
        return max(locations + self.seeds - sum(self.both), locations, self.seeds)

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom.

        V squared over the sum of each part squared over its own degrees of freedom.
        """
        seed_freedom = max(1, self.seed_count - 1)
        spread = self.seeds**2 / seed_freedom
        parts = zip(self.locations, self.both, self.freedom_of_locations, strict=True)
        for location, both, freedom in parts:
            spread += location**2 / freedom + both**2 / (freedom * seed_freedom)
        return max(1.0, self.total**2 / spread) if spread else 1.0


class Estimate(NamedTuple):
    """A figure with its interval, and the p value of a test that it is 0 (for differences)."""

    value: float
    low: (
        float  # nan when the data do not say how far the figure moves: one location, or no variance
    )
    high: float
    p: float
    seeds: int


class Score(NamedTuple):
    """How a score of `metrics.compute_scores` is a mean over clips."""

    values: Callable[[ndarray, ndarray], ndarray]  # (...,N,S), (N,) -> (...,N)
    over_classes: bool  # a mean of class means; else of all clips
    highest: float  # the lowest is 0


class Parts(NamedTuple):
    """A figure of each seed, and what each location contributes beyond its mean."""

    per_seed: ndarray  # (R,)
    by_location: ndarray  # (R,L)
    strata: ndarray  # (L,) int, the stratum of each location


class Strata(NamedTuple):
    """Locations within scenes, grouped into strata in which their variance is measured."""

    location: ndarray  # (N,) int, the location within its scene of each clip
    stratum: ndarray  # (L,) int, of each location
    alone: ndarray  # (L,) bool, whether a location is the only one of its scene


def mark_correct(probability: ndarray, scenes: ndarray) -> ndarray:
    """Return 1 for each clip whose likeliest scene is true, else 0: (...,N,S), (N,) -> (...,N)."""
    right: ndarray = (probability.argmax(-1) == scenes).astype(np.float64)
    return right


def compute_costs(probability: ndarray, scenes: ndarray) -> ndarray:
    """Return -ln of the probability of the true scene of each clip: (...,N,S), (N,) -> (...,N)."""
    true_scenes = np.broadcast_to(scenes, probability.shape[:-1])[..., None]  # (...,N,1)
    true = np.take_along_axis(probability, true_scenes, -1)[..., 0]  # (...,N)
    return -np.log(np.clip(true.astype(np.float64), SMALLEST, 1.0))


def estimate_scores(
    probability: ndarray,  # (N,S)
    scenes: ndarray,  # (N,)
    locations: Sequence[str],  # N
) -> dict[str, Estimate]:
    """Estimate every score of one model, with 95 % intervals over locations.

    A location that two scenes share counts as one of each, with that scene's clips.
    """
    _, places = np.unique(np.asarray(locations), return_inverse=True)  # (N,)
    clips = Clips(tuple(locations), scenes, places)
    found = {}
    for metric, score in SCORES.items():
        values = score.values(probability, scenes)[None]  # (1,N), one seed
        found[metric] = bound(estimate(values, clips, metric), metric)
    return found


def estimate(values: ndarray, clips: Clips, metric: str, level: float = LEVEL) -> Estimate:
    """Estimate the mean of (R,N) values of R seeds on N clips, or of contrasts of such values.

    The mean is one of class means for `acc` and `logloss_classwise`, and one over all clips for
    `acc_overall` and `logloss`. The interval holds the truth with probability `level`.
    """
    seeds = len(values)
    value, variance = _measure(values, clips, metric)

    # Student's t; no interval where nothing varies
    if variance is None:
        p = np.nan if values.any() else 1.0
        return Estimate(value, np.nan, np.nan, p, seeds)
    error = float(np.sqrt(variance.total))
    reach = float(stats.t.ppf(0.5 + level / 2, variance.freedom)) * error
    p = float(2 * stats.t.sf(abs(value) / error, variance.freedom))
    return Estimate(value, value - reach, value + reach, p, seeds)


def estimate_variance(values: ndarray, clips: Clips, metric: str) -> Variance | None:
    """Estimate the variance of what `estimate` estimates; None where that gives no interval."""
    _, variance = _measure(values, clips, metric)
    return variance


def bound(figure: Estimate, metric: str) -> Estimate:
    """Limit the estimate of a level to possible values: Acc to 0 to 1, Logloss to 0 and above.

    A difference has no such limits.
    """
    highest = SCORES[metric].highest
    value, low, high = np.clip(figure[:3], 0.0, highest).tolist()
    return figure._replace(value=value, low=low, high=high)


def _measure(values: ndarray, clips: Clips, metric: str) -> tuple[float, Variance | None]:
    """Return the mean of (R,N) values, and its variance where they vary."""
    parts = _divide(values, clips, metric)
    variance = _estimate_variance(parts)
    if variance and not np.sqrt(variance.total) > ROUNDING * np.abs(values).max():
        variance = None
    return float(parts.per_seed.mean()), variance


def _divide(values: ndarray, clips: Clips, metric: str) -> Parts:
    """Divide the mean of (R,N) values into what seeds and locations contribute."""
    # each clip's weight in the mean, and the mean of each seed
    count = values.shape[1]
    groups = clips.scenes if SCORES[metric].over_classes else np.zeros(count, int)
    sizes = np.bincount(groups)  # (G,) clips of each group
    present = sizes > 0
    weight = 1 / (present.sum() * sizes[groups])  # (N,), adds up to 1
    per_seed = values @ weight  # (R,)

    # what each location contributes beyond the mean of its group; a scene's only location is
    # compared with the mean over all, because it is the mean of its own scene
    strata = _find_strata(clips)
    means = _sum_by_group(values, groups) / np.maximum(sizes, 1)  # (R,G)
    means = np.where(strata.alone[strata.location], per_seed[:, None], means[:, groups])  # (R,N)
    by_location = _sum_by_group((values - means) * weight, strata.location)  # (R,L)
    return Parts(per_seed=per_seed, by_location=by_location, strata=strata.stratum)


def _find_strata(clips: Clips) -> Strata:
    """Number the locations within scenes and group them into strata.

    A stratum is a scene. Scenes with a single location have no spread of their own and form one
    stratum together; if there is only one such scene, it joins another one.
    """
    pairs = np.stack([clips.scenes, clips.places])  # (2,N)
    unique, location = np.unique(pairs, axis=1, return_inverse=True)  # (2,L), (N,)
    stratum = unique[0].copy()  # (L,), the scene
    alone = np.bincount(stratum)[stratum] == 1  # (L,)
    stratum[alone] = -1
    if alone.sum() == 1 and not alone.all():
        stratum[alone] = stratum[~alone][0]
    return Strata(location.reshape(-1), stratum, alone)


def _sum_by_group(values: ndarray, groups: ndarray) -> ndarray:
    """Sum (R,N) values by group: (R,G)."""
    return np.stack([np.bincount(groups, row, groups.max() + 1) for row in values])


def _estimate_variance(parts: Parts) -> Variance | None:
    """Estimate the parts of the variance of the mean over seeds.

    Returns None when a stratum has only one location, so that nothing tells how far locations
    differ.
    """
    seeds = len(parts.per_seed)
    seed_freedom = max(1, seeds - 1)

    # locations, and locations with seeds, stratum by stratum
    of_locations = []
    of_both = []
    freedom = []
    for stratum in np.unique(parts.strata):
        inside = parts.by_location[:, parts.strata == stratum]  # (R,L_h)
        count = inside.shape[1]
        if count == 1:
            return None
        centred = inside - inside.mean(1, keepdims=True)  # (R,L_h)
        mean = centred.mean(0)  # (L_h,)
        scale = count / (count - 1)
        of_locations.append(float(scale * (mean**2).sum()))
        of_both.append(float(scale * ((centred - mean) ** 2).sum() / (seeds * seed_freedom)))
        freedom.append(count - 1)

    return Variance(
        locations=tuple(of_locations),
        both=tuple(of_both),
        freedom_of_locations=tuple(freedom),
        seeds=float(parts.per_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0,
        seed_count=seeds,
    )


SCORES = {
    "acc": Score(mark_correct, over_classes=True, highest=1.0),
    "acc_overall": Score(mark_correct, over_classes=False, highest=1.0),
    "logloss": Score(compute_costs, over_classes=False, highest=np.inf),
    "logloss_classwise": Score(compute_costs, over_classes=True, highest=np.inf),
}
