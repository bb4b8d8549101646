"""How sure a figure is: 95 % intervals and tests for means over clips that share locations, and seeds.

Clips of one location are alike, and a training's luck touches all its clips; so a figure of R seeds on L locations
moves for two reasons at once. With D[r,l] the part of the figure that seed r and location l contribute, its variance
is estimated as for a two-way layout with random rows and columns (Cameron, Gelbach and Miller 2011; Owen 2007):

    V = V_locations + V_seeds - V_both

V_locations is the variance over locations within scenes, what a bootstrap that draws locations within scenes converges
to; V_seeds that over seeds; the interaction is in both and is taken off once. The interval is Student's t with
Satterthwaite's degrees of freedom. A percentile bootstrap over locations and seeds, the usual way, covers too seldom
with three to five seeds (`python -m benchmarks coverage` has the figures). Differences of arms are the same with the
difference of each clip's values, which pairs clips, locations and seeds; so is any contrast of arms.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from avsc_core.trainer.metrics import SMALLEST

LEVEL = 0.95


class Clips(NamedTuple):
    """The clips that all arms were validated on."""

    names: tuple[str, ...]  # N
    scenes: np.ndarray  # (N,) int
    places: np.ndarray  # (N,) int, locations


class Estimate(NamedTuple):
    """A figure with its interval; `p` tests that it is 0, so it means something for differences."""

    value: float
    low: float  # nan when nothing says how far the figure moves: a single location
    high: float
    p: float
    seeds: int

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def correct(probability: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """(..., N, S) probabilities -> (..., N) 1 where the likeliest scene is the true one; its class-wise mean is Acc."""
    right: np.ndarray = (probability.argmax(-1) == scenes).astype(np.float64)
    return right


def costs(probability: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """(..., N, S) probabilities -> (..., N) -ln of the true scene's; its mean is Logloss."""
    true = np.take_along_axis(probability, np.broadcast_to(scenes, probability.shape[:-1])[..., None], -1)[..., 0]
    return -np.log(np.clip(true.astype(np.float64), SMALLEST, 1.0))


def estimate(values: np.ndarray, clips: Clips, metric: str) -> Estimate:
    """(R,N) values of R seeds on N clips, or contrasts of such -> their mean with its interval.

    The mean is that of class means for `acc`, and over all clips for `logloss`.
    """
    seeds, count = values.shape
    groups = clips.scenes if metric == "acc" else np.zeros(count, int)
    sizes = np.bincount(groups)
    present = sizes > 0
    weight = 1 / (present.sum() * sizes[groups])  # (N,), adds up to 1
    per_seed = values @ weight  # (R,)
    means = _sums(values, groups) / np.maximum(sizes, 1)  # (R,G)
    parts, strata = _parts((values - means[:, groups]) * weight, clips)  # (R,L), (L,)
    value = float(per_seed.mean())
    variance, freedom = _variance(per_seed, parts, strata)
    if not np.isfinite(variance):
        return Estimate(value, np.nan, np.nan, np.nan, seeds)
    error = float(np.sqrt(variance))
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * error
    if error == 0:
        return Estimate(value, value, value, 1.0 if value == 0 else np.nan, seeds)
    p = float(2 * stats.t.sf(abs(value) / error, freedom))
    return Estimate(value, value - reach, value + reach, p, seeds)


def bounded(figure: Estimate, metric: str) -> Estimate:
    """The estimate of a level, not of a difference: no Acc lies outside 0 to 1, no Logloss below 0."""
    top = 1.0 if metric == "acc" else np.inf
    return figure._replace(low=max(figure.low, 0.0), high=min(figure.high, top))


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for being several (Holm 1979); nan stays nan and counts for nothing."""
    known = sorted((value, place) for place, value in enumerate(p) if not np.isnan(value))
    corrected, largest = [float("nan")] * len(p), 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        corrected[place] = largest
    return corrected


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's, between the values of the same configurations at two rungs; nan for fewer than three."""
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return float("nan")
    return float(stats.spearmanr(one, other).statistic)


def _parts(residuals: np.ndarray, clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    """(R,N) residuals -> (R,L) their sums by location, and the stratum of each location, its scene.

    Scenes with a single location say nothing alone and form one stratum together.
    """
    pairs = np.stack([clips.scenes, clips.places])
    kept, code = np.unique(pairs, axis=1, return_inverse=True)
    strata = kept[0]
    alone = np.isin(strata, [scene for scene in np.unique(strata) if (strata == scene).sum() == 1])
    return _sums(residuals, code.reshape(-1)), np.where(alone, -1, strata)


def _sums(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(R,N) -> (R,G) sums by group."""
    return np.stack([np.bincount(groups, row, groups.max() + 1) for row in values])


def _variance(per_seed: np.ndarray, parts: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """Of the mean over seeds, and its degrees of freedom; nan when there is only one location to judge by."""
    seeds = len(per_seed)
    of_places = of_both = 0.0
    freedom_places = 0
    for stratum in np.unique(strata):
        own = parts[:, strata == stratum]  # (R,L_h)
        places = own.shape[1]
        if places == 1:
            return np.nan, np.nan
        centred = own - own.mean(1, keepdims=True)
        scale = places / (places - 1)
        of_places += scale * float((centred.mean(0) ** 2).sum())
        freedom_places += places - 1
        if seeds > 1:
            of_both += scale * float(((centred - centred.mean(0)) ** 2).sum()) / (seeds * (seeds - 1))
    if seeds == 1:
        return of_places, freedom_places
    of_seeds = float(per_seed.var(ddof=1)) / seeds
    variance = max(of_places + of_seeds - of_both, of_places, of_seeds)
    spread = of_places**2 / freedom_places + of_seeds**2 / (seeds - 1) + of_both**2 / (freedom_places * (seeds - 1))
    return variance, max(1.0, variance**2 / spread) if spread else 1.0
