"""One branch of the model: an encoder (audio.py, visual.py), an embedding layer, and a classifier.

clips -> features (B,width) -> Linear + ReLU (B,D) -> Linear (B,C). The rows of that last matrix (C,D) are what CEOA
aligns. A branch without an encoder is given features instead of clips: those of a frozen encoder, computed once.
"""

from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avsc_core.errors import Fault, UserError


class Branch(nn.Module):
    """clips, or their features (B,width) when there is no encoder -> embedding (B,D), logits (B,C)."""

    def __init__(
        self, width: int, embedding: int, classes: int, micro_batch: int | None = None
    ) -> None:
        super().__init__()
        self.encoder: nn.Module | None = None
        self.embed = nn.Sequential(nn.Linear(width, embedding), nn.ReLU())
        self.classifier = nn.Linear(embedding, classes)
        self.micro_batch = micro_batch

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.embed(self.encode(inputs))  # (B,D)
        return embedding, to_float32(self.classifier(embedding))  # (B,D), (B,C)

    def encode(self, inputs: Tensor) -> Tensor:
        """(B,width). In micro-batches, each is computed again in the backward pass, so that the activations of only one
        are ever held, and everything after the encoder still sees the whole batch: its size changes no result."""
        encoder, size = self.encoder, self.micro_batch
        if encoder is None:
            return inputs
        if size is None or size >= len(inputs) or not torch.is_grad_enabled():
            return encoder(inputs)  # type: ignore[no-any-return]
        return torch.cat(
            [checkpoint(encoder, part, use_reentrant=False) for part in torch.split(inputs, size)]
        )

    def train(self, mode: bool = True) -> "Branch":
        """As any module, but what is frozen stays as it is in evaluation: no dropout, no moving batch statistics."""
        super().train(mode)
        for module in self.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self


def freeze(backbone: nn.Module, policy: str | int, where: str) -> None:
    """Let no gradient reach the backbone (`all`) or its first `policy` stages with all that comes before them.

    What a stage is, timm's own grouping says: a block of a transformer, a resolution of a convolutional network. Raises
    UserError when there are fewer; `where` is the setting that asks.
    """
    if policy == "none":
        return
    # 0 is the stem, then the stages; what follows the last stage (a final norm) forms a group of its own or joins it.
    groups: dict[int, list[str]] = group_parameters(backbone, backbone.group_matcher(coarse=True))  # type: ignore[operator]
    if policy != "all" and int(policy) >= len(groups):
        raise UserError(
            Fault(
                where,
                f"{policy} stages",
                f"the backbone has {len(groups) - 1}",
                "`all` freezes it all",
            )
        )
    frozen = {
        name
        for group, names in groups.items()
        if policy == "all" or group <= int(policy)
        for name in names
    }
    for name, parameter in backbone.named_parameters():
        if policy == "all" or name in frozen:
            parameter.requires_grad_(False)


def to_float32(tensor: Tensor) -> Tensor:
    """What autocast made of 16 bits in float32, where losses and probabilities are computed."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def build_timm_backbone(name: str, where: str, **arguments: Any) -> nn.Module:
    """Any image model of timm without its classifier and with random weights. Raises UserError when there is none."""
    import timm

    if not timm.is_model(name):
        close = timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:5]
        raise UserError(
            Fault(where, f"timm has no model '{name}'", ", ".join(close), "see timm.list_models()")
        )
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UserError(
            Fault(where, f"{name} cannot take {arguments} ({error})", todo="another backbone")
        ) from None
    return backbone


def choose_input_size(name: str, height: int, width: int) -> dict[str, Any]:
    """What a timm model must be told of its input's size: nothing, unless it was made for one size."""
    import timm

    settings = timm.get_pretrained_cfg(name)
    return (
        {"img_size": (height, width)} if settings is not None and settings.fixed_input_size else {}
    )


def read_feature_width(backbone: nn.Module) -> int:
    """Width of what a timm backbone without classifier returns."""
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]
