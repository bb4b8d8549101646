"""Where a training computes, in which precision, and from which random numbers."""

import os
from dataclasses import replace

import numpy as np
import torch

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError

PRECISIONS = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
RKM_STREAM = 1  # numpy's hash takes (seed, epoch) for (seed, epoch, 0)


def choose_device(config: Config) -> torch.device:
    """Return the device of setting `device`; `auto` is a GPU where there is one, else the CPU.

    Raises UserError when `cuda` is asked for on a machine without a CUDA device.
    """
    name = config.device
    if name == "cuda" and (fault := find_gpu_fault("device")):
        raise UserError(replace(fault, todo="use device=auto or device=cpu"))
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def find_gpu_fault(where: str) -> Fault | None:
    """Return why torch finds no GPU here; None where it finds one."""
    if torch.cuda.is_available():
        return None
    what = f"torch {torch.__version__} finds no GPU"
    if torch.version.cuda is None and torch.version.hip is None:
        return Fault(where, f"{what}, because it is built for CPUs", todo="install a CUDA build")

    # What torch says itself, up to the links that follow.
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        reason = "none is visible"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split(". ")[0].strip().rstrip(".")
    reason = reason[:1].lower() + reason[1:]
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        reason += f"; CUDA_VISIBLE_DEVICES is '{visible}'"
    if torch.version.cuda is None:
        built = f"it is built for ROCm {torch.version.hip}"
        return Fault(where, f"{what}: {reason}", built, "see what `rocm-smi` shows")
    built = f"it is built for CUDA {torch.version.cuda}"
    todo = "see what `nvidia-smi` shows; the driver must be as new as the CUDA of torch"
    return Fault(where, f"{what}: {reason}", built, todo)


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """Return the context of a model's precision; losses are computed outside of it."""
    name = config.training.precision
    # TF32 is a switch of the process, because the backward pass needs it too. torch leaves it on
    # for convolutions, which would not be float32.
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    precision = PRECISIONS[name]
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def seed_all(seed: int, epoch: int) -> torch.Generator:
    """Seed torch (initial weights, dropout, augmentation); return the generator of RKM's draws.

    Both follow from (seed, epoch). They are two streams: with one seed RKM would draw the numbers
    that dropout draws.
    """
    torch.manual_seed(_draw_seed(seed, epoch))
    return torch.Generator().manual_seed(_draw_seed(seed, epoch, RKM_STREAM))


def _draw_seed(*numbers: int) -> int:
    """Hash `numbers` to one seed."""
    return int(np.random.default_rng(numbers).integers(2**62))
