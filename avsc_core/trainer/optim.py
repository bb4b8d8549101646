"""The optimiser and its learning rate: AdamW (Section IV), and what the paper does not have.

Not in the paper, and without effect at its settings: a higher rate for the layers that start from
random weights (`training.head_multiplier`, `fusion_multiplier`), because the backbones start from
published ones; lower rates for a backbone's early layers (`layer_decay`), which are the most
general; a warm-up, because a transformer from random weights needs it; a rate that falls after it
(`schedule`); and a second stage at other rates, after epochs in which only the new layers learned
(`heads_first`, `second_stage`).

The rate of a parameter at a step is the product of

    learning_rate                     of all parameters
    x multiplier of the parameter     compute_multipliers, the groups of the optimiser
    x factor of the step              compute_factor, the schedule
"""

import math
from functools import partial

from timm.models import group_parameters
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from avsc_core.config import Training


def build_optimiser(model: nn.Module, settings: Training) -> AdamW:
    """Build AdamW over every trainable parameter of `model`, each in exactly one group.

    A parameter learns at `settings.learning_rate` times its multiplier (`compute_multipliers`).
    Weight decay reaches parameters of two or more dimensions, except biases (those of SF have three
    dimensions) and what a backbone itself spares. Frozen parameters are in no group.
    """
    multipliers = compute_multipliers(model, settings)
    by_decay = param_groups_weight_decay(
        model,
        weight_decay=settings.weight_decay,
        no_weight_decay_list=list_undecayed(model),
    )

    # timm's groups are decided by weight decay alone; each of them is cut by part and multiplier.
    groups = []
    for label in sorted(set(multipliers.values())):
        _, multiplier = label
        for group in reversed(by_decay):
            parameters = [p for p in group["params"] if multipliers[p] == label]
            if parameters:
                rate = multiplier * settings.learning_rate
                groups.append({**group, "params": parameters, "lr": rate})
    return AdamW(groups, fused=True)


def compute_multipliers(
    model: nn.Module, settings: Training
) -> dict[nn.Parameter, tuple[int, float]]:
    """Return the part of each parameter (0 backbones, 1 heads, 2 fusion) and its multiplier.

    With `layer_decay` d, the layers of a backbone, as timm groups them, have the multipliers ...,
    d^2, d, 1 from the input on. Heads have `head_multiplier`; so has the fusion unless
    `fusion_multiplier` is set.
    """
    labels = {}
    for name, parameter in model.named_parameters():
        labels[parameter] = (1, settings.head_multiplier)
        if settings.fusion_multiplier is not None and name.startswith(("fusion.", "coarse.")):
            labels[parameter] = (2, settings.fusion_multiplier)

    for backbone in find_backbones(model):
        matcher = backbone.group_matcher(coarse=False)  # type: ignore[operator]
        layers: dict[str, int] = group_parameters(backbone, matcher, reverse=True)
        last = max(layers.values())
        for name, parameter in backbone.named_parameters():
            labels[parameter] = (0, settings.layer_decay ** (last - layers[name]))
    return labels


def find_backbones(model: nn.Module) -> list[nn.Module]:
    """Return the backbones in `model`, which are models of timm and know their own layers.

    Some models of timm hold a smaller one; the larger one comes after it, so that whoever goes
    through the list ends with what the larger one says.
    """
    modules = list(model.modules())
    return [module for module in reversed(modules) if hasattr(module, "group_matcher")]


def list_undecayed(model: nn.Module) -> set[str]:
    """List what backbones of timm spare from weight decay, by the names that `model` gives it.

    For AST these are `pos_embed`, `cls_token` and `dist_token`. A module names them relative to
    itself, and `param_groups_weight_decay` wants them as `model.named_parameters()` has them.
    """
    names = set()
    for prefix, module in model.named_modules():
        if hasattr(module, "no_weight_decay"):
            for name in module.no_weight_decay():
                names.add(f"{prefix}.{name}" if prefix else name)
    return names


def build_schedule(optimiser: AdamW, settings: Training, steps_per_epoch: int) -> LambdaLR:
    """Build the schedule that multiplies every group's rate by `compute_factor` of the step."""
    return LambdaLR(optimiser, partial(compute_factor, settings, steps_per_epoch))


def compute_factor(settings: Training, steps_per_epoch: int, step: int) -> float:
    """Return by how much the learning rates are multiplied at `step`, counted from 0.

    The warm-up has W = round(warmup x N) of N = epochs x steps_per_epoch steps, and the factor
    (s + 1) / (W + 1) at step s. From step W on it is 1 (constant), falls along half a cosine that
    reaches 0 at step N (cosine), or is multiplied by `step_factor` whenever `step_epochs` epochs
    are over, counted from the end of the warm-up (step). In the second stage, which begins after
    `heads_first` epochs, there is `second_stage` besides.
    """
    stage = 1.0
    if 0 < settings.heads_first * steps_per_epoch <= step:
        stage = settings.second_stage

    steps = settings.epochs * steps_per_epoch
    warm_steps = round(settings.warmup * steps)
    if step < warm_steps:
        return stage * (step + 1) / (warm_steps + 1)

    step -= warm_steps
    if settings.schedule == "cosine":
        # torch asks for the factor after the last step too; without any step nothing falls
        share = min(1.0, step / max(1, steps - warm_steps))
        return stage * (1 + math.cos(math.pi * share)) / 2
    if settings.schedule == "step":
        falls = step // (settings.step_epochs * steps_per_epoch)
        return float(stage * settings.step_factor**falls)
    return stage
