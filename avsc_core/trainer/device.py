"""Where a training computes, in which precision, and from which random numbers."""

import numpy as np
import torch
from torch.amp.grad_scaler import GradScaler

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(config: Config) -> torch.device:
    """The device of `device`; `auto` takes a GPU when there is one. Raises UserError when there is none to take."""
    name = config.device
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(Fault("device", "no CUDA device here", "auto or cpu"))
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """Products of the model in the configured precision; losses are computed outside of it."""
    wanted = PRECISIONS[config.training.precision]
    return torch.autocast(device.type, wanted, enabled=wanted != torch.float32)


def build_scaler(config: Config, device: torch.device) -> GradScaler:
    """Scales the loss for fp16, whose small gradients would vanish otherwise; does nothing for the others."""
    return GradScaler(device.type, enabled=config.training.precision == "fp16")


def seed_all(seed: int, epoch: int) -> torch.Generator:
    """Seed dropout and initial weights, and return the generator of RKM's draws, from (seed, epoch)."""
    number = int(np.random.default_rng((seed, epoch)).integers(2**62))
    torch.manual_seed(number)
    return torch.Generator().manual_seed(number)
