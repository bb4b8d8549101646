"""The names of scenes and the label file of events and objects.

Scenes are the ten classes of TAU Audio-Visual Urban Scenes 2021, in alphabetical order, which is also the order of the
columns of every probability matrix (B,S) in this project.

The label file (`labels.npz` in a data set's folder) carries the targets of Eq. 1 and Eq. 2: which events are heard and
which objects are seen in each clip. The embedded scenes write their true labels into it, teachers their pseudo-labels.
Its arrays: `clips` (N,) name stems, `events` (N,E) and `objects` (N,O) of 0 and 1, and their names (E,) and (O,).
Beside them teachers leave the probabilities (N,E) and (N,O) that the labels were cut from, one array for each reading
(EVENT_SCORES, object_scores), so that a study can vary the thresholds and readings without asking the teachers again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from avsc_core.errors import Fault, UserError
from avsc_core.files import atomic_path

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
LABEL_FILE = "labels.npz"
EVENT_SCORES = "event_sigmoid"
OBJECT_READINGS = tuple(
    (activation, pooling) for activation in ("sigmoid", "softmax") for pooling in ("max", "mean")
)


ARRAYS = ("clips", "events", "objects", "event_names", "object_names")


class Labels(NamedTuple):
    """The content of a label file; row n of `events` and `objects` belongs to `clips[n]`."""

    clips: list[str]  # N
    events: np.ndarray  # (N,E) uint8
    objects: np.ndarray  # (N,O) uint8
    event_names: list[str]  # E
    object_names: list[str]  # O
    scores: dict[
        str, np.ndarray
    ]  # float32 (N,E) and (N,O) by the name of their reading; empty for true labels


def name_object_scores(activation: str, pooling: str) -> str:
    """The name of the array of object probabilities after `activation`, `pooling` over frames."""
    return f"object_{activation}_{pooling}"


SCORES = (EVENT_SCORES, *(name_object_scores(*reading) for reading in OBJECT_READINGS))


def write_labels(
    path: Path,
    clips: Sequence[str],
    events: np.ndarray,  # (N,E)
    objects: np.ndarray,  # (N,O)
    event_names: Sequence[str],
    object_names: Sequence[str],
    scores: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write the label file atomically. Raises ValueError when the shapes do not belong together."""
    if events.shape != (len(clips), len(event_names)) or objects.shape != (
        len(clips),
        len(object_names),
    ):
        raise ValueError(
            f"labels of shapes {events.shape} and {objects.shape} for {len(clips)} clips"
        )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            clips=np.array(clips, dtype=np.str_),
            events=events.astype(np.uint8),
            objects=objects.astype(np.uint8),
            event_names=np.array(event_names, dtype=np.str_),
            object_names=np.array(object_names, dtype=np.str_),
            **{name: array.astype(np.float32) for name, array in (scores or {}).items()},  # type: ignore[arg-type]
        )


def read_labels(path: Path) -> Labels:
    """Read a label file. Raises UserError when it is missing or is not one."""
    if not path.is_file():
        raise UserError(
            Fault(str(path), "no label file", "an .npz with the events and objects of every clip")
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in ARRAYS]
            scores = {name: file[name] for name in SCORES if name in file}
    except (KeyError, ValueError, OSError, EOFError, BadZipFile) as error:
        raise UserError(
            Fault(str(path), f"not a label file ({error})", f"arrays {', '.join(ARRAYS)}")
        ) from None
    clips, events, objects, event_names, object_names = arrays
    if events.shape != (len(clips), len(event_names)) or objects.shape != (
        len(clips),
        len(object_names),
    ):
        raise UserError(
            Fault(
                str(path), f"events {events.shape}, objects {objects.shape} for {len(clips)} clips"
            )
        )
    return Labels(
        clips.tolist(), events, objects, event_names.tolist(), object_names.tolist(), scores
    )
