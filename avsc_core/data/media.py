"""This module reads media files into samples and frames.

soundfile reads wav, PyAV decodes mp4 and its sound, torchaudio and torchvision resample.

`read_audio`: path of a wav, or of a video with sound -> (n,) float32 mono at the wanted rate.
`read_frames`: path -> (F,3,H,W) uint8 at the wanted times. `probe_audio` and `probe_video` read
headers only.

Files come from strangers. Only wav and mp4 (mov) files that hold the media themselves are opened,
and only of a size that a 10-s clip can have. An .mp4 that is really a playlist of other files or
addresses is refused, because FFmpeg is told which container to expect and may open local files
only. A damaged file is refused, not repaired.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import filterfalse
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile
import torch
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream
from torch import Tensor
from torchaudio.functional import resample
from torchvision.transforms import functional as transforms

from avsc_core.data.tables import VIDEO_ENDINGS, AudioInfo, VideoInfo
from avsc_core.data.tau import CLIP_SECONDS
from avsc_core.data.upright import turn_upright
from avsc_core.errors import make_error
from avsc_core.finite import is_finite

TOLERANCE = (
    0.05  # seconds; recordings are a sample or a frame longer or shorter than they should be
)

# No clip exceeds these; a file that does is a mistake or an attack.
MAX_BYTES = 2**30
MAX_SECONDS = 600.0
MAX_PIXELS = 2**25
MICROSECOND = 1e-6  # times are sums and differences, whose last digits are not exact
MAX_LATE = 0.5  # seconds; tracks of telephones begin some hundredths apart
MIN_RATE, MAX_RATE = 1_000, 1_000_000  # Hz
MAX_RATIO = 1000  # of the smaller number of two rates
MAX_PEAK = 16.0  # full scale is 1; a float file that was not clipped may be somewhat above it

CONTAINERS = ("WAV", "WAVEX", "RF64")
ENCODINGS = ("PCM", "FLOAT", "DOUBLE")  # how the names of lossless encodings begin
AGAIN = "unpack it again or remove its row"

# FFmpeg's own messages would appear beside ours; the same text arrives with the exception.
logging.getLogger("libav").setLevel(logging.CRITICAL)


class Lengths(NamedTuple):
    """How long clips are, and what to do with recordings that differ by more than TOLERANCE."""

    short: str = "error"  # or "pad"
    long: str = "error"  # or "crop"
    seconds: float = CLIP_SECONDS


FIT = Lengths("pad", "crop")


def is_video(path: Path) -> bool:
    """Tell by its name whether a file is a video."""
    return path.suffix.lower() in VIDEO_ENDINGS


def has_sound(path: Path) -> bool:
    """Tell whether a video has a sound track. Raises UserError when it cannot be opened."""
    with _open_container(path) as container:
        return any(map(_is_known, container.streams.audio))


def probe_audio(path: Path) -> AudioInfo:
    """Read the header of a wav file, or of the sound track of a video.

    Raises UserError when there is none, or it is larger than a clip can be.
    """
    if is_video(path):
        with _open_sound(path) as (container, stream):
            # Sound that begins late is silent before.
            late = max(0.0, _read_start(stream) - _read_start(container))
            seconds = late + _read_duration(stream)
            name = stream.codec_context.name
            return AudioInfo(seconds, _check_rate(path, stream.rate), stream.channels, name)
    with _open_audio(path) as file:
        rate = _check_rate(path, file.samplerate)
        return AudioInfo(len(file) / rate, rate, file.channels, file.subtype)


def read_audio(path: Path, sample_rate: int, lengths: Lengths = FIT) -> Tensor:
    """Read a wav file, or the sound of a video, as samples (n,) float32 in [-1, 1] at
    `sample_rate` Hz, channels averaged.

    A long recording is cropped to the length of a clip. A short one stays short: it is padded
    later, as a log-mel, like AST's inputs. Raises UserError for a damaged file, and for lengths
    that `lengths` calls an error; for samples that are not numbers or far above full scale.
    """
    info = probe_audio(path)
    rate, seconds = info.rate, info.seconds
    check_length(path, seconds, lengths)
    if is_video(path):
        # Whatever the header says, no more is decoded than a clip holds.
        seconds = min(seconds, lengths.seconds + 2 * TOLERANCE)
        samples, allowed = _read_sound(path, seconds), 2 * TOLERANCE
    else:
        samples, allowed = _read_wav(path), 0.0

    # A file that holds less than its header says was cut off. The ends of sound in a video are
    # those of blocks, so they are not exact.
    if seconds - len(samples) / rate > allowed:
        what = f"ends after {len(samples) / rate:.2f} s of {seconds:.2f} s"
        raise make_error(path, what, todo=AGAIN)
    if not is_finite(samples):
        raise make_error(path, "has samples that are not numbers", todo=AGAIN)
    peak = float(np.abs(samples).max())
    if peak > MAX_PEAK:
        raise make_error(
            path,
            f"has samples up to {peak:.3g}",
            f"-1 to 1, at most {MAX_PEAK:g}",
            "float samples on an integer scale? divide them by 32768 (of 16 bits)",
        )

    # Crop, average the channels, resample.
    if len(samples) > (lengths.seconds + TOLERANCE) * rate:
        samples = samples[: round(lengths.seconds * rate)]
    mono = torch.from_numpy(samples).mean(1)  # (n,)
    return mono if rate == sample_rate else _resample(mono, rate, sample_rate)


def _read_wav(path: Path) -> np.ndarray:
    """Read all samples (n, channels) of a wav file."""
    with _open_audio(path) as file:
        samples: np.ndarray = file.read(dtype="float32", always_2d=True)
    return samples


def _read_sound(path: Path, seconds: float) -> np.ndarray:
    """Decode the samples (n, channels) of a video's sound, at most the first `seconds` of the file.

    Each block stands where its time stamp says, so that gaps stay silent.
    """
    with _open_sound(path) as (container, stream):
        start = _read_start(container)
        rate = stream.rate
        samples = np.zeros((stream.channels, round(seconds * rate)), np.float32)
        end = 0
        to_float = av.AudioResampler(format="fltp")
        for frame in container.decode(stream):
            place = round(((frame.time or 0.0) - start) * rate)
            if abs(place - end) < TOLERANCE * rate:
                place = end  # time stamps are rounded; blocks follow each other without a click
            if place >= samples.shape[1]:
                break
            for block in to_float.resample(frame):
                part = block.to_ndarray()[:, max(0, -place) : samples.shape[1] - place]
                place = max(0, place)
                samples[:, place : place + part.shape[1]] = part
                end = place = place + part.shape[1]
    return samples[:, :end].T


def _check_rate(path: Path, rate: int) -> int:
    """Return a sample rate. Raises UserError for one that no microphone has."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise make_error(path, f"has {rate} samples a second", f"{MIN_RATE} to {MAX_RATE}")
    return rate


def _resample(samples: Tensor, rate: int, wanted: int) -> Tensor:
    """Resample (n,) from `rate` to `wanted` Hz.

    The filter grows with the numbers of the ratio, and at 44,101 Hz would take gigabytes. So the
    nearest ratio of smaller numbers is used: that of every usual pair of rates itself, and of
    others one that is at most some milliseconds off in a clip.
    """
    ratio = Fraction(rate, wanted).limit_denominator(MAX_RATIO)
    resampled: Tensor = resample(samples, ratio.numerator, ratio.denominator)
    return resampled


def probe_video(path: Path) -> VideoInfo:
    """Read the header of an mp4 file.

    Raises UserError when it has no pictures, or larger ones than a clip can have.
    """
    with _open_video(path) as (_, stream):
        rate = float(stream.average_rate or 0)
        context = stream.codec_context
        return VideoInfo(_read_duration(stream), rate, context.width, context.height, context.name)


def read_frames(
    path: Path,
    count: int,
    offset_s: float,
    resize: int,
    size: int,
    lengths: Lengths = FIT,
    interpolation: str = "bilinear",
    squash: bool = False,
) -> Tensor:
    """Read F = `count` frames of an mp4 file, upright: (F,3,size,size) uint8.

    Frame i is the one shown at offset_s + i * lengths.seconds / count. It is resized (antialiased)
    so that its shorter side, or with `squash` both sides, are `resize`, then its centre is cut out,
    as torchvision's and timm's weights expect. A video that ends early repeats its last frame.
    Raises UserError when it cannot be decoded, is damaged, or is of a length that `lengths` calls
    an error.
    """
    times = [offset_s + index * lengths.seconds / count for index in range(count)]
    pictures = []
    with _open_video(path) as (container, stream):
        check_length(path, _read_duration(stream), lengths)
        for frame in _select_frames(path, container, stream, times):
            pictures.append(_convert_frame(frame, resize, size, interpolation, squash))
    return torch.stack(pictures)  # (F,3,size,size)


def describe_length(seconds: float, wanted: float = CLIP_SECONDS) -> str:
    """Return what happens to a recording of this length: "padded", "cropped" or ""."""
    if abs(seconds - wanted) <= TOLERANCE:
        return ""
    return "padded" if seconds < wanted else "cropped"


def check_length(path: Path, seconds: float, lengths: Lengths) -> None:
    """Raise UserError when a clip has another length and `lengths` does not allow it."""
    difference = seconds - lengths.seconds
    policy = lengths.short if difference < 0 else lengths.long
    setting = "media.short=pad" if difference < 0 else "media.long=crop"

    accepted = abs(difference) <= TOLERANCE or policy != "error"
    if seconds > MAX_SECONDS or not accepted:
        raise make_error(
            path,
            f"is {seconds:.2f} s long",
            f"{lengths.seconds:g} s, give or take {TOLERANCE:g} s",
            f"{AGAIN}, or --set {setting}",
        )


@contextmanager
def _open_audio(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a wav file. Raises UserError when it is not one, also while it is read."""
    _check_size(path)
    try:
        with soundfile.SoundFile(path) as file:
            # soundfile opens many formats, whatever the file is called.
            if file.format not in CONTAINERS or not file.subtype.startswith(ENCODINGS):
                raise make_error(
                    path, f"is {file.format} with {file.subtype}", "wav with PCM or float samples"
                )
            if not len(file):
                raise make_error(path, "has no samples", todo=AGAIN)
            yield file
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", error)  # the text without the path
        raise make_error(path, f"cannot be read as wav ({reason})", "PCM or float wav") from None


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open an mp4 file and its video track.

    Raises UserError when it is not one, also while it is decoded.
    """
    with _open_container(path) as container:
        tracks = filter(_is_known, filterfalse(_is_cover, container.streams.video))
        stream = next(tracks, None)
        if stream is None:
            what = "has no video track that can be decoded"
            raise make_error(path, what, "mp4 or mov with pictures")
        _check_start(path, container, stream)
        context = stream.codec_context
        if context.width * context.height > MAX_PIXELS:
            raise make_error(
                path,
                f"has pictures of {context.width} x {context.height}",
                f"at most {MAX_PIXELS / 1e6:.0f} million pixels",
            )
        # Without this FFmpeg conceals damage with grey blocks and reports nothing.
        context.options = {"err_detect": "explode"}
        yield container, stream


@contextmanager
def _open_sound(path: Path) -> Iterator[tuple[InputContainer, AudioStream]]:
    """Open a video and its sound track. Raises UserError as `_open_video`."""
    with _open_container(path) as container:
        stream = next(filter(_is_known, container.streams.audio), None)
        if stream is None:
            what = "has no sound that can be decoded"
            raise make_error(path, what, "mp4 or mov with a sound track, or a wav")
        yield container, stream


@contextmanager
def _open_container(path: Path) -> Iterator[InputContainer]:
    """Open an mp4 file. Raises UserError when it is not one, also while it is decoded."""
    _check_size(path)
    try:
        # Container and protocol are named, so a playlist cannot make FFmpeg open something else.
        with av.open(str(path), format="mov", options={"protocol_whitelist": "file"}) as container:
            yield container
    except (av.FFmpegError, IndexError, OSError) as error:
        raise make_error(
            path, f"cannot be decoded ({error})", "mp4 or mov with a video track"
        ) from None


def _is_known(stream: Stream) -> bool:
    """Tell whether FFmpeg knows the format of a track; some are encrypted, or new."""
    return stream.codec_context is not None


def _is_cover(stream: VideoStream) -> bool:
    """Tell whether a video track is a still picture for a list of files, not the video."""
    return bool(stream.disposition & Disposition.attached_pic)


def _check_start(path: Path, container: InputContainer, stream: VideoStream) -> None:
    """Raise UserError when the pictures begin much later than the file, with its sound.

    The times of pictures count from the beginning of the file, so the first one would stand for
    all before it.
    """
    late = _read_start(stream) - _read_start(container)
    if late > MAX_LATE:
        what = f"its pictures begin {late:.2f} s after the beginning of the file"
        todo = "cut it again where the pictures begin"
        raise make_error(path, what, f"at most {MAX_LATE:g} s", todo)


def _read_start(part: InputContainer | Stream) -> float:
    """Return when a file, or a track of it, begins, in seconds; 0 where it does not say."""
    unit = getattr(part, "time_base", None) or 1 / av.time_base
    return float((part.start_time or 0) * unit)


def _check_size(path: Path) -> None:
    """Raise UserError when a file cannot be found, is empty, or is larger than a clip can be."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise make_error(path, f"cannot be read ({error.strerror})", todo=AGAIN) from None
    if not size or size > MAX_BYTES:
        what = f"has {size / 2**20:.0f} MiB" if size else "is empty"
        raise make_error(path, what, f"a clip of {CLIP_SECONDS:g} s", AGAIN)


def _select_frames(
    path: Path, container: InputContainer, stream: VideoStream, times: Sequence[float]
) -> Iterator[av.VideoFrame]:
    """Yield for each of the ascending `times` the frame shown then; after the end, the last one.

    Raises UserError when a frame is damaged, and when the file ends earlier than its header says.
    """
    duration = _read_duration(stream)
    frame_seconds = 1 / float(stream.average_rate or 1)
    start = _read_start(container)
    remaining = list(times)
    shown = None
    end = 0.0
    for frame in container.decode(stream):
        time = frame.time - start
        if frame.is_corrupt:
            raise make_error(path, f"is damaged at {time:.2f} s", todo=AGAIN)
        # A frame is shown until the next one begins, so time stamps decide, not frame numbers.
        while shown is not None and remaining and time > remaining[0] + MICROSECOND:
            yield shown
            remaining.pop(0)
        if not remaining:
            return
        shown = frame
        # Where pictures last unequally long, each says how long.
        lasts = float((frame.duration or 0) * (frame.time_base or 0))
        end = max(end, time + max(lasts, frame_seconds))

    # The video is over, but not all times have come.
    if shown is None:
        raise make_error(path, "has no frames", todo=AGAIN)
    if end < duration - 2 * TOLERANCE - frame_seconds:
        raise make_error(path, f"ends after {end:.2f} s of {duration:.2f} s", todo=AGAIN)
    for _ in remaining:
        yield shown


def _read_duration(stream: Stream) -> float:
    """Return the seconds that the header says."""
    return float((stream.duration or 0) * (stream.time_base or 0))


def _convert_frame(
    frame: av.VideoFrame, resize: int, size: int, interpolation: str, squash: bool
) -> Tensor:
    """Turn a decoded frame upright, resize it and cut out its centre: (3,size,size) uint8."""
    upright = turn_upright(frame.to_ndarray(format="rgb24"), frame)  # (H,W,3)
    picture = torch.from_numpy(np.ascontiguousarray(upright)).permute(2, 0, 1)  # (3,H,W)
    sides = [resize, resize] if squash else [resize]
    mode = transforms.InterpolationMode(interpolation)
    resized = transforms.resize(picture, sides, mode, antialias=True)
    cropped: Tensor = transforms.center_crop(resized, [size, size])
    return cropped
