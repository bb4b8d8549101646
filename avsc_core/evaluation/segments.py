"""Protocol `segment`, the challenge's: ten decisions for a clip, one a second, each from that second alone.

Cached log-mels and frames are cut, nothing is decoded again: second s keeps the log-mel frames whose windows lie in it,
padded as a short clip is, and the picture shown in it (the nearest one where there are fewer than ten).
"""

import numpy as np
import torch

from avsc_core.config import Config
from avsc_core.data.batches import Inputs, normalise_frames, to_device
from avsc_core.data.logmel import normalise
from avsc_core.data.tau import CLIP_SECONDS
from avsc_core.model.network import AudioVisualNet
from avsc_core.trainer.device import autocast

SEGMENTS = 10


def cut_segments(
    log_mel: np.ndarray, frames: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """(T,128) and (F,3,H,W) of a clip -> (10,T,128) and (10,1,3,H,W)."""
    settings, second = config.log_mel, CLIP_SECONDS / SEGMENTS * 1000  # ms
    kept = max(1, int((second - settings.window_ms) // settings.hop_ms) + 1)
    sounds = np.zeros((SEGMENTS, *log_mel.shape), log_mel.dtype)
    for number in range(SEGMENTS):
        start = round(number * second / settings.hop_ms)
        part = log_mel[start : start + kept]
        sounds[number, : len(part)] = part
    shown = config.pictures.offset_s + np.arange(len(frames)) * CLIP_SECONDS / len(frames)  # (F,) s
    wanted = config.pictures.offset_s + np.arange(SEGMENTS) * CLIP_SECONDS / SEGMENTS
    nearest = np.abs(shown[None] - wanted[:, None]).argmin(1)
    return sounds, frames[nearest][:, None]


@torch.inference_mode()
def predict_segments(
    model: AudioVisualNet, inputs: Inputs, rows: np.ndarray, config: Config
) -> np.ndarray:
    """(10 N,S) float64 scene probabilities, clip after clip."""
    model.eval()
    device = next(model.parameters()).device
    parts = []
    for row in rows:
        sounds, pictures = cut_segments(
            inputs.features.log_mel[row], inputs.features.frames[row], config
        )
        heard = normalise(to_device(sounds, device), inputs.scale)
        seen = normalise_frames(to_device(pictures, device), inputs.colours)
        with autocast(config, device):
            outputs = model(heard, seen)
        parts.append(outputs.scene_logits.double().softmax(1).cpu().numpy())
    return np.concatenate(parts)
