"""How sure a figure is: 95 % intervals and tests for means over clips that share locations, and seeds.

Clips of one location are alike, and a training's luck touches all its clips; so a figure of R seeds on L locations
moves for two reasons at once. With D[r,l] the part of the figure that seed r and location l contribute, its variance
is estimated as for a two-way layout with random rows and columns (Cameron, Gelbach and Miller 2011; Owen 2007):

    V = V_locations + V_seeds - V_both

V_locations is the variance over locations within scenes, what a bootstrap that draws locations within scenes converges
to; V_seeds that over seeds; the interaction is in both and is taken off once. The interval is Student's t with
Satterthwaite's degrees of freedom, each scene counting for what it varies: where only few scenes vary, few locations
speak. Where nothing varies nothing is known of how far the figure moves, and no interval is given. A percentile
bootstrap over locations and seeds, the usual way, covers too seldom with three to five seeds (`python -m benchmarks
coverage` has the figures). Differences of arms are the same with the difference of each clip's values, which pairs
clips, locations and seeds; so is any contrast of arms.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from avsc_core.metrics import SMALLEST

LEVEL = 0.95
ROUNDING = 1e-12  # what is smaller, beside the values, is no variance


class Clips(NamedTuple):
    """The clips that all arms were validated on."""

    names: tuple[str, ...]  # N
    scenes: np.ndarray  # (N,) int
    places: np.ndarray  # (N,) int, locations


class Estimate(NamedTuple):
    """A figure with its interval; `p` tests that it is 0, so it means something for differences."""

    value: float
    low: float  # nan when nothing says how far the figure moves: a single location, or no variance at all
    high: float
    p: float
    seeds: int


def correct(probability: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """(..., N, S) probabilities -> (..., N) 1 where the likeliest scene is the true one; its class-wise mean is Acc."""
    right: np.ndarray = (probability.argmax(-1) == scenes).astype(np.float64)
    return right


def costs(probability: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """(..., N, S) probabilities -> (..., N) -ln of the true scene's; its mean is Logloss."""
    true = np.take_along_axis(
        probability, np.broadcast_to(scenes, probability.shape[:-1])[..., None], -1
    )[..., 0]
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
    places, strata, alone = _places(clips)
    means = np.where(
        alone[places], per_seed[:, None], means[:, groups]
    )  # (R,N); a lone location has no mean beside it
    parts = _sums((values - means) * weight, places)  # (R,L)
    value = float(per_seed.mean())
    variance, freedom = _variance(per_seed, parts, strata)
    error = float(np.sqrt(variance))
    if not error > ROUNDING * np.abs(values).max():
        return Estimate(value, np.nan, np.nan, np.nan if values.any() else 1.0, seeds)
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(value) / error, freedom))
    return Estimate(value, value - reach, value + reach, p, seeds)


def bounded(figure: Estimate, metric: str) -> Estimate:
    """The estimate of a level, not of a difference: no Acc lies outside 0 to 1, no Logloss below 0."""
    top = 1.0 if metric == "acc" else np.inf
    value, low, high = (
        float(np.clip(each, 0.0, top)) for each in (figure.value, figure.low, figure.high)
    )
    return figure._replace(value=value, low=low, high=high)


def _places(clips: Clips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each clip's location within its scene (N,), the stratum of each such location (L,), and which are alone (L,).

    A stratum is a scene. Scenes with a single location have no spread of their own and form one stratum together; if
    there is only one of them it joins another scene.
    """
    kept, code = np.unique(np.stack([clips.scenes, clips.places]), axis=1, return_inverse=True)
    strata = kept[0].copy()
    alone = np.bincount(strata)[strata] == 1
    strata[alone] = -1
    if alone.sum() == 1 and not alone.all():
        strata[alone] = strata[~alone][0]
    return code.reshape(-1), strata, alone


def _sums(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(R,N) -> (R,G) sums by group."""
    return np.stack([np.bincount(groups, row, groups.max() + 1) for row in values])


def _variance(per_seed: np.ndarray, parts: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """Of the mean over seeds, and its degrees of freedom; nan when there is only one location to judge by."""
    seeds = len(per_seed)
    of_places, of_both, freedom = [], [], []  # for each stratum
    for stratum in np.unique(strata):
        own = parts[:, strata == stratum]  # (R,L_h)
        places = own.shape[1]
        if places == 1:
            return np.nan, np.nan
        centred = own - own.mean(1, keepdims=True)
        scale = places / (places - 1)
        of_places.append(scale * (centred.mean(0) ** 2).sum())
        of_both.append(
            scale * ((centred - centred.mean(0)) ** 2).sum() / (seeds * max(1, seeds - 1))
        )
        freedom.append(places - 1)
    of_seeds = per_seed.var(ddof=1) / seeds if seeds > 1 else 0.0
    variance = max(sum(of_places) + of_seeds - sum(of_both), sum(of_places), of_seeds)
    spread = of_seeds**2 / max(1, seeds - 1)
    for place, both, free in zip(of_places, of_both, freedom, strict=True):
        spread += place**2 / free + both**2 / (free * max(1, seeds - 1))
    return float(variance), max(1.0, float(variance**2 / spread)) if spread else 1.0
