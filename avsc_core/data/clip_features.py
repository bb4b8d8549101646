"""One clip's features, computed from its files: what the store keeps a row of.

`clip_log_mel`: wav -> (T,128) float32. `clip_frames`: mp4 -> (F,3,H,W) uint8. Both say whether the clip was padded or
cropped to its length.
"""

import numpy as np

from avsc_core.config import LogMel, Media, Pictures
from avsc_core.data.logmel import log_mel
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
    """(T,128) float32 or float16, and "padded", "cropped" or "". Raises UserError."""
    samples = read_audio(
        clip.audio, settings.sample_rate, Lengths(media.short, media.long, seconds)
    )
    shape = (settings.window, settings.window_ms, settings.hop_ms, settings.frames)
    values = log_mel(samples, settings.sample_rate, *shape, peak=settings.normalise == "peak")
    return values.numpy().astype(settings.stored), describe_length(
        probe_audio(clip.audio).seconds, seconds
    )


def compute_frames(
    clip: Clip, settings: Pictures, media: Media, seconds: float = CLIP_SECONDS
) -> tuple[np.ndarray, str]:
    """(F,3,H,W) uint8, and "padded", "cropped" or "". Raises UserError."""
    resize, lengths = settings.resize or settings.size, Lengths(media.short, media.long, seconds)
    values = read_frames(
        clip.video, settings.frames, settings.offset_s, resize, settings.size, lengths
    )
    return values.numpy(), describe_length(probe_video(clip.video).seconds, seconds)
