"""Acc and Logloss from scene probabilities, as the paper and the DCASE challenge define them.

Acc is the mean of the class accuracies; Logloss is the multi-class cross-entropy over clips. DCASE
ranks by class-wise means, and many papers print the plain share of right clips, so both readings of
each are computed. Probabilities are clipped at 1e-15 in float64. `DIRECTIONS` says of each score
whether more or less is better.

Two tables are formatted as text for files: predictions in the form of the challenge's answer file,
and confusions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy import ndarray

SMALLEST = 1e-15

DIRECTIONS = {
    "acc": "max",
    "acc_overall": "max",
    "logloss": "min",
    "logloss_classwise": "min",
}


def direction_of(metric: str) -> str:
    """Return `max` when more of the metric is better, else `min`; `val_acc` is as `acc`."""
    return DIRECTIONS[metric.removeprefix("val_")]


def sign_of(metric: str) -> int:
    """Return 1 when more of the metric is better, else -1."""
    return 1 if direction_of(metric) == "max" else -1


def is_better(metric: str, value: float, than: float) -> bool:
    """Tell whether `value` beats `than`."""
    return sign_of(metric) * value > sign_of(metric) * than


def rank_key(metric: str, figures: Mapping[str, float], key: str) -> tuple[float, float, str]:
    """Return what trials are sorted by, the best first.

    `figures` are those of the record, of each trial's best epoch.

    Trials that are equal by `metric` (few clips have few values of Acc) are sorted by the other
    metric. Those that are equal by both are sorted by key, and not by which was completed first, so
    that a study that continues, and its report, pick the same one.
    """
    name = metric.removeprefix("val_")
    other = "logloss" if name == "acc" else "acc"
    first = -sign_of(name) * figures[f"best_val_{name}"]
    second = -sign_of(other) * figures[f"best_val_{other}"]
    return first, second, key


def compute_scores(probability: ndarray, scenes: ndarray) -> dict[str, float]:
    """Compute acc, acc_overall, logloss and logloss_classwise.

    `probability` is (N,S), `scenes` has the N true scenes.

    Scenes without a clip in `scenes` are left out of the class-wise means. Raises ValueError when N
    is 0.
    """
    if not len(scenes):
        raise ValueError("no clips to score")
    true = probability[np.arange(len(scenes)), scenes].astype(np.float64)  # (N,)
    right = probability.argmax(1) == scenes  # (N,)
    cost = -np.log(np.clip(true, SMALLEST, 1.0))  # (N,)
    return {
        "acc": _mean_by_class(right, scenes),
        "acc_overall": float(right.mean()),
        "logloss": float(cost.mean()),
        "logloss_classwise": _mean_by_class(cost, scenes),
    }


def count_confusions(probability: ndarray, scenes: ndarray) -> ndarray:
    """Return (S,S) counts: row = true scene, column = decided scene."""
    count = probability.shape[1]
    counts = np.zeros((count, count), int)
    np.add.at(counts, (scenes, probability.argmax(1)), 1)
    return counts


def format_predictions(
    names: Sequence[str], probability: ndarray, scene_names: Sequence[str]
) -> str:
    """Format (N,S) probabilities as the challenge's answer file."""
    lines = ["\t".join(("filename", "scene_label", *scene_names))]
    for name, row in zip(names, probability, strict=True):
        decided = scene_names[int(row.argmax())]
        # repr keeps all digits, so that the file scores as its numbers did; six would make small
        # probabilities 0
        numbers = [repr(float(value)) for value in row]
        lines.append("\t".join((name, decided, *numbers)))
    return "\n".join(lines) + "\n"


def parse_predictions(text: str) -> tuple[list[str], ndarray]:
    """Read back names and (N,S) probabilities from what `format_predictions` wrote."""
    names = []
    probability = []
    for line in text.splitlines()[1:]:
        name, _, *numbers = line.split("\t")
        names.append(name)
        probability.append([float(number) for number in numbers])
    return names, np.array(probability)


def format_confusions(probability: ndarray, scenes: ndarray, scene_names: Sequence[str]) -> str:
    """Format (S,S) counts as a TAB-separated table: row = true scene, column = decided scene."""
    lines = ["\t".join(("true", *scene_names))]
    for name, row in zip(scene_names, count_confusions(probability, scenes), strict=True):
        lines.append("\t".join((name, *map(str, row))))
    return "\n".join(lines) + "\n"


def _mean_by_class(values: ndarray, scenes: ndarray) -> float:
    """Return the mean over scenes of the means over their clips."""
    return float(np.mean([values[scenes == scene].mean() for scene in np.unique(scenes)]))
