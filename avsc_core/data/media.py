"""Media files -> samples and pictures: soundfile reads wav, PyAV decodes mp4, torchaudio and torchvision resample.

`read_audio`: path -> (n,) float32 mono at the wanted rate. `read_frames`: path -> (F,3,H,W) uint8 at the wanted times.
`probe_audio` and `probe_video` read headers only. Only wav and mp4 (mov) files are opened that hold the media
themselves, of a size a 10-s clip can have: an .mp4 that is really a playlist naming other files or addresses is
refused, because the container is named and the only protocol allowed is a local file. What is damaged is refused, not
repaired.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile
import torch
from av.container import InputContainer
from av.video.stream import VideoStream
from torchaudio.functional import resample
from torchvision.transforms import functional as pictures

from avsc_core.data.tau import CLIP_SECONDS
from avsc_core.errors import Fault, UserError

TOLERANCE = 0.05  # seconds; recordings are a sample or a frame off
MAX_BYTES, MAX_SECONDS, MAX_PIXELS = (
    2**30,
    600.0,
    2**25,
)  # of files that are clips; more is a mistake or an attack
CONTAINERS = ("WAV", "WAVEX", "RF64")
AGAIN = "unpack it again or remove its row"

logging.getLogger("libav").setLevel(
    logging.CRITICAL
)  # what FFmpeg has to say comes as an exception


class Lengths(NamedTuple):
    """How long clips are, and what to do with others, beyond 50 ms: `error`, or `pad` short and `crop` long ones."""

    short: str = "error"
    long: str = "error"
    seconds: float = CLIP_SECONDS


FIT = Lengths("pad", "crop")


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
    width: int
    height: int
    codec: str


def probe_audio(path: Path) -> AudioInfo:
    """The header of a wav file. Raises UserError when it is not one, or larger than a clip can be."""
    with _sound(path) as sound:
        return AudioInfo(
            len(sound) / sound.samplerate, sound.samplerate, sound.channels, sound.subtype
        )


def read_audio(path: Path, sample_rate: int, lengths: Lengths = FIT) -> torch.Tensor:
    """(n,) float32 samples of a wav file in [-1, 1], channels averaged, at `sample_rate` Hz, 10 s at most.

    Raises UserError, also for lengths that `lengths` calls an error. A short clip is padded as a log-mel, like AST's.
    """
    with _sound(path) as sound:
        seconds = len(sound) / sound.samplerate
        check_length(path, seconds, lengths)
        samples, rate = (
            sound.read(dtype="float32", always_2d=True),
            sound.samplerate,
        )  # (n, channels)
        if len(samples) < len(sound):
            raise UserError(
                Fault(
                    str(path),
                    f"ends after {len(samples) / rate:.2f} s of {seconds:.2f} s",
                    todo=AGAIN,
                )
            )
    if not np.isfinite(samples).all():
        raise UserError(Fault(str(path), "has samples that are not numbers", todo=AGAIN))
    if seconds > lengths.seconds + TOLERANCE:
        samples = samples[: round(lengths.seconds * rate)]
    mono = torch.from_numpy(samples).mean(1)  # (n,)
    return mono if rate == sample_rate else resample(mono, rate, sample_rate)


def probe_video(path: Path) -> VideoInfo:
    """The header of an mp4 file. Raises UserError when it has no pictures, or larger ones than a clip can have."""
    with _film(path) as (_, stream):
        context = stream.codec_context
        rate = float(stream.average_rate or 0)
        return VideoInfo(_duration(stream), rate, context.width, context.height, context.name)


def read_frames(
    path: Path, count: int, offset_s: float, resize: int, size: int, lengths: Lengths = FIT
) -> torch.Tensor:
    """(F,3,size,size) uint8: the frame shown at offset_s + i * 10 s / count for i = 0 .. count - 1, upright (10 s, or
    what `lengths` says).

    Resized (bilinear, antialiased) so that the shorter side is `resize`, then the centre is cut out, as torchvision's
    weights expect. A video that ends early repeats its last frame. Raises UserError when it cannot be decoded, is
    damaged, or of a length that `lengths` calls an error.
    """
    times = [offset_s + index * lengths.seconds / count for index in range(count)]
    chosen: list[torch.Tensor] = []
    with _film(path) as (container, stream):
        check_length(path, _duration(stream), lengths)
        last, ends = None, 0.0
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise UserError(Fault(str(path), f"is damaged at {frame.time:.2f} s", todo=AGAIN))
            # A frame is shown until the next one begins, so time stamps decide, not frame numbers.
            while len(chosen) < count and last is not None and frame.time > times[len(chosen)]:
                chosen.append(_picture(last, resize, size))
            last = frame
            ends = max(ends, frame.time + 1 / float(stream.average_rate or 1))
            if len(chosen) == count:
                break
        else:
            if last is None:
                raise UserError(Fault(str(path), "has no frames", todo=AGAIN))
            if ends < _duration(stream) - 2 * TOLERANCE - 1 / float(stream.average_rate or 1):
                what = f"ends after {ends:.2f} s of {_duration(stream):.2f} s"
                raise UserError(Fault(str(path), what, todo=AGAIN))
            chosen += [_picture(last, resize, size)] * (count - len(chosen))
    return torch.stack(chosen)  # (F,3,H,W)


def describe_length(seconds: float, wanted: float = CLIP_SECONDS) -> str:
    """What a clip of this length is made: padded, cropped, or nothing."""
    if abs(seconds - wanted) <= TOLERANCE:
        return ""
    return "padded" if seconds < wanted else "cropped"


@contextmanager
def _sound(path: Path) -> Iterator[soundfile.SoundFile]:
    """An open wav file."""
    _check_size(path)
    try:
        with soundfile.SoundFile(path) as sound:
            if sound.format not in CONTAINERS or not sound.subtype.startswith(
                ("PCM", "FLOAT", "DOUBLE")
            ):
                found = f"is {sound.format} with {sound.subtype}"
                raise UserError(Fault(str(path), found, "wav with PCM or float samples"))
            if not len(sound):
                raise UserError(Fault(str(path), "has no samples", todo=AGAIN))
            yield sound
    except (soundfile.LibsndfileError, OSError) as error:
        why = getattr(
            error, "error_string", error
        )  # without the path, which stands in front already
        raise UserError(
            Fault(str(path), f"cannot be read as wav ({why})", "PCM or float wav")
        ) from None


@contextmanager
def _film(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """An open mp4 file and its pictures."""
    _check_size(path)
    try:
        with av.open(str(path), format="mov", options={"protocol_whitelist": "file"}) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise UserError(Fault(str(path), "has no video track", "mp4 or mov with pictures"))
            context = stream.codec_context
            if context.width * context.height > MAX_PIXELS:
                what = f"has pictures of {context.width} x {context.height}"
                raise UserError(
                    Fault(str(path), what, f"at most {MAX_PIXELS / 1e6:.0f} million pixels")
                )
            context.options = {"err_detect": "explode"}  # damage is an error, not grey blocks
            yield container, stream
    except (av.FFmpegError, IndexError, OSError) as error:
        raise UserError(
            Fault(str(path), f"cannot be decoded ({error})", "mp4 or mov with a video track")
        ) from None


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(
            Fault(str(path), f"cannot be read ({error.strerror})", todo=AGAIN)
        ) from None
    if not size or size > MAX_BYTES:
        what = "is empty" if not size else f"has {size / 2**20:.0f} MiB"
        raise UserError(Fault(str(path), what, f"a clip of {CLIP_SECONDS:g} s", AGAIN))


def check_length(path: Path, seconds: float, lengths: Lengths) -> None:
    """Raise UserError when a clip has another length and `lengths` does not say what to do about it."""
    off = seconds - lengths.seconds
    policy, key = (lengths.short, "pad") if off < 0 else (lengths.long, "crop")
    if seconds > MAX_SECONDS or (abs(off) > TOLERANCE and policy == "error"):
        setting = f"media.{'short' if off < 0 else 'long'}={key}"
        what = f"is {seconds:.2f} s long"
        allowed = f"{lengths.seconds:g} s, give or take {TOLERANCE:g} s"
        raise UserError(Fault(str(path), what, allowed, f"{AGAIN}, or --set {setting}"))


def _duration(stream: VideoStream) -> float:
    """Seconds, as the header says."""
    return float((stream.duration or 0) * (stream.time_base or 0))


def _picture(frame: av.VideoFrame, resize: int, size: int) -> torch.Tensor:
    """(3,size,size) uint8."""
    upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    picture = torch.from_numpy(np.ascontiguousarray(upright)).permute(2, 0, 1)  # (3,H,W)
    cropped: torch.Tensor = pictures.center_crop(
        pictures.resize(picture, [resize], antialias=True), [size, size]
    )
    return cropped
