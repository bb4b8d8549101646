"""A checkpoint holds everything a trial needs to continue and end with the numbers it would have had.

Random numbers need no place in it: every epoch seeds them from (seed, epoch). Written atomically after every epoch;
read with `weights_only`, so a checkpoint can carry tensors and numbers but no code.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from avsc_core.files import atomic_path


class Best(NamedTuple):
    """The best epoch so far and what the model said then."""

    epoch: int  # from 1
    metrics: dict[str, float]
    probability: Tensor  # (N,S) of the validation clips


class Checkpoint(NamedTuple):
    """The state after an epoch."""

    key: str  # of the trial it belongs to
    epoch: int  # from 1
    metrics: dict[str, float]  # of that epoch
    model: dict[str, Any]
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any]  # of fp16's loss; empty otherwise
    best: Best | None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` atomically."""
    content = checkpoint._asdict()
    content["best"] = checkpoint.best and checkpoint.best._asdict()
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """The checkpoint of trial `key` at `path`, or None when there is none."""
    if not path.is_file():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["key"] != key:
        return None
    content["best"] = content["best"] and Best(**content["best"])
    return Checkpoint(**content)
