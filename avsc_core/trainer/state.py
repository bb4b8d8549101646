"""The state of a training, between its parts and a checkpoint.

In: the parts that a step changes (`step.py`). Out: their state after an epoch, without frozen
weights; and the other way round.
"""

import hashlib
from collections.abc import Mapping, Set
from typing import Any

import torch
from numpy import ndarray
from torch.optim import Optimizer

from avsc_core.config import Config
from avsc_core.data.features import Features
from avsc_core.resolve import trial_key
from avsc_core.trainer.checkpoint import Checkpoint
from avsc_core.trainer.selection import Selection

AVERAGED = "module."  # begins the names of weights in the state of their average


def describe_owner(
    config: Config, features: Features, train: ndarray, validation: ndarray, metric: str
) -> dict[str, str]:
    """Describe what a checkpoint belongs to; with another of these it is not used.

    The rule that selects epochs is not among them: a checkpoint has what every rule needs.
    """
    rows = hashlib.sha256()
    for part in (train, validation):
        rows.update(f"{part.tolist()}\n".encode())
    return {
        "trial": trial_key(config),
        "data set": features.data.fingerprint,
        "split": rows.hexdigest(),
        "metric": metric,
    }


def take_states(
    epoch: int,
    metrics: dict[str, float],  # of the epoch
    parts: Mapping[str, Any],  # of a training, by the names that a checkpoint has for them
    frozen: Set[str],  # names of weights
    selection: Selection | None,
) -> Checkpoint:
    """Take the state of a training after an epoch; the tensors are those that training changes."""
    states = {}
    for name, part in parts.items():
        state = part.state_dict()
        if name in ("model", "ema"):
            state = {key: state[key] for key in state if key.removeprefix(AVERAGED) not in frozen}
        states[name] = state
    selected = selection.state_dict() if selection else None
    return Checkpoint(epoch, metrics, **states, selection=selected)


def restore_states(saved: Checkpoint, parts: Mapping[str, Any], frozen: Set[str]) -> None:
    """Put the state of a checkpoint into the parts of a training."""
    for name, part in parts.items():
        state = getattr(saved, name)
        if name in ("model", "ema"):
            own = part.state_dict()
            kept = {key: own[key] for key in own if key.removeprefix(AVERAGED) in frozen}
            state = {**kept, **state}
        part.load_state_dict(state)
    _arrange(parts["optimiser"])


def _arrange(optimiser: Optimizer) -> None:
    """Lay the moments of AdamW out as its parameters are, which its fused kernel relies on.

    Weights of `compute.channels_last` are laid out in another way than a file has them.
    """
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)
