"""Measures the seconds and the memory of a training step, quickly.

The model is built and trained on random numbers of the right shapes, because the cost of a step
does not depend on the content of clips. Where even two clips take over a second (the paper's model
on a CPU), the whole batch is not run but extrapolated from two clips.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from math import prod

import torch
from torch import Tensor

from avsc_core.config import Config
from avsc_core.data.batches import Batch
from avsc_core.model import build_model
from avsc_core.model.network import AudioVisualNet, find_encoding_shape
from avsc_core.processes import read_peak_memory
from avsc_core.resolve import find_given_encodings
from avsc_core.trainer.device import choose_device
from avsc_core.trainer.frozen import find_frozen_branches
from avsc_core.trainer.inference import run_model
from avsc_core.trainer.probe import Measured
from avsc_core.trainer.step import build_training, train_step
from avsc_core.weights.preparation import choose_pictures

FEW_CLIPS = 2  # are measured first
SLOW_SECONDS = 1.0  # of a step with few clips, from which the whole batch is not run
PATIENCE_SECONDS = 2.0  # for which a step, and then a prediction, is repeated
MOST_REPEATS = 10


def measure(config: Config, device_name: str, threads: int) -> Measured:
    """Measure in this process, which must be a fresh one: its peak of memory never falls again."""
    torch.set_num_threads(threads)
    device = choose_device(config)
    batch_size = config.training.batch_size
    model = build_model(config, find_frozen_branches(config)).to(device)
    parameters = sum(parameter.numel() for parameter in model.parameters())

    # few clips first, and the whole batch where these are fast
    clips = min(FEW_CLIPS, batch_size)
    step, predict = _time_work(model, config, clips, device)
    if clips < batch_size and step < SLOW_SECONDS:
        step, predict = _time_work(model, config, batch_size, device)
        clips = batch_size
    memory = _read_peak_memory(device)

    # Extrapolate from few clips: weights, gradients, AdamW's two moments and the averaged weights
    # (float32) stay as they are, the rest of the memory grows with the batch.
    if clips < batch_size:
        growth = batch_size / clips
        constant = 4 * (5 if config.training.ema else 4) * parameters
        memory = int(constant + max(memory - constant, 0) * growth)
        step *= growth
        predict *= growth

    available = _read_available_memory(device)
    values = [prod(find_encoding_shape(config, name)) for name in find_frozen_branches(config)]
    return Measured(
        device=device_name,
        step=step,
        predict=predict,
        memory=memory,
        available=available,
        parameters=parameters,
        encodings=4 * sum(values),  # float32
    )


def _time_work(
    model: AudioVisualNet, config: Config, clips: int, device: torch.device
) -> tuple[float, float]:
    """Return the seconds of the fastest training step and prediction with `clips` clips."""
    parts = build_training(config, model, steps_per_epoch=1)
    batch = make_random_batch(config, clips, device)

    model.train()
    step = _time_fastest(partial(train_step, parts, batch), device)
    predict = _time_fastest(partial(run_model, model, batch.log_mel, batch.frames, config), device)
    return step, predict


def _time_fastest(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of two to ten repeats of `work`."""
    seconds: list[float] = []
    while len(seconds) < 2 or (sum(seconds) < PATIENCE_SECONDS and len(seconds) < MOST_REPEATS):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()  # a GPU works on after the call has returned
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def make_random_batch(config: Config, clips: int, device: torch.device) -> Batch:
    """Make random log-mels and frames, or encodings where there are any, and random targets."""
    log_mel: tuple[int, ...] = (config.log_mel.frames, 128)  # (T,128)
    size = choose_pictures(config).size
    frames: tuple[int, ...] = (config.pictures.frames, 3, size, size)  # (F,3,H,W)
    without_encoder = find_frozen_branches(config) | find_given_encodings(config).keys()
    if "audio" in without_encoder:
        log_mel = find_encoding_shape(config, "audio")
    if "visual" in without_encoder:
        frames = find_encoding_shape(config, "visual")

    def random_labels(classes: int) -> Tensor:
        return torch.randint(0, 2, (clips, classes), device=device).float()

    return Batch(
        log_mel=torch.randn(clips, *log_mel, device=device),
        frames=torch.randn(clips, *frames, device=device),
        events=random_labels(config.audio.classes),  # (B,E)
        objects=random_labels(config.visual.classes),  # (B,O)
        scenes=torch.randint(0, config.scenes, (clips,), device=device),  # (B,)
    )


def _read_peak_memory(device: torch.device) -> int:
    """Return the peak of memory in bytes, of a GPU or of this process; 0 without /proc."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved())
    return read_peak_memory()


def _read_available_memory(device: torch.device) -> int:
    """Return the bytes of memory that a GPU or this machine has."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
