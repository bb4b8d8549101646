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


def order_figures(metric: str, acc: float, logloss: float) -> tuple[float, float]:
    """Return what epochs and trials are sorted by, the best first.

    Those that are equal by `metric` (few clips have few values of Acc) are sorted by the other one.
    """
    costs = (-acc, logloss)
    return costs if metric.removeprefix("val_") == "acc" else costs[::-1]


def is_better(metric: str, figures: Mapping[str, float], than: Mapping[str, float]) -> bool:
    """Tell whether an epoch's figures (`val_acc`, `val_logloss`) beat those of another."""
    one, other = (
        order_figures(metric, epoch["val_acc"], epoch["val_logloss"]) for epoch in (figures, than)
    )
    return one < other


def find_figure(metrics: Mapping[str, float], name: str) -> float | None:
    """Find the figure by which a trial counts, such as `val_acc`, in its metrics in the record.

    It is that of the epochs which the study's rule selects. Records of versions without such rules
    have that of the best epoch alone. None for a trial that has neither.
    """
    return metrics.get(f"selected_{name}", metrics.get(f"best_{name}"))


def rank_key(metric: str, metrics: Mapping[str, float], key: str) -> tuple[float, float, str]:
    """Return what trials, or configurations, are sorted by, the best first.

    `metrics` are those of the record. Those that are equal by both Acc and Logloss are sorted by
    key, and not by which was completed first, so that a study that continues, and its report, pick
    the same one.
    """
    acc = find_figure(metrics, "val_acc")
    logloss = find_figure(metrics, "val_logloss")
    # Every completed trial has both.
    assert acc is not None
    assert logloss is not None
    return *order_figures(metric, acc, logloss), key


def compute_scores(probability: ndarray, scenes: ndarray) -> dict[str, float]:
    """Compute acc, acc_overall, logloss and logloss_classwise.

    `probability` is (N,S), `scenes` has the N true scenes.

    Scenes without a clip in `scenes` are left out of the class-wise means. Raises ValueError when N
    is 0.
    """
    if not len(scenes):
        raise ValueError("no clips to score")
    right, cost = _judge_clips(probability, scenes)
    return {
        "acc": _share_by_class(right, scenes),
        "acc_overall": float(right.mean()),
        "logloss": float(cost.mean()),
        "logloss_classwise": _mean_by_class(cost, scenes),
    }


def compute_deciding_scores(probability: ndarray, scenes: ndarray) -> dict[str, float]:
    """Compute acc and logloss alone, as `compute_scores` does: what epochs are compared by."""
    right, cost = _judge_clips(probability, scenes)
    return {"acc": _share_by_class(right, scenes), "logloss": float(cost.mean())}


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


def _judge_clips(probability: ndarray, scenes: ndarray) -> tuple[ndarray, ndarray]:
    """Return of each clip whether its decision is right, and its cross-entropy: (N,), (N,)."""
    true = probability[np.arange(len(scenes)), scenes].astype(np.float64)  # (N,)
    right = probability.argmax(1) == scenes  # (N,)
    cost = -np.log(np.clip(true, SMALLEST, 1.0))  # (N,)
    return right, cost


def _share_by_class(right: ndarray, scenes: ndarray) -> float:
    """Return the mean over scenes of their shares of right clips."""
    counts = np.bincount(scenes)  # (S,)
    present = counts > 0
    return float((np.bincount(scenes, right)[present] / counts[present]).mean())


def _mean_by_class(values: ndarray, scenes: ndarray) -> float:
    """Return the mean over scenes of the means over their clips."""
    return float(np.mean([values[scenes == scene].mean() for scene in np.unique(scenes)]))
