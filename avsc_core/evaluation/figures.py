"""Confusion matrices as pictures, drawn by matplotlib without a screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from avsc_core.files import atomic_path
from avsc_core.metrics import count_confusions

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_confusions(
    path: Path,
    probability: ndarray,  # (N,S)
    scenes: ndarray,  # (N,)
    scene_names: Sequence[str],  # S
    title: str,
) -> None:
    """Write the confusion matrix of a model's decisions as a picture (PNG)."""
    from matplotlib.figure import Figure  # not pyplot, which would look for a screen

    figure = Figure(figsize=(7.5, 7), layout="constrained")
    counts = count_confusions(probability, scenes)
    draw_confusion_matrix(figure.subplots(), counts, scene_names, title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def draw_confusion_matrix(
    axes: "Axes",
    counts: ndarray,  # (S,S), row = true scene, column = decided scene
    scene_names: Sequence[str],  # S
    title: str,
    font_size: float | None = None,  # of numbers and names; None: matplotlib's own
) -> None:
    """Draw one confusion matrix: shares of each true scene in percent; rows add up to 100."""
    clips = np.maximum(
        counts.sum(1, keepdims=True), 1
    )  # (S,1); a scene without clips has shares of 0
    shares = counts / clips  # (S,S)
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for true, decided in np.argwhere(counts):
        share = shares[true, decided]
        axes.text(
            decided,
            true,
            f"{100 * share:.0f}",
            ha="center",
            va="center",
            fontsize=font_size,
            color="white" if share > 0.5 else "black",
        )

    names = [scene.replace("_", " ") for scene in scene_names]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=font_size)
    axes.set_yticks(range(len(names)), names, fontsize=font_size)
    axes.set(xlabel="decided", ylabel="true", title=title)
