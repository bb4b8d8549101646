"""This module defines clips, which the tables of any data set are read into, and the headers of
their files.

TAU's tables are read by tau.py, those of a data set of one's own by own.py, and headers by
media.py, which loads torch.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from avsc_core.errors import Fault

VIDEO_ENDINGS = (".mp4", ".mov")  # in capitals too


class Clip(NamedTuple):
    """One 10-s clip."""

    name: str  # the file name without its ending
    audio: Path
    video: Path
    scene: int  # index into the scenes of the data set; -1 in a set without labels
    location: str  # city-location; all clips of a location belong to one split
    split: str  # "train", "test", or "evaluation" in a set without labels
    row: str = ""  # TABLE:LINE, where a fault of this clip is


class AudioInfo(NamedTuple):
    """The header of a wav file."""

    seconds: float
    rate: int  # Hz
    channels: int
    encoding: str  # PCM_16, PCM_24, FLOAT ...


class VideoInfo(NamedTuple):
    """The header of an mp4 file."""

    seconds: float
    rate: float  # frames a second
    width: int  # pixels
    height: int  # pixels
    codec: str


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
