"""What stands behind two numbers: each scene, each city, and how far the numbers would move with other locations.

The test split has 126 locations; clips of one location are alike, so intervals come from drawing locations, not clips.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avsc_core.files import atomic_path
from avsc_core.metrics import compute_scores, count_confusions

DRAWS = 1000
LEVEL = 0.95


def score_by_scene(
    probability: np.ndarray, scenes: np.ndarray, scene_names: Sequence[str]
) -> dict[str, tuple[int, float, float]]:
    """(N,S) probabilities and (N,) scenes -> scene: clips, Acc, Logloss; of scenes that have clips."""
    return _by([scene_names[scene] for scene in scenes], probability, scenes)


def score_by_city(
    probability: np.ndarray, scenes: np.ndarray, locations: Sequence[str]
) -> dict[str, tuple[int, float, float]]:
    """As `by_scene`, by the city that a location's name (city-number) begins with; Acc is the share of right clips."""
    return _by([location.split("-")[0] for location in locations], probability, scenes)


def intervals(
    probability: np.ndarray, scenes: np.ndarray, locations: Sequence[str], seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % interval of every score: percentiles over 1,000 draws of as many locations, with replacement.

    Locations are drawn within each scene, so that no draw lacks one; a location that two scenes share is one of each,
    with that scene's clips. A scene with one location is the same in every draw; when all scenes are, nothing is known
    of other locations and the ends are nan.
    """
    rng = np.random.default_rng(seed)
    _, place = np.unique(np.asarray(locations), return_inverse=True)
    of_scene = [  # for every scene: the rows of each of its locations
        [
            np.flatnonzero((scenes == scene) & (place == number))
            for number in np.unique(place[scenes == scene])
        ]
        for scene in np.unique(scenes)
    ]
    if all(len(places) == 1 for places in of_scene):
        return dict.fromkeys(compute_scores(probability, scenes), (np.nan, np.nan))
    drawn: dict[str, list[float]] = {}
    for _ in range(DRAWS):
        chosen = [
            places[number] for places in of_scene for number in rng.choice(len(places), len(places))
        ]
        sample = np.concatenate(chosen)
        for name, value in compute_scores(probability[sample], scenes[sample]).items():
            drawn.setdefault(name, []).append(value)
    ends = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    return {name: tuple(np.percentile(values, ends).tolist()) for name, values in drawn.items()}


def draw_confusions(
    path: Path, probability: np.ndarray, scenes: np.ndarray, scene_names: Sequence[str], title: str
) -> None:
    """The confusion matrix as a picture (PNG): rows are true scenes and add up to 100 %."""
    from matplotlib.figure import Figure  # not pyplot, which would look for a screen

    counts = count_confusions(probability, scenes)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(7.5, 7), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.argwhere(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(
            column, row, f"{100 * share[row, column]:.0f}", ha="center", va="center", color=colour
        )
    ticks, names = range(len(scene_names)), [scene.replace("_", " ") for scene in scene_names]
    axes.set_xticks(ticks, names, rotation=45, ha="right")
    axes.set_yticks(ticks, names)
    axes.set(xlabel="decided", ylabel="true", title=title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _by(
    keys: Sequence[str], probability: np.ndarray, scenes: np.ndarray
) -> dict[str, tuple[int, float, float]]:
    found = {}
    for key in sorted(set(keys)):
        rows = np.flatnonzero(np.asarray(keys) == key)
        own = compute_scores(probability[rows], scenes[rows])
        found[key] = (len(rows), own["acc_overall"], own["logloss"])
    return found
