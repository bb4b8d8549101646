"""This module serves cached features as batches on the device.

Only the seed and the epoch decide the order.

In: memory-mapped features of a data set and row numbers. Out: `Batch`es of B clips. A batch is
read from the arrays by a thread while the one before it is used, moved to the device, and augmented
and normalised there: so the cache keeps frames as small integers, and nothing beyond two batches is
copied.
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from avsc_core.config import Augmentation
from avsc_core.data.augment import apply_mixup, augment_frames, augment_log_mel
from avsc_core.data.features import Features, check_log_mels, list_rows, sum_log_mel
from avsc_core.data.logmel import AST_PADDING, AUDIOSET, Scale, normalise
from avsc_core.files import cache_root
from avsc_core.finite import check_finite
from avsc_core.processes import look_ahead
from avsc_core.weights.preparation import IMAGENET, Colours


class Inputs(NamedTuple):
    """What a model is trained on: features of a data set, normalisations, encodings.

    Where an encoder is frozen, or encodings were computed elsewhere, those of all N clips take the
    place of the log-mels or the frames.
    """

    features: Features
    scale: Scale  # normalisation of the log-mels
    colours: Colours  # normalisation of the frames
    audio: ndarray | None = None  # (N,width) or (N,steps,width) float32, encodings
    visual: ndarray | None = None  # (N,width) or (N,steps,width) float32, encodings


class Batch(NamedTuple):
    """B clips, ready for the model and the losses."""

    log_mel: Tensor | None  # (B,T,128) float32, normalised; or encodings (B,...)
    frames: Tensor | None  # (B,F,3,H,W) float32, normalised; or encodings (B,...)
    events: Tensor  # (B,E) float32 of 0 and 1
    objects: Tensor  # (B,O) float32 of 0 and 1
    scenes: Tensor  # (B,) int64; or targets (B,S) of mixed clips


def compute_scale(features: Features, normalisation: str, rows: ndarray) -> Scale:
    """Compute the `Scale` that the setting `log_mel.normalise` asks for.

    "dataset": mean and deviation of the log-mels over `rows`, which are training rows only, so that
    nothing of validation or test reaches the model. Padded frames do not count, and get the value
    that they have with AudioSet's constants. "audioset" and "peak": AudioSet's constants ("peak"
    scales the samples before the logarithm).
    """
    if normalisation != "dataset" or features.log_mel is None:
        return AUDIOSET

    # One clip at a time, because the log-mels of TAU's training split fill 4.5 GB.
    if features.sums is not None:
        sums = features.sums[rows]  # (N,3)
    else:
        sums = np.stack([sum_log_mel(features.log_mel[row]) for row in rows])
    count, total, total_of_squares = map(sum, sums.T.tolist())

    mean = total / max(count, 1)
    variance = total_of_squares / max(count, 1) - mean**2
    if not np.isfinite(variance):
        check_log_mels(features.data, features.log_mel, rows)
    return Scale(float(mean), float(np.sqrt(variance)), AST_PADDING)


def check_inputs(inputs: Inputs, rows: ndarray) -> None:
    """Check that the log-mels, or the encodings of frozen encoders, of `rows` are finite.

    They are many, so they are looked at when a figure is not finite, to find out why. Raises
    UserError that names each clip.
    """
    if inputs.audio is None and inputs.features.log_mel is not None:
        check_log_mels(inputs.features.data, inputs.features.log_mel, rows)
    for branch, encodings in (("audio", inputs.audio), ("visual", inputs.visual)):
        if encodings is not None:
            files = cache_root() / "features" / f"{branch}_encoding-*"
            todo = f"delete {files}: they are computed again"
            what = f"its {branch} encoding in the cache"
            check_finite(list_rows(inputs.features.data, rows, what, encodings), todo)


def shuffle_rows(rows: ndarray, seed: int, epoch: int) -> ndarray:
    """Return `rows` in the order of this epoch.

    It is the same for every trial with the seed, also after a restart.
    """
    return np.random.default_rng((seed, epoch)).permutation(rows)


def iterate_batches(
    inputs: Inputs,
    rows: ndarray,
    batch_size: int,
    device: torch.device,
    augmentation: Augmentation | None = None,
) -> Iterator[Batch]:
    """Yield batches of the given rows in the given order; the last one may be smaller.

    They are augmented when `augmentation` is given. While a batch is used, a thread reads the next
    one; augmentation, which draws random numbers, stays on the thread of the caller.
    """
    scene_count = len(inputs.features.data.scene_names)
    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    for stored in look_ahead(partial(read_rows, inputs, device=device), parts):
        batch = Batch(
            log_mel=prepare_log_mels(stored.log_mel, inputs, device, augmentation),
            frames=prepare_frames(stored.frames, inputs, device, augmentation),
            events=to_device(stored.events, device).float(),
            objects=to_device(stored.objects, device).float(),
            scenes=to_device(stored.scenes, device),
        )

        # Clips are mixed last, with all their labels.
        if augmentation and augmentation.mixup:
            batch = Batch(*apply_mixup(*batch, scene_count=scene_count, settings=augmentation))
        yield batch


def read_rows(inputs: Inputs, rows: ndarray, device: torch.device) -> Batch:
    """Read B rows of what a model takes, as they are stored, into memory that `device` copies."""
    features = inputs.features
    audio = features.log_mel if inputs.audio is None else inputs.audio
    visual = features.frames if inputs.visual is None else inputs.visual
    return Batch(
        log_mel=None if audio is None else copy_rows(audio, rows, device),
        frames=None if visual is None else copy_rows(visual, rows, device),
        events=copy_rows(features.events, rows, device),
        objects=copy_rows(features.objects, rows, device),
        scenes=copy_rows(features.data.scenes, rows, device),
    )


def copy_rows(array: ndarray, rows: ndarray, device: torch.device) -> Tensor:
    """Copy the rows (B,) of an array (N,...) into a tensor (B,...) in memory.

    For a GPU they are copied straight into pinned memory: a transfer from there runs beside the
    computation. torch uses that memory again only when the transfer is over.
    """
    if device.type != "cuda":
        return torch.from_numpy(array[rows])
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    target = torch.empty((len(rows), *array.shape[1:]), dtype=dtype, pin_memory=True)
    # Rows are always in range; any other mode would make numpy copy twice.
    np.take(array, rows, axis=0, out=target.numpy(), mode="clip")
    return target


def prepare_log_mels(
    stored: Tensor | None,  # (B,T,128), or encodings (B,...)
    inputs: Inputs,
    device: torch.device,
    augmentation: Augmentation | None = None,
) -> Tensor | None:
    """Move log-mels to the device, augment them when asked, normalise: (B,T,128) float32.

    Encodings are final: they are neither augmented nor normalised. A model without a branch for
    sound gets None.
    """
    if stored is None:
        return None
    log_mel = to_device(stored, device)
    if inputs.audio is not None:
        return log_mel
    # Augmentation needs values that are not normalised yet: there padding is 0, and gain a shift.
    if augmentation:
        log_mel = augment_log_mel(log_mel, augmentation)
    return normalise(log_mel, inputs.scale)


def prepare_frames(
    stored: Tensor | None,  # (B,F,3,H,W) uint8, or encodings (B,...)
    inputs: Inputs,
    device: torch.device,
    augmentation: Augmentation | None = None,
) -> Tensor | None:
    """Move frames to the device, augment them when asked, normalise: (B,F,3,H,W) float32.

    Encodings are final: they are neither augmented nor normalised. A model without a branch for
    pictures gets None.
    """
    if stored is None:
        return None
    frames = to_device(stored, device)
    if inputs.visual is not None:
        return frames
    if augmentation:
        frames = augment_frames(frames, augmentation)
    return normalise_frames(frames, inputs.colours)


def normalise_frames(frames: Tensor, colours: Colours = IMAGENET) -> Tensor:
    """Turn frames (B,F,3,H,W) uint8 into float32, normalised as a backbone expects."""
    mean, std = _place_colours(colours, frames.device)
    return (frames.float() / 255 - mean) / std


@lru_cache
def _place_colours(colours: Colours, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (3,1,1) on the device, once: moving them makes a GPU wait."""
    mean = torch.tensor(colours.mean, device=device).view(3, 1, 1)
    std = torch.tensor(colours.std, device=device).view(3, 1, 1)
    return mean, std


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to the device; from pinned memory beside the computation."""
    return tensor.to(device, non_blocking=True)
