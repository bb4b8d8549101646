"""Cached features -> batches on the device, in an order that depends on the seed and the epoch alone.

A batch is gathered from the memory-mapped arrays, moved, and normalised where it will be used, so that the cache keeps
small integers for pictures and nothing is copied beyond the batch.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from avsc_core.data.cache import Features
from avsc_core.data.logmel import AUDIOSET, Scale, normalise

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # torchvision's, which ConvNeXt was trained with
IMAGENET_STD = (0.229, 0.224, 0.225)


class Batch(NamedTuple):
    """B clips, ready for the model and the losses."""

    log_mel: Tensor  # (B,T,128) float32, normalised
    frames: Tensor  # (B,F,3,H,W) float32, normalised
    events: Tensor  # (B,E) float32 of 0 and 1
    objects: Tensor  # (B,O) float32 of 0 and 1
    scenes: Tensor  # (B,) int64


def log_mel_scale(features: Features, kind: str, rows: np.ndarray) -> Scale:
    """The normalisation of `log_mel.normalise`: AudioSet's constants, or mean and deviation over `rows`.

    `rows` are training rows only, so that nothing of validation or test reaches the model. `peak` scales samples before
    the logarithm and keeps AudioSet's constants.
    """
    if kind != "dataset":
        return AUDIOSET
    total = square = 0.0
    for row in rows:  # one clip at a time: the training split of TAU holds 4.5 GB
        clip = features.log_mel[row].astype(np.float64)
        total, square = total + clip.mean(), square + (clip**2).mean()
    mean = total / len(rows)
    return Scale(float(mean), float(np.sqrt(square / len(rows) - mean**2)))


def shuffled(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """`rows` in the order of this epoch: the same for every trial with the seed, also after a restart."""
    return np.random.default_rng((seed, epoch)).permutation(rows)


def batches(
    features: Features, rows: np.ndarray, batch_size: int, scale: Scale, device: torch.device
) -> Iterator[Batch]:
    """Batches of the given rows in the given order; the last may be smaller."""
    scenes = features.data.scenes
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        yield Batch(
            normalise(torch.from_numpy(features.log_mel[part]).to(device), scale),
            normalise_frames(torch.from_numpy(features.frames[part]).to(device)),
            torch.from_numpy(features.data.events[part]).to(device).float(),
            torch.from_numpy(features.data.objects[part]).to(device).float(),
            torch.from_numpy(scenes[part]).to(device),
        )


def normalise_frames(frames: Tensor) -> Tensor:
    """(B,F,3,H,W) uint8 -> float32 with ImageNet's mean and deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=frames.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=frames.device).view(3, 1, 1)
    return (frames.float() / 255 - mean) / std
