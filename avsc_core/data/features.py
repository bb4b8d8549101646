"""One clip's features, computed from its files: what the cache stores a row of.

`clip_log_mel`: wav -> (T,128) float32. `clip_frames`: mp4 -> (F,3,H,W) uint8.
"""

import numpy as np

from avsc_core.config import LogMel, Pictures
from avsc_core.data.logmel import log_mel
from avsc_core.data.media import read_audio, read_frames
from avsc_core.data.tau import Clip


def clip_log_mel(clip: Clip, settings: LogMel) -> np.ndarray:
    """(T,128) float32."""
    samples = read_audio(clip.audio, settings.sample_rate)
    shape = (settings.window, settings.window_ms, settings.hop_ms, settings.frames)
    return log_mel(samples, settings.sample_rate, *shape, peak=settings.normalise == "peak").numpy()


def clip_frames(clip: Clip, settings: Pictures) -> np.ndarray:
    """(F,3,H,W) uint8."""
    resize = settings.resize or settings.size
    return read_frames(clip.video, settings.frames, settings.offset_s, resize, settings.size).numpy()
