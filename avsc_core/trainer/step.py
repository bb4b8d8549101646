"""One training step, and the parts of a training that a step changes.

Forward pass in the configured precision, losses (Eq. 1 to 4 and Eq. 7), backward pass, AdamW,
learning rate. The training loop, the probe that measures costs, and the benchmarks take this same
step.
"""

from typing import NamedTuple

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from avsc_core.config import Config
from avsc_core.data.batches import Batch
from avsc_core.model.losses import Losses, build_losses
from avsc_core.model.network import AudioVisualNet
from avsc_core.trainer.device import autocast
from avsc_core.trainer.optim import build_optimiser, build_schedule, find_backbones


class TrainingParts(NamedTuple):
    """A model on its device with all that trains it."""

    config: Config
    model: AudioVisualNet
    losses: Losses
    optimiser: AdamW
    schedule: LambdaLR
    scaler: GradScaler
    ema: ModelEmaV3 | None  # the average of the weights, with `training.ema`
    backbone_parameters: list[nn.Parameter]  # those that are not frozen

    @property
    def result(self) -> AudioVisualNet:
        """The model that is validated, predicts and is saved."""
        averaged: AudioVisualNet = self.ema.module if self.ema else self.model
        return averaged


def build_training(
    config: Config,
    model: AudioVisualNet,
    steps_per_epoch: int,
    class_weights: Tensor | None = None,  # (S,), of the scene loss
) -> TrainingParts:
    """Build losses, optimiser, schedule and scaler for a model that is on its device."""
    settings = config.training
    optimiser = build_optimiser(model, settings)
    backbone_parameters = []
    for backbone in find_backbones(model):
        backbone_parameters += [p for p in backbone.parameters() if p.requires_grad]
    return TrainingParts(
        config,
        model,
        build_losses(config, class_weights),
        optimiser,
        schedule=build_schedule(optimiser, settings, steps_per_epoch),
        # Without a scaler small gradients would vanish in fp16; elsewhere it does nothing.
        scaler=GradScaler(
            next(model.parameters()).device.type, enabled=settings.precision == "fp16"
        ),
        ema=ModelEmaV3(model, decay=settings.ema) if settings.ema else None,
        backbone_parameters=backbone_parameters,
    )


def start_epoch(parts: TrainingParts, number: int) -> None:
    """Put the model into training mode for epoch `number`, counted from 1.

    In the first `training.heads_first` epochs the backbones are as if they were frozen: without
    gradients, dropout and new batch statistics.
    """
    learns = number > parts.config.training.heads_first
    for parameter in parts.backbone_parameters:
        parameter.requires_grad_(learns)
    parts.model.train()  # after the line above, because frozen modules stay in evaluation mode


def train_step(
    parts: TrainingParts,
    batch: Batch,
    generator: torch.Generator | None = None,  # of RKM's draws; None: torch's own
) -> dict[str, Tensor]:
    """Train on one batch and return its loss terms, scalars by name, still on the device."""
    # forward pass in the configured precision, losses in float32
    with autocast(parts.config, batch.scenes.device):
        outputs = parts.model(batch.log_mel, batch.frames)
    targets = (batch.events, batch.objects, batch.scenes)
    terms = parts.losses(parts.model, outputs, *targets, generator)

    # backward pass; the scaler multiplies fp16's loss and does nothing in other precisions
    parts.optimiser.zero_grad(set_to_none=True)
    parts.scaler.scale(terms["total"]).backward()  # type: ignore[no-untyped-call]
    if parts.config.training.clip_norm:
        parts.scaler.unscale_(parts.optimiser)  # the norm is that of the true gradients
        clip_grad_norm_(parts.model.parameters(), parts.config.training.clip_norm)

    # update; the scaler skips a step whose fp16 gradients are not finite
    parts.scaler.step(parts.optimiser)
    parts.scaler.update()
    parts.schedule.step()
    if parts.ema:
        parts.ema.update(parts.model)
    return terms
