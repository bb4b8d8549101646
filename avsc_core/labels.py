"""This module has the scene names, and reads and writes the label file of events and objects.

The scenes are the ten classes of TAU Audio-Visual Urban Scenes 2021 in alphabetical order, which is
also the order of the columns of every probability matrix (B,S).

The label file (`labels.npz` in a data set's folder) says which events are heard and which objects
are seen in each clip: the targets y of Eq. 1 and Eq. 2. The embedded scenes write their true labels
into it, and teachers write their pseudo-labels. Its arrays:

    clips (N,)                            names of the clips, without folder and ending
    events (N,E), objects (N,O)           0 or 1
    event_names (E,), object_names (O,)   names of the classes

A label file of teachers also holds the probabilities (N,E) and (N,O) from which the labels were
cut, one array for each way of computing them (EVENT_SCORES, `name_object_scores`), so that a study
can vary the thresholds and readings without running the teachers again.
"""

from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy import ndarray

from avsc_core.errors import Fault, UserError, make_error
from avsc_core.files import atomic_path, explain_unreadable

SCENES = (
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
)

# The three classes of DCASE's task 1B (2020), the class of each scene, and its number (S,).
COARSE_CLASSES = ("indoor", "outdoor", "transportation")
COARSE_OF_SCENE = {
    "airport": "indoor",
    "bus": "transportation",
    "metro": "transportation",
    "metro_station": "indoor",
    "park": "outdoor",
    "public_square": "outdoor",
    "shopping_mall": "indoor",
    "street_pedestrian": "outdoor",
    "street_traffic": "outdoor",
    "tram": "transportation",
}
COARSE_NUMBERS = [COARSE_CLASSES.index(name) for name in COARSE_OF_SCENE.values()]

LABEL_FILE = "labels.npz"
ARRAYS = ("clips", "events", "objects", "event_names", "object_names")

EVENT_SCORES = "event_sigmoid"
OBJECT_READINGS = (
    ("sigmoid", "max"),
    ("sigmoid", "mean"),
    ("softmax", "max"),
    ("softmax", "mean"),
)


class Labels(NamedTuple):
    """The content of a label file; row n of `events` and `objects` belongs to `clips[n]`."""

    clips: list[str]  # N
    events: ndarray  # (N,E) uint8
    objects: ndarray  # (N,O) uint8
    event_names: list[str]  # E
    object_names: list[str]  # O

    # Probabilities by the name of their reading, float32 (N,E) or (N,O); empty for true labels.
    scores: dict[str, ndarray]


def name_object_scores(activation: str, pooling: str) -> str:
    """Name the array of object probabilities after `activation`, with `pooling` over frames."""
    return f"object_{activation}_{pooling}"


SCORES = (EVENT_SCORES, *(name_object_scores(*reading) for reading in OBJECT_READINGS))


def check_coarse(scene_names: Sequence[str], title: str) -> None:
    """Check that scenes have coarse classes: TAU's alone do. Raises UserError that names others."""
    if tuple(scene_names) != SCENES:
        foreign = sorted(set(scene_names) - set(SCENES)) or scene_names
        raise make_error(
            "losses.coarse",
            f"{title} has scenes without a coarse class: {', '.join(foreign)}",
            f"all ten of {', '.join(SCENES)}",
            "set it to 0",
        )


def write_labels(
    path: Path,
    clips: Sequence[str],
    events: ndarray,  # (N,E)
    objects: ndarray,  # (N,O)
    event_names: Sequence[str],
    object_names: Sequence[str],
    scores: Mapping[str, ndarray] | None = None,
) -> None:
    """Write a label file atomically. Raises ValueError when the shapes do not fit each other."""
    if not _shapes_fit(clips, events, objects, event_names, object_names):
        raise ValueError(
            f"labels of shapes {events.shape} and {objects.shape} for {len(clips)} clips"
        )

    arrays = {
        "clips": np.array(clips, dtype=np.str_),
        "events": events.astype(np.uint8),
        "objects": objects.astype(np.uint8),
        "event_names": np.array(event_names, dtype=np.str_),
        "object_names": np.array(object_names, dtype=np.str_),
    }
    for name, array in (scores or {}).items():
        arrays[name] = array.astype(np.float32)

    # Given a name instead of an open file, numpy would append `.npz` to it.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_labels(path: Path) -> Labels:
    """Read a label file. Raises UserError when it is missing, damaged, or no label file."""
    if not path.is_file():
        raise make_error(path, "no label file", "an .npz with the events and objects of every clip")

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
            scores = {name: file[name] for name in SCORES if name in file}
    except (KeyError, ValueError, OSError, EOFError, BadZipFile) as error:
        what = f"not a label file ({explain_unreadable(error)})"
        raise make_error(path, what, f"arrays {', '.join(ARRAYS)}") from None

    events = arrays["events"]
    objects = arrays["objects"]
    if not _shapes_fit(**arrays):
        count = len(arrays["clips"])
        raise make_error(path, f"events {events.shape}, objects {objects.shape} for {count} clips")
    _check_values(path, arrays, scores)

    return Labels(
        arrays["clips"].tolist(),
        events,
        objects,
        arrays["event_names"].tolist(),
        arrays["object_names"].tolist(),
        scores,
    )


def _check_values(path: Path, arrays: Mapping[str, ndarray], scores: Mapping[str, ndarray]) -> None:
    """Check that labels are 0 or 1, and probabilities from 0 to 1.

    Raises UserError that names each array and the first clip with another value.
    """
    faults = []
    for name in ("events", "objects"):
        wrong = (arrays[name] != 0) & (arrays[name] != 1)  # so are values that are not numbers
        faults += _list_wrong(path, name, wrong, arrays["clips"], "0 or 1")
    for name, array in scores.items():
        wrong = ~((array >= 0) & (array <= 1))
        faults += _list_wrong(path, name, wrong, arrays["clips"], "probabilities from 0 to 1")
    if faults:
        raise UserError(faults)


def _list_wrong(path: Path, name: str, wrong: ndarray, clips: ndarray, allowed: str) -> list[Fault]:
    """Return a fault when an array (N,C) is `wrong` somewhere."""
    rows = np.flatnonzero(wrong.any(1))
    if not len(rows):
        return []
    what = f"{name} of {len(rows)} clips have other values, first {clips[rows[0]]}"
    todo = "make the file again: `avsc-core pseudo` writes one"
    return [Fault(str(path), what, allowed, todo)]


def _shapes_fit(
    clips: Sized, events: ndarray, objects: ndarray, event_names: Sized, object_names: Sized
) -> bool:
    """Tell whether events are (N,E) and objects (N,O) for N clips, E and O names."""
    events_fit = events.shape == (len(clips), len(event_names))
    objects_fit = objects.shape == (len(clips), len(object_names))
    return events_fit and objects_fit
