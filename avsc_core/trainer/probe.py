"""The seconds and the memory that a training step of a configuration takes.

They are measured in a process of their own (`measuring.py`), and kept in the cache under all they
depend on, the device included. What is kept is read without torch, which takes seconds to import:
a study that runs again starts without it.
"""

import hashlib
import json
import platform
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from avsc_core.config import Config
from avsc_core.errors import EnvironmentFault, Fault
from avsc_core.files import cache_root, write_text
from avsc_core.processes import process_pool

FORMAT = 2  # raised when what is measured changes

# What changes the cost of a step. Values of weights, rates and a spectrogram's settings do not, and
# K hardly does (CEOA compares K rows, after encoders that cost far more), so that arms that differ
# in nothing else are measured once.
COSTLY: Any = {
    "modality": True,
    "audio": True,
    "visual": True,
    "alignment": {"enabled", "mode"},
    "fusion": True,
    "compute": True,
    "scenes": True,
    "log_mel": {"frames"},
    "pictures": {"frames", "size", "preparation"},
    "losses": {"coarse"},
    "training": {"batch_size", "precision", "ema"},
}
NOT_COSTLY: Any = {"audio": {"weights"}, "visual": {"weights"}}


class Measured(NamedTuple):
    """The cost of a configuration on a device."""

    device: str
    step: float  # seconds of a training step
    predict: float  # seconds of a batch on validation
    memory: int  # bytes, the peak: of the process on a CPU, of the card on a GPU
    available: int  # bytes that the device has
    parameters: int
    encodings: int = 0  # bytes that the cache keeps of a clip for frozen encoders


# Stands for what could not be measured.
UNKNOWN = Measured("", step=0.0, predict=0.0, memory=0, available=0, parameters=0)


def describe_cost(config: Config) -> str:
    """Return, as text, what the cost of a configuration's step depends on."""
    return config.model_dump_json(include=COSTLY, exclude=NOT_COSTLY)


def probe(config: Config, threads: int) -> Measured:
    """Measure a configuration, or read what an earlier probe measured. Takes 5 to 60 s.

    Raises EnvironmentFault when a step does not fit into memory, and UserError when pieces of sound
    are too short for a backbone.
    """
    # an earlier measurement on the same machine
    device_name = _name_device(config, threads)
    dependencies = [
        FORMAT,
        device_name,
        platform.node(),
        _describe_torch(),
        describe_cost(config),
    ]
    key = hashlib.sha256(json.dumps(dependencies).encode()).hexdigest()[:16]
    path = cache_root() / "probes" / f"{key}.json"
    if path.is_file():
        return Measured(**json.loads(path.read_text()))

    # a process of its own, whose peak of memory is that of the step
    from avsc_core.model.network import check_pieces
    from avsc_core.trainer.measuring import measure

    check_pieces(config)
    try:
        with process_pool(1) as pool:
            measured: Measured = pool.submit(measure, config, device_name, threads).result()
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        clips = config.training.batch_size
        what = f"a step of {clips} clips does not fit into the memory of {device_name}"
        smaller = "a smaller training.batch_size, compute.micro_batch, compute.checkpointing"
        raise EnvironmentFault(
            Fault("memory", what, todo=f"{smaller}, or another machine")
        ) from None

    write_text(path, json.dumps(measured._asdict()))
    return measured


def _name_device(config: Config, threads: int) -> str:
    """Name the GPU, or the CPU with its number of threads."""
    if config.device != "cpu":
        import torch

        from avsc_core.trainer.device import choose_device

        if choose_device(config).type == "cuda":
            return torch.cuda.get_device_name()
    plural = "s" if threads > 1 else ""
    return f"{platform.machine()} CPU, {threads} thread{plural}"


def _describe_torch() -> str:
    """Return the version of torch and what it is built for, without importing it."""
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether a step ended because it needs too much memory.

    torch raises one of two errors, or the system kills the process, which breaks the pool.
    """
    import torch

    kinds = (MemoryError, torch.OutOfMemoryError, BrokenProcessPool)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
