"""Which dimensions of a search mattered: PED-ANOVA over its complete trials, beside what chance alone would show.

PED-ANOVA (Watanabe, Bansal and Hutter 2023) asks how much the best tenth's values of a dimension differ from
everybody's; it takes conditional dimensions and is Optuna's own default. A dozen trials always have some dimension that
seems to matter, so the same is asked of the same trials with their values shuffled.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from search_spaces.sampling import Sampler
from search_spaces.space import Space

ENOUGH = 10  # complete trials; fewer say nothing
SHUFFLES = 19  # a share above the largest of so many is luck in one of twenty searches


class Importance(NamedTuple):
    """For one metric."""

    shares: dict[
        str, float
    ]  # dimension -> share, adding up to 1, the largest first; empty when there is nothing to say
    chance: float  # the largest share of any dimension in shuffled trials


def measure_importance(
    space: Space, points: Sequence[Mapping[str, Any]], values: Sequence[float], direction: str
) -> Importance:
    """How much each dimension mattered for one metric; `points` are the trials' values of the dimensions."""
    if len(points) < ENOUGH or len(set(values)) == 1:
        return Importance({}, 1.0)
    rng = np.random.default_rng(0)
    shuffled = (
        _shares(space, points, rng.permutation(values).tolist(), direction) for _ in range(SHUFFLES)
    )
    return Importance(
        _shares(space, points, values, direction), max(max(each.values()) for each in shuffled)
    )


def _shares(
    space: Space, points: Sequence[Mapping[str, Any]], values: Sequence[float], direction: str
) -> dict[str, float]:
    sampler = Sampler(space, "random", 0, [direction])
    for point, value in zip(points, values, strict=True):
        sampler.replay(point, "complete", [value])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(sampler.study, evaluator=PedAnovaImportanceEvaluator())
    return {key: float(share) for key, share in shares.items()}
