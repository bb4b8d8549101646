"""AdamW at one learning rate (Section IV), with a multiplier for new layers and schedules, off there."""

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from avsc_core.config import Training


def build_optimiser(model: nn.Module, settings: Training) -> AdamW:
    """AdamW over two groups: pretrained backbones at the learning rate, everything else at a multiple of it.

    Weight decay spares biases, norms and position tokens (vectors), as AST's and ConvNeXt's own recipes do.
    """
    groups = []
    for backbone in (True, False):
        rate = settings.learning_rate * (1 if backbone else settings.head_multiplier)
        for decays in (True, False):
            parameters = [
                parameter
                for name, parameter in model.named_parameters()
                if (".backbone." in name) == backbone and (parameter.squeeze().ndim > 1) == decays
            ]
            groups.append({"params": parameters, "lr": rate, "weight_decay": settings.weight_decay if decays else 0.0})
    return AdamW([group for group in groups if group["params"]])


def build_schedule(optimiser: AdamW, settings: Training, steps_per_epoch: int) -> LambdaLR:
    """The learning rate over all steps: a linear rise during `training.warmup`, then constant or a half cosine to 0."""
    steps = settings.epochs * steps_per_epoch
    warm = round(settings.warmup * steps)

    def share(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        if settings.schedule == "constant":
            return 1.0
        return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2

    return LambdaLR(optimiser, share)
