"""What the tables of a data set say, whoever's they are: clips with scene, location and split.

TAU's tables are read by tau.py, one's own by own.py.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from avsc_core.errors import Fault


class Clip(NamedTuple):
    """One 10-s clip."""

    name: str  # file name without ending
    audio: Path
    video: Path
    scene: int  # index into the data set's scenes; -1 where nobody says
    location: str  # city-location: no location may stand on two sides of a split
    split: str  # train or test
    row: str = ""  # table:line


class Tables(NamedTuple):
    """Clips in the order of their tables, every fault found on the way, and the names of the scenes."""

    clips: list[Clip]  # N
    faults: list[Fault]
    scenes: tuple[str, ...]  # S


def find_leaks(clips: Iterable[Clip]) -> list[Fault]:
    """Locations that stand in both splits: a model could then recognise the place instead of the scene."""
    sides: dict[str, set[str]] = {}
    for clip in clips:
        sides.setdefault(clip.location, set()).add(clip.split)
    both = sorted(location for location, splits in sides.items() if len(splits) > 1)
    return [
        Fault(location, "location in both train and test", todo="keep it on one side")
        for location in both
    ]
