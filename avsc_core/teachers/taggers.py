"""Teachers of the pseudo-labels: published AST and ConvNeXt taggers, whole, with their own classifiers (Section IV).

A checkpoint says its own sizes: widths and depths by its tensors, heads and strides by its publisher's settings.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from avsc_core.config import Audio, LogMel
from avsc_core.errors import Fault, UserError
from avsc_core.model.audio import build_ast
from avsc_core.weights.layouts import Tensors
from avsc_core.weights.pretrained import find_mismatches, set_norm_eps
from avsc_core.weights.published import (
    PublishedWeights,
    count_attention_heads,
    find_position_grid,
    read_published,
)
from avsc_core.weights.sources import hash_source

STRIDE = 10  # of AST's patches, where the publisher's settings do not say


class Teacher(NamedTuple):
    """A tagger in evaluation mode."""

    module: nn.Module
    names: list[str]  # of its C classes
    file: str
    sha256: str
    layout: str


class AudioTeacher(nn.Module):
    """AST with its classifier: log_mel (B,T,128) -> event logits (B,E)."""

    def __init__(self, backbone: nn.Module, width: int, classes: int, eps: float | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.ModuleDict(
            {"norm": nn.LayerNorm(width, eps=eps or 1e-5), "fc": nn.Linear(width, classes)}
        )

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.head["fc"](self.head["norm"](self.backbone(log_mel[:, None].mT)))  # type: ignore[no-any-return]


class VisualTeacher(nn.Module):
    """ConvNeXt with its classifier: frames (B,F,3,H,W) -> object logits of every frame (B,F,O)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, frames: Tensor) -> Tensor:
        return self.backbone(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # type: ignore[no-any-return]


def load_audio_teacher(source: str, settings: Audio) -> tuple[Teacher, LogMel]:
    """A published AST, and the log-mel that it was trained on; `settings` say the heads of a file that does not.

    Raises UserError.
    """
    where = "--audio-teacher"
    published = read_published("ast", source, where)
    tensors, told = published.tensors, published.settings
    _need(
        published,
        ("cls_token", "pos_embed", "patch_embed.proj.weight", "head.norm.weight", "head.fc.weight"),
    )
    width, patch = tensors["cls_token"].shape[-1], tensors["patch_embed.proj.weight"].shape[-1]
    stride = int(told.get("time_stride", STRIDE))
    _, patches = find_position_grid(published, stride)
    frames = int(told.get("max_length", (patches - 1) * stride + patch))
    depth, heads = (
        _count(tensors, r"blocks\.(\d+)\."),
        count_attention_heads(published, settings.width, settings.heads),
    )
    backbone = build_ast(frames, width=width, depth=depth, heads=heads, patch=patch, stride=stride)
    set_norm_eps(backbone, published.norm_eps)
    classes = len(tensors["head.fc.weight"])
    module = AudioTeacher(backbone, width, classes, published.head_eps)
    own = {
        name if name.startswith("head.") else f"backbone.{name}": each
        for name, each in tensors.items()
    }
    _load(
        module,
        {name: each for name, each in own.items() if not name.startswith("backbone.imagenet_")},
        published,
    )
    names = _names(told, classes) or [f"event {number}" for number in range(classes)]
    log_mel = LogMel(sample_rate=16000, window="hanning", frames=frames, normalise="audioset")
    return _teacher(module, names, published), log_mel


def load_visual_teacher(source: str) -> Teacher:
    """A published ConvNeXt. Raises UserError."""
    published = read_published("convnext", source, "--visual-teacher")
    tensors = published.tensors
    _need(published, ("stem.0.weight", "head.norm.weight", "head.fc.weight"))
    stages = range(_count(tensors, r"stages\.(\d+)\."))
    depths = tuple(_count(tensors, rf"stages\.{stage}\.blocks\.(\d+)\.") for stage in stages)
    widths = [
        tensors.get(f"stages.{stage}.blocks.0.conv_dw.weight", torch.empty(1)) for stage in stages
    ]
    classes = len(tensors["head.fc.weight"])
    backbone = ConvNeXt(
        num_classes=classes, depths=depths, dims=tuple(len(each) for each in widths)
    )
    set_norm_eps(backbone, published.norm_eps)
    _load(backbone, tensors, published)
    names = _names(published.settings, classes) or list_imagenet_names(classes)
    return _teacher(VisualTeacher(backbone), names, published)


def list_imagenet_names(classes: int) -> list[str]:
    """Names of ImageNet's 1000 classes, which torchvision carries; numbers for any other label set."""
    if classes != 1000:
        return [f"object {number}" for number in range(classes)]
    from torchvision.models import ConvNeXt_Base_Weights

    return list(ConvNeXt_Base_Weights.IMAGENET1K_V1.meta["categories"])


def _teacher(module: nn.Module, names: list[str], published: PublishedWeights) -> Teacher:
    file = str(published.file)
    return Teacher(
        module.eval().requires_grad_(False), names, file, hash_source(file), published.layout
    )


def _names(settings: Mapping[str, Any], classes: int) -> list[str]:
    """Class names as the publisher's settings have them, or none."""
    labels = {int(number): str(name) for number, name in settings.get("id2label", {}).items()}
    return (
        [labels[number] for number in range(classes)] if set(labels) == set(range(classes)) else []
    )


def _need(published: PublishedWeights, names: Sequence[str]) -> None:
    """A teacher needs its classifier too."""
    faults = [
        Fault(str(published.file), f"has no tensor {name}", "a whole tagger, with its classifier")
        for name in names
        if name not in published.tensors
    ]
    if faults:
        raise UserError(faults)


def _count(tensors: Tensors, pattern: str) -> int:
    """How many numbers stand in names of a pattern, from 0 on."""
    return (
        max((int(match[1]) for name in tensors if (match := re.match(pattern, name))), default=-1)
        + 1
    )


def _load(module: nn.Module, tensors: Tensors, published: PublishedWeights) -> None:
    faults = [
        Fault(str(published.file), text) for text in find_mismatches(module.state_dict(), tensors)
    ]
    if faults:
        raise UserError(faults)
    module.load_state_dict(tensors)
