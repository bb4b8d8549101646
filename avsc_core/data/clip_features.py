"""This module computes the features of one clip from its files, a row of the cached arrays.

`compute_log_mel`: wav -> (T,128) float32 or float16. `compute_frames`: mp4 -> (F,3,H,W) uint8. Both
also say whether the recording was padded or cropped to the length of a clip.
"""

import numpy as np

from avsc_core.config import LogMel, Media, Pictures
from avsc_core.data.logmel import convert_to_log_mel
from avsc_core.data.media import (
    Lengths,
    describe_length,
    probe_audio,
    probe_video,
    read_audio,
    read_frames,
)
from avsc_core.data.tables import Clip
from avsc_core.data.tau import CLIP_SECONDS


def compute_log_mel(
    clip: Clip, settings: LogMel, media: Media, seconds: float = CLIP_SECONDS
) -> tuple[np.ndarray, str]:
    """Compute the log-mel (T,128) of a clip, not normalised, in the type `settings.stored`.

    Returns it with "padded", "cropped" or "". Raises UserError when the file is not a wav of the
    right length.
    """
    lengths = Lengths(media.short, media.long, seconds)
    samples = read_audio(clip.audio, settings.sample_rate, lengths)  # (n,)
    # Of the normalisations only `peak` acts on samples; the others act on batches.
    log_mel = convert_to_log_mel(
        samples,
        settings.sample_rate,
        settings.window,
        settings.window_ms,
        settings.hop_ms,
        settings.frames,
        peak=settings.normalise == "peak",
    )
    note = describe_length(probe_audio(clip.audio).seconds, seconds)
    return log_mel.numpy().astype(settings.stored), note


def compute_frames(
    clip: Clip, settings: Pictures, media: Media, seconds: float = CLIP_SECONDS
) -> tuple[np.ndarray, str]:
    """Compute the frames (F,3,H,W) uint8 of a clip.

    Returns them with "padded", "cropped" or "". Raises UserError when the file is not an mp4 of the
    right length.
    """
    # Without `resize` the frame is scaled to `size`, and only its longer side is cut.
    frames = read_frames(
        clip.video,
        count=settings.frames,
        offset_s=settings.offset_s,
        resize=settings.resize or settings.size,
        size=settings.size,
        lengths=Lengths(media.short, media.long, seconds),
        interpolation=settings.interpolation,
        squash=settings.squash,
    )
    note = describe_length(probe_video(clip.video).seconds, seconds)
    return frames.numpy(), note
