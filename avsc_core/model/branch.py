"""One branch of the model: an encoder, an embedding layer, and a classifier.

    clips -> encoder (B,width) -> Linear + ReLU (B,D) -> Linear (B,C)

With a learned pooling (pooling.py) the encoder makes a sequence (B,F,width), which is pooled before
the embedding layer. The encoders are in audio.py and visual.py. The rows of the classifier's matrix
(C,D) are what CEOA aligns. A branch without an encoder takes encodings instead of clips: an encoder
that is frozen as a whole is run once, before training. This module also holds what both encoders
share: several of them side by side, freezing, and image models of timm that stand in for the
paper's encoders.
"""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avsc_core.errors import make_error


class Branch(nn.Module):
    """clips, or encodings without an encoder -> embedding (B,D), logits (B,C).

    Encodings are (B,width), or (B,F,pool_width) for `pool`, which makes (B,width) of them.
    """

    def __init__(
        self,
        width: int,
        embedding: int,
        classes: int,
        micro_batch: int | None = None,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder: nn.Module | None = None
        self.pool = pool or nn.Identity()
        self.embed = nn.Sequential(nn.Linear(width, embedding), nn.ReLU())
        self.classifier = nn.Linear(embedding, classes)
        self.micro_batch = micro_batch

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.embed(self.pool(self.encode(inputs)))  # (B,D)
        logits = to_float32(self.classifier(embedding))  # (B,C)
        return embedding, logits

    def encode(self, inputs: Tensor) -> Tensor:
        """Run the encoder on a batch of clips: (B,width), or (B,F,width) for a learned pooling.

        With `micro_batch`, the encoder runs on a few clips at a time and is computed again in the
        backward pass, so that memory holds the activations of a few clips only. Everything after
        the encoder still gets the whole batch, so the size of a micro-batch changes no result.
        """
        if self.encoder is None:
            return inputs

        size = self.micro_batch
        if size is None or size >= len(inputs) or not torch.is_grad_enabled():
            encoding: Tensor = self.encoder(inputs)
            return encoding

        encodings = [
            checkpoint(self.encoder, clips, use_reentrant=False)
            for clips in torch.split(inputs, size)
        ]
        return torch.cat(encodings)

    def train(self, mode: bool = True) -> "Branch":
        """Set the mode of all modules, but leave frozen ones in evaluation mode.

        They then have no dropout, and their batch statistics stay as they are.
        """
        super().train(mode)
        for module in self.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self


class JoinedEncoders(nn.Module):
    """clips -> encodings of several encoders side by side (B,sum of widths), pooled after that."""

    def __init__(self, encoders: Sequence[nn.Module], pool: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.pool = pool

    def forward(self, clips: Tensor) -> Tensor:
        encodings = torch.cat([encoder(clips) for encoder in self.encoders], -1)
        pooled: Tensor = self.pool(encodings)
        return pooled


def name_backbones(encoder: nn.Module) -> dict[str, nn.Module]:
    """Map the names of an encoder's backbones within it to the backbones, in their order."""
    if isinstance(encoder, JoinedEncoders):
        names = [f"encoders.{number}.backbone" for number in range(len(encoder.encoders))]
    else:
        names = ["backbone"]
    return {name: encoder.get_submodule(name) for name in names}


def freeze(backbone: nn.Module, policy: str | int, where: str) -> None:
    """Freeze a backbone as a whole (`all`), or its first `policy` stages and all before them.

    timm's own grouping says what a stage is: a block of a transformer, a resolution of a
    convolutional network. Raises UserError when there are fewer stages; `where` is the setting
    that asks for them.
    """
    if policy == "none":
        return
    if policy == "all":
        backbone.requires_grad_(False)
        return

    # Group 0 is the stem, and the stages follow. A norm after the last stage forms a group of its
    # own or is part of the last one.
    matcher = backbone.group_matcher(coarse=True)  # type: ignore[operator]
    groups = group_parameters(backbone, matcher)
    stages = int(policy)
    if stages >= len(groups):
        raise make_error(
            where, f"{stages} stages", f"the backbone has {len(groups) - 1}", "`all` freezes it all"
        )
    for group in range(stages + 1):
        for name in groups[group]:
            backbone.get_parameter(name).requires_grad_(False)


def to_float32(tensor: Tensor) -> Tensor:
    """Return 16-bit results of autocast in float32, for losses and probabilities."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def build_timm_backbone(name: str, where: str, **arguments: Any) -> nn.Module:
    """Build any image model of timm, without its classifier and with random weights.

    Raises UserError when timm does not have it, or when it cannot take `arguments`; `where` is the
    setting that names the model.
    """
    if not timm.is_model(name):
        family = name.split(".")[0].split("_")[0]
        close = ", ".join(timm.list_models(f"*{family}*")[:5])
        raise make_error(where, f"timm has no model '{name}'", close, "see timm.list_models()")
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise make_error(
            where, f"{name} cannot take {arguments} ({error})", todo="another backbone"
        ) from None
    return backbone


def choose_input_size(name: str, height: int, width: int) -> dict[str, Any]:
    """Choose what `build_timm_backbone` must say of the input's size.

    That is nothing, unless the model is built for one size.
    """
    settings = timm.get_pretrained_cfg(name)
    if settings is not None and settings.fixed_input_size:
        return {"img_size": (height, width)}
    return {}


def read_encoding_width(backbone: nn.Module) -> int:
    """Return the width of the encoding (B,width) that a timm backbone without classifier makes."""
    # A few of timm's models have a layer before the classifier, which makes another width.
    width = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    return int(width)  # type: ignore[arg-type]
