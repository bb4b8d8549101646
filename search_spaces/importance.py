"""Which dimensions of a search mattered, beside what chance alone would show.

PED-ANOVA (Watanabe, Bansal and Hutter 2023), over the completed trials, asks how much the values of
a dimension among the best tenth of the trials differ from its values among all of them. It can
handle dimensions that only some trials have, and it is Optuna's own default. With a dozen trials
some dimension always seems to matter; so the same is computed for the same trials with their metric
shuffled, and a share counts only when it is above all that shuffling gave.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from search_spaces.sampling import Sampler
from search_spaces.space import Space

ENOUGH = 10  # completed trials; fewer say nothing
SHUFFLES = 19  # a share above the largest of so many is luck in one of twenty searches


class Importance(NamedTuple):
    """How much each dimension of a search mattered for one metric."""

    # dimension -> share, adding up to 1, the largest first; empty when nothing can be said
    shares: dict[str, float]
    chance: float  # the largest share of any dimension in shuffled trials


def measure_importance(
    space: Space, points: Sequence[Mapping[str, Any]], values: Sequence[float], direction: str
) -> Importance:
    """Measure how much each dimension mattered for one metric.

    `points` and `values` have one entry for each completed trial: its values of the dimensions, and
    its value of the metric, for which `direction` (max or min) is better.
    """
    if len(points) < ENOUGH or len(set(values)) == 1:
        return Importance({}, 1.0)

    # Optuna's evaluator reads an Optuna study; the sampler is not asked for anything.
    sampler = Sampler(space, "random", seed=0, directions=[direction])
    for point, value in zip(points, values, strict=True):
        sampler.replay(point, "complete", [value])

    # The evaluator takes lower figures for better ones.
    costs = np.negative(values) if direction == "max" else np.asarray(values)
    rng = np.random.default_rng(0)
    largest = []
    for _ in range(SHUFFLES):
        shares = _compute_shares(sampler.study, rng.permutation(costs))
        largest.append(max(shares.values()))
    return Importance(_compute_shares(sampler.study, costs), chance=max(largest))


def _compute_shares(study: optuna.Study, costs: np.ndarray) -> dict[str, float]:
    """Compute the share of each dimension by PED-ANOVA, the largest first.

    `costs` has a figure for each trial of the study, of which lower ones are better.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(),
            target=lambda trial: float(costs[trial.number]),
        )
    return {key: float(share) for key, share in shares.items()}
