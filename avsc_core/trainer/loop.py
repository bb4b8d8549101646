"""The training loop: configuration and features -> one `Epoch` after another.

`avsc-core train` and every trial of a study run this same function. It seeds everything from (seed, epoch), so that a
trial that was interrupted continues to the numbers it would have had, and a worker process that served another trial
before starts clean.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from avsc_core.config import Config
from avsc_core.data.batches import Batch, Inputs, iterate_batches, shuffle_rows
from avsc_core.data.features import Features
from avsc_core.errors import Diverged
from avsc_core.metrics import compute_scores, is_better
from avsc_core.model import build_model
from avsc_core.model.losses import build_losses
from avsc_core.model.network import AudioVisualNet
from avsc_core.processes import Progress, no_progress
from avsc_core.resolve import trial_key
from avsc_core.trainer.checkpoint import Best, Checkpoint, load_checkpoint, save_checkpoint
from avsc_core.trainer.device import autocast, build_scaler, choose_device, seed_all
from avsc_core.trainer.frozen import find_frozen_branches, prepare_inputs
from avsc_core.trainer.optim import build_optimiser, build_schedule
from avsc_core.weights.pretrained import load_pretrained


class Epoch(NamedTuple):
    """What an epoch ended with."""

    number: int  # from 1
    metrics: dict[
        str, float
    ]  # train_* loss terms; val_acc, val_logloss and the loss terms on validation
    best: Best | None  # by the metric asked for; None without validation clips
    model: AudioVisualNet  # without the encoders that are frozen as a whole
    inputs: Inputs  # what it was fed


def fit(
    config: Config,
    features: Features,
    train: np.ndarray,  # rows
    validation: np.ndarray,  # rows, may be empty
    *,
    metric: str = "val_acc",
    epochs: int | None = None,  # fewer than the schedule's own, for retraining
    checkpoint: Path | None = None,
    progress: Progress = no_progress,  # of frozen encoders, when they have not been run yet
) -> Iterator[Epoch]:
    """Train for `epochs` epochs and yield after each; continue from `checkpoint` when it is this trial's.

    Continuing yields the checkpoint's own epoch once more: whoever was told of it may not have lived to write it down.
    Raises Diverged when a loss is no longer finite.
    """
    device = choose_device(config)
    inputs = prepare_inputs(config, features, train, progress)
    seed_all(config.seed, 0)
    model = build_model(config, find_frozen_branches(config))
    load_pretrained(model, config)
    model.to(device)
    optimiser = build_optimiser(model, config.training)
    schedule = build_schedule(
        optimiser, config.training, math.ceil(len(train) / config.training.batch_size)
    )
    scaler = build_scaler(config, device)
    losses = build_losses(config)
    key, done, best = trial_key(config), 0, None
    saved = load_checkpoint(checkpoint, key) if checkpoint else None
    if saved:
        model.load_state_dict(saved.model)
        optimiser.load_state_dict(saved.optimiser)
        schedule.load_state_dict(saved.schedule)
        scaler.load_state_dict(saved.scaler)
        done, best = saved.epoch, saved.best
        yield Epoch(done, saved.metrics, best, model, inputs)
    for number in range(done + 1, (epochs or config.training.epochs) + 1):
        generator = seed_all(config.seed, number)
        sums: dict[str, Tensor] = {}
        model.train()
        order = shuffle_rows(train, config.seed, number)
        for batch in iterate_batches(
            inputs, order, config.training.batch_size, device, config.augmentation
        ):
            with autocast(config, device):
                outputs = model(batch.log_mel, batch.frames)
            terms = losses(model, outputs, *targets(batch), generator)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(terms["total"]).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimiser)
            scaler.update()
            schedule.step()
            _add(sums, terms, len(batch.scenes))
        metrics = {f"train_{name}": float(value) / len(train) for name, value in sums.items()}
        if len(validation):
            probability, values = predict_rows(model, inputs, validation, config, losses=True)
            values |= compute_scores(probability, features.data.scenes[validation])
            metrics |= {f"val_{name}": value for name, value in values.items()}
        if not all(map(math.isfinite, metrics.values())):
            raise Diverged(
                f"epoch {number}: {next(n for n, v in metrics.items() if not math.isfinite(v))} is not finite"
            )
        if len(validation) and (
            best is None or is_better(metric, metrics[metric], best.metrics[metric])
        ):
            best = Best(number, metrics, torch.from_numpy(probability))
        if checkpoint:
            states = (
                model.state_dict(),
                optimiser.state_dict(),
                schedule.state_dict(),
                scaler.state_dict(),
            )
            save_checkpoint(checkpoint, Checkpoint(key, number, metrics, *states, best))
        yield Epoch(number, metrics, best, model, inputs)


@torch.inference_mode()
def predict_rows(
    model: AudioVisualNet, inputs: Inputs, rows: np.ndarray, config: Config, *, losses: bool = False
) -> tuple[np.ndarray, dict[str, float]]:
    """(N,S) float64 scene probabilities of `rows`, and the mean of every loss term when `losses` is set."""
    model.eval()
    device = next(model.parameters()).device
    compute = build_losses(config)
    generator = seed_all(config.seed, 0)  # RKM's draws on validation are the same after every epoch
    parts, sums = [], dict[str, Tensor]()
    for batch in iterate_batches(inputs, rows, config.training.batch_size, device):
        with autocast(config, device):
            outputs = model(batch.log_mel, batch.frames)
        parts.append(outputs.scene_logits.double().softmax(1).cpu().numpy())
        if losses:
            _add(sums, compute(model, outputs, *targets(batch), generator), len(batch.scenes))
    return np.concatenate(parts), {name: float(value) / len(rows) for name, value in sums.items()}


def targets(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """events (B,E), objects (B,O), scenes (B,)."""
    return batch.events, batch.objects, batch.scenes


def _add(sums: dict[str, Tensor], terms: dict[str, Tensor], count: int) -> None:
    """Add clip-weighted terms, so that a smaller last batch counts for what it holds.

    They stay on the device: reading a number there would stop the queue of work at every step.
    """
    for name, term in terms.items():
        sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach() * count
