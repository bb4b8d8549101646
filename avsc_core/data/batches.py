"""Cached features -> batches on the device, in an order that depends on the seed and the epoch alone.

A batch is gathered from the memory-mapped arrays, moved, and normalised where it will be used, so that the cache keeps
small integers for pictures and nothing is copied beyond the batch.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from avsc_core.config import Augmentation
from avsc_core.data.augment import augment_log_mel, augment_pictures, mixup
from avsc_core.data.features import Features
from avsc_core.data.logmel import AUDIOSET, Scale, normalise


class Colours(NamedTuple):
    """Mean and deviation of red, green and blue that a visual backbone expects its pictures to be normalised with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Colours(
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
)  # torchvision's, which ConvNeXt was trained with


class Inputs(NamedTuple):
    """What a model is fed of a data set; `audio` and `visual` stand in for a frozen encoder's input."""

    features: Features
    scale: Scale  # normalisation of log-mels
    colours: Colours  # and of pictures
    audio: np.ndarray | None = (
        None  # (N,width) float32, the features that the frozen audio encoder makes
    )
    visual: np.ndarray | None = None  # (N,width)


class Batch(NamedTuple):
    """B clips, ready for the model and the losses."""

    log_mel: Tensor  # (B,T,128) float32, normalised, or features (B,width)
    frames: Tensor  # (B,F,3,H,W) float32, normalised, or features (B,width)
    events: Tensor  # (B,E) float32 of 0 and 1
    objects: Tensor  # (B,O) float32 of 0 and 1
    scenes: Tensor  # (B,) int64, or targets (B,S) of mixed clips


def compute_scale(features: Features, kind: str, rows: np.ndarray) -> Scale:
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


def shuffle_rows(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """`rows` in the order of this epoch: the same for every trial with the seed, also after a restart."""
    return np.random.default_rng((seed, epoch)).permutation(rows)


def iterate_batches(
    inputs: Inputs,
    rows: np.ndarray,
    batch_size: int,
    device: torch.device,
    augmentation: Augmentation | None = None,
) -> Iterator[Batch]:
    """Batches of the given rows in the given order, augmented when asked; the last may be smaller."""
    features, scenes = inputs.features, inputs.features.data.scenes
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        if inputs.audio is None:
            sounds = load_log_mels(inputs, part, device, augmentation)
        else:
            sounds = to_device(inputs.audio[part], device)
        if inputs.visual is None:
            seen = load_frames(inputs, part, device, augmentation)
        else:
            seen = to_device(inputs.visual[part], device)
        events, objects = (
            to_device(labels[part], device).float()
            for labels in (features.events, features.objects)
        )
        batch = Batch(sounds, seen, events, objects, to_device(scenes[part], device))
        if augmentation and augmentation.mixup:
            batch = Batch(*mixup(*batch, len(features.data.scene_names), augmentation))
        yield batch


def load_log_mels(
    inputs: Inputs, rows: np.ndarray, device: torch.device, changed: Augmentation | None = None
) -> Tensor:
    """(B,T,128) float32, normalised."""
    log_mel = to_device(inputs.features.log_mel[rows], device)
    return normalise(augment_log_mel(log_mel, changed) if changed else log_mel, inputs.scale)


def load_frames(
    inputs: Inputs, rows: np.ndarray, device: torch.device, changed: Augmentation | None = None
) -> Tensor:
    """(B,F,3,H,W) float32, normalised."""
    frames = to_device(inputs.features.frames[rows], device)
    return normalise_frames(
        augment_pictures(frames, changed) if changed else frames, inputs.colours
    )


def normalise_frames(frames: Tensor, colours: Colours = IMAGENET) -> Tensor:
    """(B,F,3,H,W) uint8 -> float32 with the mean and deviation that the backbone expects."""
    mean = torch.tensor(colours.mean, device=frames.device).view(3, 1, 1)
    std = torch.tensor(colours.std, device=frames.device).view(3, 1, 1)
    return (frames.float() / 255 - mean) / std


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on the device; from pinned memory, so that a GPU does not wait for the copy."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
