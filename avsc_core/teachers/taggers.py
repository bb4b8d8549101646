"""Teachers of the pseudo-labels: published AST and ConvNeXt, with their classifiers (Section IV).

A file (source) of weights -> a module in evaluation mode: log-mels (B,T,128) -> event logits (B,E)
for AST, frames (B,F,3,H,W) -> object logits of every frame (B,F,O) for ConvNeXt.

The tensors of a file tell the widths and depths of its tagger; what no tensor tells (attention
heads, strides, class names) comes from the settings that its publisher keeps beside it.
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
from avsc_core.weights.pretrained import check_tensors, set_norm_eps
from avsc_core.weights.published import (
    PublishedWeights,
    count_attention_heads,
    find_position_grid,
    read_published,
)
from avsc_core.weights.sources import hash_source

STRIDE = 10  # of AST's patches, where the publisher's settings name none


class Teacher(NamedTuple):
    """A tagger in evaluation mode."""

    module: nn.Module
    names: list[str]  # C, one for each class
    file: str
    sha256: str
    layout: str
    heads: int | None = None  # attention heads of AST, which its tensors do not tell


class AudioTeacher(nn.Module):
    """AST with its classifier: log_mel (B,T,128) -> event logits (B,E)."""

    def __init__(self, backbone: nn.Module, width: int, classes: int, eps: float | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.ModuleDict(
            {"norm": nn.LayerNorm(width, eps=eps or 1e-5), "fc": nn.Linear(width, classes)}
        )

    def forward(self, log_mel: Tensor) -> Tensor:
        pictures = log_mel[:, None].mT  # (B,1,128,T)
        encoding = self.backbone(pictures)  # (B,width)
        logits: Tensor = self.head["fc"](self.head["norm"](encoding))
        return logits


class VisualTeacher(nn.Module):
    """ConvNeXt with its classifier: frames (B,F,3,H,W) -> object logits of every frame (B,F,O)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, frames: Tensor) -> Tensor:
        logits = self.backbone(frames.flatten(0, 1))  # (B*F,O)
        return logits.view(*frames.shape[:2], -1)  # type: ignore[no-any-return]


def load_audio_teacher(source: str, settings: Audio) -> tuple[Teacher, LogMel]:
    """Load a published AST; return it with the log-mel settings that it was trained on.

    `settings` tell the attention heads when the publisher does not. Raises UserError when the file
    cannot be read, is of no known layout or has no classifier.
    """
    published = read_published("ast", source, "--audio-teacher")
    tensors = published.tensors
    _check_present(
        published,
        ("cls_token", "pos_embed", "patch_embed.proj.weight", "head.norm.weight", "head.fc.weight"),
    )

    # Sizes that the tensors tell.
    width = tensors["cls_token"].shape[-1]
    patch = tensors["patch_embed.proj.weight"].shape[-1]
    depth = _count_numbers(tensors, r"blocks\.(\d+)\.")
    classes = len(tensors["head.fc.weight"])

    # Sizes that only the publisher's settings tell.
    heads = count_attention_heads(published, settings.width, settings.heads)
    stride = int(published.settings.get("time_stride", STRIDE))
    _, time_patches = find_position_grid(published, stride)
    frames = int(published.settings.get("max_length", (time_patches - 1) * stride + patch))

    backbone = build_ast(frames, width=width, depth=depth, heads=heads, patch=patch, stride=stride)
    set_norm_eps(backbone, published.norm_eps)
    module = AudioTeacher(backbone, width, classes, published.head_eps)
    # As in AudioTeacher, and without the image classifier.
    renamed = {}
    for name, tensor in tensors.items():
        if not name.startswith("imagenet_"):
            renamed[name if name.startswith("head.") else f"backbone.{name}"] = tensor
    _load_tensors(module, renamed, published)

    names = _read_class_names(published.settings, classes)
    teacher = _build_teacher(module, names or _number_classes("event", classes), published)
    log_mel = LogMel(sample_rate=16000, window="hanning", frames=frames, normalise="audioset")
    return teacher._replace(heads=heads), log_mel


def load_visual_teacher(source: str) -> Teacher:
    """Load a published ConvNeXt.

    Raises UserError when the file cannot be read, is of no known layout or has no classifier.
    """
    published = read_published("convnext", source, "--visual-teacher")
    tensors = published.tensors
    _check_present(published, ("stem.0.weight", "head.norm.weight", "head.fc.weight"))

    # Sizes, all of which the tensors tell.
    classes = len(tensors["head.fc.weight"])
    depths = []
    widths = []
    for stage in range(_count_numbers(tensors, r"stages\.(\d+)\.")):
        depths.append(_count_numbers(tensors, rf"stages\.{stage}\.blocks\.(\d+)\."))
        # A stage without blocks gets any width: loading will name the tensors that are missing.
        first = tensors.get(f"stages.{stage}.blocks.0.conv_dw.weight", torch.empty(1))
        widths.append(len(first))

    backbone = ConvNeXt(num_classes=classes, depths=tuple(depths), dims=tuple(widths))
    set_norm_eps(backbone, published.norm_eps)
    _load_tensors(backbone, tensors, published)

    names = _read_class_names(published.settings, classes) or list_imagenet_names(classes)
    return _build_teacher(VisualTeacher(backbone), names, published)


def list_imagenet_names(classes: int) -> list[str]:
    """Return torchvision's names of the 1000 classes of ImageNet; else number the objects."""
    if classes != 1000:
        return _number_classes("object", classes)
    from torchvision.models import ConvNeXt_Base_Weights

    return list(ConvNeXt_Base_Weights.IMAGENET1K_V1.meta["categories"])


def _check_present(published: PublishedWeights, names: Sequence[str]) -> None:
    """Raise UserError unless the file has all these tensors: a teacher needs its classifier too."""
    allowed = "a whole tagger, with its classifier"
    faults = [
        Fault(str(published.file), f"has no tensor {name}", allowed)
        for name in names
        if name not in published.tensors
    ]
    if faults:
        raise UserError(faults)


def _count_numbers(tensors: Tensors, pattern: str) -> int:
    """Count the numbers, from 0 on, that the pattern finds in the names of tensors."""
    matches = [re.match(pattern, name) for name in tensors]
    return max((int(match[1]) for match in matches if match), default=-1) + 1


def _load_tensors(module: nn.Module, tensors: Tensors, published: PublishedWeights) -> None:
    """Load tensors into a module. Raises UserError that names every tensor that does not fit."""
    check_tensors(str(published.file), module.state_dict(), tensors)
    module.load_state_dict(tensors)


def _read_class_names(settings: Mapping[str, Any], classes: int) -> list[str]:
    """Return the class names in the publisher's settings, or [] unless they name every class."""
    labels = {int(number): str(name) for number, name in settings.get("id2label", {}).items()}
    numbers = sorted(labels)
    return [labels[number] for number in numbers] if numbers == list(range(classes)) else []


def _number_classes(noun: str, classes: int) -> list[str]:
    return [f"{noun} {number}" for number in range(classes)]


def _build_teacher(module: nn.Module, names: list[str], published: PublishedWeights) -> Teacher:
    file = str(published.file)
    module = module.eval().requires_grad_(False)
    return Teacher(module, names, file, hash_source(file), published.layout)
