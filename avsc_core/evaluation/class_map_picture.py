"""The map of classes as a picture: markers for all classes, lines and names for nearest pairs."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from avsc_core.evaluation.class_map import ClassMap
from avsc_core.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which people with any colour vision tell apart
COLOURS = {
    "event": "#0072b2",
    "object": "#d55e00",
}
MARKERS = {
    "event": "o",
    "object": "D",
}

# where a name may stand beside its marker: distances in pixels, in twelve directions
DISTANCES = (14, 30, 50, 75, 105, 140, 180)
ANGLES = np.linspace(0, 2 * np.pi, 12, endpoint=False)


def draw_picture(path: Path, class_map: ClassMap) -> None:
    """Write the map as a picture (PNG)."""
    from matplotlib.figure import Figure  # not pyplot, which would look for a screen

    figure = Figure(figsize=(11, 8.5), layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal", "datalim")
    axes.set(xticks=[], yticks=[])
    axes.set_title(class_map.title, parse_math=False, wrap=True)

    count = len(class_map.event_names)
    _draw_markers(axes, "event", class_map.places[:count])
    _draw_markers(axes, "object", class_map.places[count:])
    labels = _draw_pairs(axes, class_map)
    axes.legend(loc="lower left")

    with warnings.catch_warnings(), atomic_path(path) as temporary:
        # a script that the font lacks is drawn as boxes; the page shows it
        warnings.filterwarnings("ignore", "Glyph")

        # the places of names depend on the layout, which must not change after them
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        axes.autoscale(False)
        _draw_names(axes, class_map.places, labels)
        figure.savefig(temporary, dpi=150)


def _draw_markers(axes: "Axes", kind: str, places: ndarray) -> None:
    """Draw the markers of all events, or of all objects, at their places (C,2)."""
    x, y = places.T
    axes.scatter(
        x,
        y,
        s=22,
        c=COLOURS[kind],
        marker=MARKERS[kind],
        alpha=0.8,
        lw=0,
        label=f"{kind}s",
        zorder=3,
    )


def _draw_pairs(axes: "Axes", class_map: ClassMap) -> dict[int, tuple[str, str]]:
    """Join the nearest pairs by lines.

    Returns name and colour of each of their classes by its row in `places`.
    """
    labels = {}
    count = len(class_map.event_names)
    for pair in class_map.pairs:
        event_row = pair.event_row
        object_row = count + pair.object_row
        ends = class_map.places[[event_row, object_row]]  # (2,2)
        axes.plot(*ends.T, color="0.4", lw=0.8, zorder=2)
        labels[event_row] = (pair.event, COLOURS["event"])
        labels[object_row] = (pair.object, COLOURS["object"])
    return labels


def _draw_names(axes: "Axes", places: ndarray, labels: dict[int, tuple[str, str]]) -> None:
    """Write names beside their places (P,2), each where it hides the fewest names and markers."""
    spots = axes.transData.transform(places)  # (P,2) in pixels
    markers = np.hstack([spots - 4, spots + 4])  # (P,4), boxes: left, bottom, right, top
    shifts = _list_shifts()  # (C,2)
    taken = np.empty((0, 4))  # boxes of the names already written
    for row, (name, colour) in labels.items():
        # the text, whose size in pixels is known once it exists
        text = axes.text(
            0,
            0,
            name,
            color=colour,
            fontsize=8,
            ha="center",
            va="center",
            parse_math=False,
            zorder=4,
        )
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5})
        half = np.array(text.get_window_extent().size) / 2 + 1  # (2,)

        # its candidate boxes, and what is wrong with each
        centres = spots[row] + shifts + np.sign(shifts.round(6)) * half * (1, 0.5)  # (C,2)
        boxes = np.hstack([centres - half, centres + half])  # (C,4)
        before = (boxes[:, :2] < axes.bbox.min).any(1)
        after = (boxes[:, 2:] > axes.bbox.max).any(1)
        outside = before | after  # (C,)
        hidden = 100 * _count_overlaps(boxes, taken) + 10 * _count_overlaps(boxes, markers)  # (C,)
        best = int(np.argmin(1000 * outside + hidden + np.hypot(*shifts.T) / 10))

        # the text at the best of them, and a thin line to its marker
        ends = axes.transData.inverted().transform([spots[row], centres[best]])  # (2,2)
        text.set_position(ends[1])
        axes.plot(*ends.T, color=colour, lw=0.5, alpha=0.5, zorder=1)
        taken = np.vstack([taken, boxes[best]])


def _list_shifts() -> ndarray:
    """List the candidate places of a name as shifts (C,2) from its marker in pixels."""
    shifts = []
    for distance in DISTANCES:
        for angle in ANGLES:
            shifts.append((distance * np.cos(angle), 0.6 * distance * np.sin(angle)))
    return np.array(shifts)


def _count_overlaps(boxes: ndarray, others: ndarray) -> ndarray:
    """Count the boxes of `others` (B,4) that each of `boxes` (C,4) overlaps: (C,)."""
    starts_before = boxes[:, None, :2] < others[:, 2:]  # (C,B,2)
    ends_after = boxes[:, None, 2:] > others[:, :2]  # (C,B,2)
    return np.asarray((starts_before & ends_after).all(2).sum(1))
