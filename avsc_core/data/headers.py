"""This module names what the headers of media files say.

It is apart from media.py, which loads torch.
"""

from typing import NamedTuple

VIDEO_ENDINGS = (".mp4", ".mov")  # in capitals too


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
