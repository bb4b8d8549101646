"""The scores of each scene and of each city, behind the scores of a whole split."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from avsc_core.metrics import compute_scores


class GroupScores(NamedTuple):
    """The scores of a group of clips."""

    clips: int  # or segments
    acc: float  # share of right clips
    logloss: float


def score_by_scene(
    probability: ndarray,  # (N,S)
    scenes: ndarray,  # (N,)
    scene_names: Sequence[str],  # S
) -> dict[str, GroupScores]:
    """Score each scene that has clips, in alphabetical order."""
    groups = [scene_names[scene] for scene in scenes]
    return _score_groups(groups, probability, scenes)


def score_by_city(
    probability: ndarray,  # (N,S)
    scenes: ndarray,  # (N,)
    locations: Sequence[str],  # N, as city-number
) -> dict[str, GroupScores]:
    """Score each city, in alphabetical order."""
    groups = [location.split("-")[0] for location in locations]
    return _score_groups(groups, probability, scenes)


def _score_groups(
    groups: Sequence[str], probability: ndarray, scenes: ndarray
) -> dict[str, GroupScores]:
    """Score the clips of each group."""
    names = np.asarray(groups)  # (N,)
    found = {}
    for name in sorted(set(groups)):
        rows = np.flatnonzero(names == name)
        scores = compute_scores(probability[rows], scenes[rows])
        found[name] = GroupScores(len(rows), scores["acc_overall"], scores["logloss"])
    return found
