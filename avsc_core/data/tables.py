"""This module defines clips, which the tables of any data set are read into.

TAU's tables are read by tau.py, those of a data set of one's own by own.py.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from avsc_core.errors import Fault


class Clip(NamedTuple):
    """One 10-s clip."""

    name: str  # the file name without its ending
    audio: Path
    video: Path
    scene: int  # index into the scenes of the data set; -1 in a set without labels
    location: str  # city-location; all clips of a location belong to one split
    split: str  # "train", "test", or "evaluation" in a set without labels
    row: str = ""  # TABLE:LINE, where a fault of this clip is


class Tables(NamedTuple):
    """What tables hold: clips in their order, every fault found while reading, scene names."""

    clips: list[Clip]  # N
    faults: list[Fault]
    scenes: tuple[str, ...]  # S


def find_leaks(clips: Iterable[Clip]) -> Iterator[Fault]:
    """Yield a fault for each location in both splits.

    With a leak a model could recognise the location instead of the scene.
    """
    splits_of: dict[str, set[str]] = {}
    for clip in clips:
        splits_of.setdefault(clip.location, set()).add(clip.split)

    # In alphabetical order, so that the same tables give the same list.
    for location, splits in sorted(splits_of.items()):
        if len(splits) > 1:
            yield Fault(location, "location in both train and test", todo="keep it on one side")
