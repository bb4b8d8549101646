"""Protocol `segment`, the challenge's: ten decisions for a clip, each from one second alone.

Cached log-mels and frames are cut, nothing is decoded again: second s keeps the log-mel frames
whose windows lie in it, padded as a short clip is, and the picture shown in it (the nearest one
where there are fewer than ten).
"""

import numpy as np
from numpy import ndarray

from avsc_core.config import Config, LogMel
from avsc_core.data.batches import Inputs
from avsc_core.data.tau import CLIP_SECONDS
from avsc_core.model.network import AudioVisualNet
from avsc_core.trainer.inference import run_raw_clips, scene_probabilities

SEGMENTS = 10
SECOND = CLIP_SECONDS / SEGMENTS * 1000  # ms


def cut_sound(log_mel: ndarray, settings: LogMel) -> ndarray:
    """Cut the log-mel (T,128) of a clip into those of its seconds (10,T,128)."""
    # log-mel frames whose windows lie within the second; zeros after them, as after a short clip
    kept = count_frames(settings)
    sounds = np.zeros((SEGMENTS, *log_mel.shape), log_mel.dtype)  # (10,T,128)
    for number in range(SEGMENTS):
        start = round(number * SECOND / settings.hop_ms)
        part = log_mel[start : start + kept]
        sounds[number, : len(part)] = part
    return sounds


def count_frames(settings: LogMel) -> int:
    """Count the log-mel frames whose windows lie within one second, at least one."""
    return max(1, int((SECOND - settings.window_ms) // settings.hop_ms) + 1)


def cut_pictures(frames: ndarray, offset: float) -> ndarray:
    """Choose from the frames (F,3,H,W) of a clip one for each of its seconds: (10,1,3,H,W).

    It is the picture nearest to `offset` seconds into that second.
    """
    shown = offset + np.arange(len(frames)) * CLIP_SECONDS / len(frames)  # (F,) s
    wanted = offset + np.arange(SEGMENTS) * CLIP_SECONDS / SEGMENTS  # (10,) s
    nearest = np.abs(shown[None] - wanted[:, None]).argmin(1)  # (10,)
    chosen: ndarray = frames[nearest][:, None]
    return chosen


def predict_segments(
    model: AudioVisualNet, inputs: Inputs, rows: ndarray, config: Config
) -> ndarray:
    """Return (10 N,S) float64 scene probabilities, clip after clip."""
    features = inputs.features
    probabilities = []
    for row in rows:
        sounds = pictures = None
        if features.log_mel is not None:
            sounds = cut_sound(features.log_mel[row], config.log_mel)
        if features.frames is not None:
            pictures = cut_pictures(features.frames[row], config.pictures.offset_s)
        outputs = run_raw_clips(model, sounds, pictures, inputs.scale, inputs.colours, config)
        probabilities.append(scene_probabilities(outputs))  # (10,S)
    return np.concatenate(probabilities)
