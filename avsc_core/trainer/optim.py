"""The optimiser and its learning rate: AdamW (Section IV), and what the paper does not have.

Not in the paper, and without effect at its settings: a higher rate for the layers that start from
random weights (`training.head_multiplier`), because the encoders start from published ones; and a
warm-up (`training.warmup`), because a transformer from random weights needs it.
"""

from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LinearLR

from avsc_core.config import Training


def build_optimiser(model: nn.Module, settings: Training) -> AdamW:
    """Build AdamW over every trainable parameter of `model`, each in exactly one group.

    Encoders learn at `settings.learning_rate`, everything else at `head_multiplier` times that.
    Weight decay reaches parameters of two or more dimensions, except biases (those of SF have three
    dimensions) and what a backbone itself spares. Frozen parameters are in no group.
    """
    encoders = {parameter for name, parameter in model.named_parameters() if ".encoder." in name}
    by_decay = param_groups_weight_decay(
        model,
        weight_decay=settings.weight_decay,
        no_weight_decay_list=list_undecayed(model),
    )

    # timm's groups are decided by weight decay alone; each of them is cut in two by learning rate.
    groups = []
    for is_encoder in (True, False):
        multiplier = 1.0 if is_encoder else settings.head_multiplier
        for group in reversed(by_decay):
            parameters = [p for p in group["params"] if (p in encoders) == is_encoder]
            if parameters:
                rate = multiplier * settings.learning_rate
                groups.append({**group, "params": parameters, "lr": rate})
    return AdamW(groups, fused=True)


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


def build_schedule(optimiser: AdamW, settings: Training, steps_per_epoch: int) -> LinearLR:
    """Build a linear rise of the rate over `training.warmup` of all steps; then it is constant.

    The rise has W = round(warmup x epochs x steps_per_epoch) steps. Step s (from 0) runs at
    (s + 1) / (W + 1) of the learning rate while s < W, and at all of it from then on.
    """
    warm_steps = round(settings.warmup * settings.epochs * steps_per_epoch)
    return LinearLR(optimiser, start_factor=1 / (warm_steps + 1), total_iters=warm_steps)
