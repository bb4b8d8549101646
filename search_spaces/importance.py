"""Which dimensions of a search mattered: PED-ANOVA over its complete trials, for each metric.

PED-ANOVA (Watanabe, Bansal and Hutter 2023) asks how much the best tenth's values of a dimension differ from
everybody's; it takes conditional dimensions and is Optuna's own default.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from search_spaces.sampling import Sampler
from search_spaces.space import Space

ENOUGH = 10  # complete trials; fewer say nothing


def importances(
    space: Space, points: Sequence[Mapping[str, Any]], values: Sequence[Sequence[float]], directions: Sequence[str]
) -> list[dict[str, float]]:
    """For each metric: dimension -> share of importance, adding up to 1, the largest first; empty with too few trials.

    `points` are the trials' values of the dimensions, `values` their value of every metric.
    """
    if len(points) < ENOUGH:
        return [{} for _ in directions]
    found = []
    for place, direction in enumerate(directions):
        study = Sampler(space, "random", 0, [direction])
        for point, each in zip(points, values, strict=True):
            study.replay(point, "complete", [each[place]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = get_param_importances(study.study, evaluator=PedAnovaImportanceEvaluator())
        found.append({key: float(share) for key, share in shares.items()})
    return found
