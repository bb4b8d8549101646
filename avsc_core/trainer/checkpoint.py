"""A checkpoint: the state of a trial after an epoch, from which it continues to the same numbers.

Random numbers need no place in it, because every epoch seeds them from (seed, epoch). The file is
written atomically after every epoch and read with `weights_only`, so it can carry tensors and
numbers but no code.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from avsc_core.files import atomic_path
from avsc_core.finite import check_finite

FORMAT = 2  # raised when the content changes; a file of another format is not used


class Checkpoint(NamedTuple):
    """The state of a trial after an epoch."""

    key: str  # of the trial it belongs to
    epoch: int  # from 1
    metrics: dict[str, float]  # of that epoch
    model: dict[str, Any]
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any]  # of fp16's loss; empty otherwise
    selection: dict[str, Any] | None  # selection.py; None without validation clips
    ema: dict[str, Any] | None = None  # the averaged weights, with `training.ema`


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` atomically."""
    content = {"format": FORMAT, **checkpoint._asdict()}
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """Return the checkpoint of trial `key` at `path`, or None.

    A file of another trial, or of another format (earlier versions wrote none), counts as no
    checkpoint: the trial then trains from its start and ends with the same numbers. Raises
    UserError when a tensor of the model is not finite.
    """
    if not path.is_file():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content.pop("format", None) != FORMAT or content["key"] != key:
        return None
    weights = {**content["model"], **(content["ema"] or {})}
    tensors = ((str(path), f"tensor {name}", value) for name, value in weights.items())
    check_finite(tensors, todo="delete it: the training then begins anew")
    return Checkpoint(**content)
