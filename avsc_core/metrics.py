"""Acc and Logloss from scene probabilities, as the paper and the DCASE challenge define them.

Acc is the mean of the class accuracies; Logloss is the multi-class cross-entropy over clips. DCASE ranks by
class-wise means, and a plain share of right clips is what many papers print, so the other reading of each stands beside
it. Probabilities are clipped at 1e-15 in float64. The tables are text,
for files: predictions in the form of the challenge's answer file, and confusions.
"""

from collections.abc import Mapping, Sequence

import numpy as np

SMALLEST = 1e-15


def compute_scores(probability: np.ndarray, scenes: np.ndarray) -> dict[str, float]:
    """(N,S) probabilities and (N,) true scenes -> acc, acc_overall, logloss, logloss_classwise.

    Scenes without a clip in `scenes` are left out of the class-wise means. Raises ValueError when N is 0.
    """
    if not len(scenes):
        raise ValueError("no clips to score")
    right = probability.argmax(1) == scenes  # (N,)
    cost = -np.log(
        np.clip(probability[np.arange(len(scenes)), scenes].astype(np.float64), SMALLEST, 1.0)
    )  # (N,)
    present = np.unique(scenes)
    return {
        "acc": float(np.mean([right[scenes == scene].mean() for scene in present])),
        "acc_overall": float(right.mean()),
        "logloss": float(cost.mean()),
        "logloss_classwise": float(np.mean([cost[scenes == scene].mean() for scene in present])),
    }


def count_confusions(probability: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """(S,S) counts: row = true scene, column = decided scene."""
    counts = np.zeros((probability.shape[1],) * 2, int)
    np.add.at(counts, (scenes, probability.argmax(1)), 1)
    return counts


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether `value` beats `than`: more is better for acc, less for logloss."""
    return value > than if "acc" in metric else value < than


def rank_key(metric: str, figures: Mapping[str, float], key: str) -> tuple[float, float, str]:
    """What trials are sorted by, the best first; `figures` are those of the record, at each trial's best epoch.

    Of equals by `metric` (few clips have few values of Acc) the better by the other one. Of equals by both the smaller
    key, whoever was over first: else a study that continues, and its report, might pick another.
    """
    acc, logloss = -figures["best_val_acc"], figures["best_val_logloss"]
    return (acc, logloss, key) if "acc" in metric else (logloss, acc, key)


def format_predictions(
    names: Sequence[str], probability: np.ndarray, scene_names: Sequence[str]
) -> str:
    """(N,S) probabilities as the challenge's answer file."""
    lines = ["\t".join(("filename", "scene_label", *scene_names))]
    for name, row in zip(names, probability, strict=True):
        # Digits enough to score the file as its numbers were scored: six would turn a small probability into none.
        lines.append(
            "\t".join(
                (name, scene_names[int(row.argmax())], *(repr(float(value)) for value in row))
            )
        )
    return "\n".join(lines) + "\n"


def parse_predictions(text: str) -> tuple[list[str], np.ndarray]:
    """Names and (N,S) probabilities of what `prediction_table` wrote."""
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return [row[0] for row in rows], np.array([[float(value) for value in row[2:]] for row in rows])


def format_confusions(
    probability: np.ndarray, scenes: np.ndarray, scene_names: Sequence[str]
) -> str:
    """(S,S) counts as a TAB-separated table: row = true scene, column = decided scene."""
    rows = zip(scene_names, count_confusions(probability, scenes), strict=True)
    lines = ["\t".join((name, *(str(count) for count in row))) for name, row in rows]
    return "\n".join(["\t".join(("true", *scene_names)), *lines]) + "\n"
