"""Where a training computes, in which precision, and from which random numbers."""

import numpy as np
import torch

from avsc_core.config import Config
from avsc_core.errors import make_error

PRECISIONS = {
    "float32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def choose_device(config: Config) -> torch.device:
    """Return the device of setting `device`; `auto` is a GPU where there is one, else the CPU.

    Raises UserError when `cuda` is asked for on a machine without a CUDA device.
    """
    name = config.device
    if name == "cuda" and not torch.cuda.is_available():
        raise make_error("device", "no CUDA device here", "auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """Return the context of a model's precision; losses are computed outside of it."""
    precision = PRECISIONS[config.training.precision]
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def seed_all(seed: int, epoch: int) -> torch.Generator:
    """Seed dropout and initial weights from (seed, epoch); return the generator of RKM's draws."""
    number = int(np.random.default_rng((seed, epoch)).integers(2**62))
    torch.manual_seed(number)
    return torch.Generator().manual_seed(number)
