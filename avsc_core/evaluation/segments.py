"""Protocol `segment`, the challenge's: ten decisions for a clip, each from one second alone.

Cached log-mels and frames are cut, nothing is decoded again: second s keeps the log-mel frames
whose windows lie in it, padded as a short clip is, and the picture shown in it (the nearest one
where there are fewer than ten).
"""

import numpy as np
from numpy import ndarray

from avsc_core.config import Config
from avsc_core.data.batches import Inputs
from avsc_core.data.tau import CLIP_SECONDS
from avsc_core.model.network import AudioVisualNet
from avsc_core.trainer.inference import run_raw_clips, scene_probabilities

SEGMENTS = 10


def cut_segments(
    log_mel: ndarray,  # (T,128)
    frames: ndarray,  # (F,3,H,W)
    config: Config,
) -> tuple[ndarray, ndarray]:
    """Cut the features of a clip into log-mels (10,T,128) and frames (10,1,3,H,W)."""
    # log-mel frames whose windows lie within the second; zeros after them, as after a short clip
    settings = config.log_mel
    second = CLIP_SECONDS / SEGMENTS * 1000  # ms
    kept = max(1, int((second - settings.window_ms) // settings.hop_ms) + 1)
    sounds = np.zeros((SEGMENTS, *log_mel.shape), log_mel.dtype)  # (10,T,128)
    for number in range(SEGMENTS):
        start = round(number * second / settings.hop_ms)
        part = log_mel[start : start + kept]
        sounds[number, : len(part)] = part

    # the picture nearest to the same offset into each second
    offset = config.pictures.offset_s
    shown = offset + np.arange(len(frames)) * CLIP_SECONDS / len(frames)  # (F,) s
    wanted = offset + np.arange(SEGMENTS) * CLIP_SECONDS / SEGMENTS  # (10,) s
    nearest = np.abs(shown[None] - wanted[:, None]).argmin(1)  # (10,)
    return sounds, frames[nearest][:, None]


def predict_segments(
    model: AudioVisualNet, inputs: Inputs, rows: ndarray, config: Config
) -> ndarray:
    """Return (10 N,S) float64 scene probabilities, clip after clip."""
    features = inputs.features
    probabilities = []
    for row in rows:
        sounds, pictures = cut_segments(features.log_mel[row], features.frames[row], config)
        outputs = run_raw_clips(model, sounds, pictures, inputs.scale, inputs.colours, config)
        probabilities.append(scene_probabilities(outputs))  # (10,S)
    return np.concatenate(probabilities)
