"""One training step, and the parts of a training that a step changes.

Forward pass in the configured precision, losses (Eq. 1 to 4 and Eq. 7), backward pass, AdamW,
learning rate. The training loop, the probe that measures costs, and the benchmarks take this same
step.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW
from torch.optim.lr_scheduler import LinearLR

from avsc_core.config import Config
from avsc_core.data.batches import Batch
from avsc_core.model.losses import Losses, build_losses
from avsc_core.model.network import AudioVisualNet
from avsc_core.trainer.device import autocast
from avsc_core.trainer.optim import build_optimiser, build_schedule


class TrainingParts(NamedTuple):
    """A model on its device with all that trains it."""

    config: Config
    model: AudioVisualNet
    losses: Losses
    optimiser: AdamW
    schedule: LinearLR
    scaler: GradScaler


def build_training(config: Config, model: AudioVisualNet, steps_per_epoch: int) -> TrainingParts:
    """Build losses, optimiser, schedule and scaler for a model that is on its device."""
    optimiser = build_optimiser(model, config.training)
    return TrainingParts(
        config,
        model,
        build_losses(config),
        optimiser,
        schedule=build_schedule(optimiser, config.training, steps_per_epoch),
        # Without a scaler small gradients would vanish in fp16; elsewhere it does nothing.
        scaler=GradScaler(
            next(model.parameters()).device.type, enabled=config.training.precision == "fp16"
        ),
    )


def train_step(
    parts: TrainingParts,
    batch: Batch,
    generator: torch.Generator | None = None,  # of RKM's draws; None: torch's own
) -> dict[str, Tensor]:
    """Train on one batch and return its loss terms, scalars by name, still on the device."""
    # forward pass in the configured precision, losses in float32
    with autocast(parts.config, batch.log_mel.device):
        outputs = parts.model(batch.log_mel, batch.frames)
    targets = (batch.events, batch.objects, batch.scenes)
    terms = parts.losses(parts.model, outputs, *targets, generator)

    # backward pass; the scaler multiplies fp16's loss and does nothing in other precisions
    parts.optimiser.zero_grad(set_to_none=True)
    parts.scaler.scale(terms["total"]).backward()  # type: ignore[no-untyped-call]

    # update; the scaler skips a step whose fp16 gradients are not finite
    parts.scaler.step(parts.optimiser)
    parts.scaler.update()
    parts.schedule.step()
    return terms
