"""How long a training step of a configuration takes and how much memory it needs, measured in a few seconds.

A process of its own builds the model and trains it on random numbers of the right shapes: what a step costs does not
depend on what is in the clips. Where even two clips take over a second (the paper's model on a CPU), the batch is not
run whole but reckoned from two clips. Results are kept in the cache under all they depend on, the device included.
"""

import hashlib
import json
import os
import platform
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from avsc_core.config import Config
from avsc_core.errors import EnvironmentFault, Fault
from avsc_core.files import cache_root, write_text
from avsc_core.model import build_model
from avsc_core.model.losses import build_losses
from avsc_core.model.network import AudioVisualNet
from avsc_core.processes import process_pool
from avsc_core.trainer.device import autocast, build_scaler, choose_device
from avsc_core.trainer.frozen import find_frozen_branches
from avsc_core.trainer.optim import build_optimiser

FORMAT = 1  # raised when what is measured changes
# What changes the cost of a step. Values of weights, rates and a spectrogram's settings do not: arms that differ in
# nothing else are measured once.
COSTLY: Any = {
    **dict.fromkeys(
        ("modality", "audio", "visual", "alignment", "fusion", "compute", "scenes"), True
    ),
    "log_mel": {"frames"},
    "pictures": {"frames", "size"},
    "training": {"batch_size", "precision"},
}
NOT_COSTLY: Any = {"audio": {"weights"}, "visual": {"weights"}}
FEW, SLOW, PATIENCE = (
    2,
    1.0,
    4.0,
)  # clips to start with; seconds from which they must do; seconds of steps at most


class Measured(NamedTuple):
    """What a configuration costs on a device."""

    device: str
    step: float  # seconds of a training step
    predict: float  # seconds of a batch on validation
    memory: int  # bytes, the peak: of the process on a CPU, of the card on a GPU
    available: int  # bytes that the device has
    parameters: int


def describe_cost(config: Config) -> str:
    """What the cost of a configuration's step depends on, as text."""
    return config.model_dump_json(include=COSTLY, exclude=NOT_COSTLY)


def probe(config: Config, threads: int) -> Measured:
    """Measure a configuration, or read what an earlier probe measured. Takes 5 to 60 s.

    Raises EnvironmentFault when a step does not fit into memory.
    """
    device = choose_device(config)
    cores = f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"
    name = torch.cuda.get_device_name() if device.type == "cuda" else cores
    about = [FORMAT, name, platform.node(), torch.__version__, describe_cost(config)]
    path = (
        cache_root()
        / "probes"
        / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.json"
    )
    if path.is_file():
        return Measured(**json.loads(path.read_text()))
    try:
        with process_pool(1) as pool:
            measured = pool.submit(_measure, config, name, threads).result()
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        what = (
            f"a step of {config.training.batch_size} clips does not fit into the memory of {name}"
        )
        todo = "a smaller training.batch_size, compute.micro_batch, compute.checkpointing, or another machine"
        raise EnvironmentFault(Fault("memory", what, todo=todo)) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(measured._asdict()))
    return measured


def _out_of_memory(error: Exception) -> bool:
    """Whether this is how a step that needs too much ends; the system kills the process, or torch says it."""
    ways = (MemoryError, torch.OutOfMemoryError, BrokenProcessPool)
    return isinstance(error, ways) or "can't allocate memory" in str(error)


def _measure(config: Config, name: str, threads: int) -> Measured:
    torch.set_num_threads(threads)
    device, size = choose_device(config), config.training.batch_size
    model = build_model(config, find_frozen_branches(config)).to(device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    count = min(FEW, size)
    step, predict = _seconds(model, config, count, device)
    if count < size and step < SLOW:
        step, predict = _seconds(model, config, size, device)
        count = size
    memory = _peak(device)
    if (
        count < size
    ):  # weights, gradients and AdamW's two moments stay as they are; the rest grows with the batch
        standing = 4 * 4 * parameters
        memory = int(standing + max(memory - standing, 0) * size / count)
        step, predict = step * size / count, predict * size / count
    return Measured(name, step, predict, memory, _available(device), parameters)


def _seconds(
    model: AudioVisualNet, config: Config, count: int, device: torch.device
) -> tuple[float, float]:
    """The fastest training step and prediction with `count` clips, within a few seconds."""
    optimiser, losses = build_optimiser(model, config.training), build_losses(config)
    scaler = build_scaler(config, device)
    heard, seen, events, objects, scenes = _batch(model, config, count, device)

    def train() -> None:
        with autocast(config, device):
            outputs = model(heard, seen)
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(losses(model, outputs, events, objects, scenes, None)["total"]).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimiser)
        scaler.update()

    def predict() -> None:
        with torch.inference_mode(), autocast(config, device):
            model(heard, seen)

    fastest = []
    for work, mode in ((train, True), (predict, False)):
        model.train(mode)
        seconds: list[float] = []
        while len(seconds) < 2 or (sum(seconds) < PATIENCE / 2 and len(seconds) < 10):
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        fastest.append(min(seconds))
    return fastest[0], fastest[1]


def _batch(model: AudioVisualNet, config: Config, count: int, device: torch.device) -> list[Tensor]:
    """Random log-mels and frames, or features where the encoder is frozen, and random targets."""
    frozen, look = find_frozen_branches(config), config.pictures
    heard: tuple[int, ...] = (config.log_mel.frames, 128)
    seen: tuple[int, ...] = (look.frames, 3, look.size, look.size)
    widths: dict[str, Any] = {
        name: branch.embed[0].in_features for name, branch in model.branches.items()
    }
    shapes = [
        (widths[name],) if name in frozen else shape
        for name, shape in (("audio", heard), ("visual", seen))
    ]
    inputs = [torch.randn(count, *shape, device=device) for shape in shapes]
    labels = [
        torch.randint(0, 2, (count, n), device=device).float()
        for n in (config.audio.classes, config.visual.classes)
    ]
    return [*inputs, *labels, torch.randint(0, config.scenes, (count,), device=device)]


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved())
    status = Path(
        "/proc/self/status"
    )  # ru_maxrss would count the parent's pages, from before the process was its own
    if not status.is_file():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
