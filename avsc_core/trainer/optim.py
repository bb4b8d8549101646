"""AdamW at one learning rate (Section IV), with a multiplier for new layers and a warm-up, both off there."""

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from avsc_core.config import Training


def build_optimiser(model: nn.Module, settings: Training) -> AdamW:
    """AdamW over two groups: pretrained backbones at the learning rate, everything else at a multiple of it.

    Weight decay spares biases, norms and position tokens (vectors), as AST's and ConvNeXt's own recipes do. What is
    frozen is in neither group.
    """
    groups = []
    for backbone in (True, False):
        rate = settings.learning_rate * (1 if backbone else settings.head_multiplier)
        for decays in (True, False):
            parameters = [
                parameter
                for name, parameter in model.named_parameters()
                if (".encoder." in name) == backbone
                and (parameter.squeeze().ndim > 1) == decays
                and parameter.requires_grad
            ]
            groups.append(
                {
                    "params": parameters,
                    "lr": rate,
                    "weight_decay": settings.weight_decay if decays else 0.0,
                }
            )
    return AdamW([group for group in groups if group["params"]], fused=True)


def build_schedule(optimiser: AdamW, settings: Training, steps_per_epoch: int) -> LambdaLR:
    """A linear rise over `training.warmup` of all steps, then a constant learning rate."""
    warm = round(settings.warmup * settings.epochs * steps_per_epoch)
    return LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / (warm + 1)))
