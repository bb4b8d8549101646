"""The names that published checkpoints give to tensors -> the names of our backbones (timm's).

AST comes as its authors' file (`module.v.blocks.0.attn.qkv.weight`, 159 tensors), as the Hugging Face file
(`audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight`, 203 tensors) and under the names of
current transformers (`audio_spectrogram_transformer.layers.0.attention.q_proj.weight`); ConvNeXt as torchvision's file
(`features.1.0.block.0.weight`, 344 tensors) and as timm's own. A tagger's last layers are called head.fc here, and
AST's LayerNorm before it head.norm.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class WeightsLayout(NamedTuple):
    """One way of writing a checkpoint."""

    title: str
    mark: str  # a regular expression that one of its names, and no other layout's, matches
    rename: Callable[[Tensors], Tensors]
    norm_eps: Callable[
        [Mapping[str, Any]], float
    ]  # publisher's settings -> LayerNorm epsilon of the source's code
    heads: tuple[str, ...]  # beginnings of names that belong to the source's own classifier
    head_eps: float | None = None  # of the LayerNorm before that classifier, where it is another


def _substitute(rules: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    """A function that applies the first rule that matches the whole name."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def rename(name: str) -> str:
        for pattern, replacement in compiled:
            if pattern.fullmatch(name):
                return pattern.sub(replacement, name)
        return name

    return rename


_AUTHORS = _substitute(
    [
        (r"(?:module\.)?mlp_head\.0\.(.+)", r"head.norm.\1"),
        (r"(?:module\.)?mlp_head\.1\.(.+)", r"head.fc.\1"),
        (
            r"(?:module\.)?v\.(head(?:_dist)?\.\w+)",
            r"imagenet_\1",
        ),  # of the DeiT that AST was started from
        (r"(?:module\.)?v\.(.+)", r"\1"),
    ]
)

_LAYER = r"(?:audio_spectrogram_transformer\.)?(?:encoder\.layer|layers)\.(\d+)\."
_HUGGING_FACE = _substitute(
    [
        (_LAYER + r"attention\.(?:attention\.)?(?:query|q_proj)\.(\w+)", r"blocks.\1.attn.q.\2"),
        (_LAYER + r"attention\.(?:attention\.)?(?:key|k_proj)\.(\w+)", r"blocks.\1.attn.k.\2"),
        (_LAYER + r"attention\.(?:attention\.)?(?:value|v_proj)\.(\w+)", r"blocks.\1.attn.v.\2"),
        (_LAYER + r"attention\.(?:output\.dense|o_proj)\.(\w+)", r"blocks.\1.attn.proj.\2"),
        (_LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
        (_LAYER + r"(?:output\.dense|mlp\.fc2)\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
        (_LAYER + r"layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
        (_LAYER + r"layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
        (r"(?:\w+\.)?embeddings\.cls_token", "cls_token"),
        (r"(?:\w+\.)?embeddings\.distillation_token", "dist_token"),
        (r"(?:\w+\.)?embeddings\.position_embeddings", "pos_embed"),
        (r"(?:\w+\.)?embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
        (r"(?:audio_spectrogram_transformer\.)?layernorm\.(\w+)", r"norm.\1"),
        (r"classifier\.layernorm\.(\w+)", r"head.norm.\1"),
        (r"classifier\.dense\.(\w+)", r"head.fc.\1"),
    ]
)

_PARTS = {
    "layer_scale": "gamma",
    **{
        f"block.{number}": name
        for number, name in ((0, "conv_dw"), (2, "norm"), (3, "mlp.fc1"), (5, "mlp.fc2"))
    },
}


def from_authors(tensors: Tensors) -> Tensors:
    """AST as its authors save it, with or without the prefix of DataParallel."""
    return {_AUTHORS(name): tensor for name, tensor in tensors.items()}


def from_hugging_face(tensors: Tensors) -> Tensors:
    """AST as transformers saves it, now or before; the three projections of a layer become timm's one."""
    renamed = {_HUGGING_FACE(name): tensor for name, tensor in tensors.items()}
    result = {}
    for name, tensor in renamed.items():
        match = re.fullmatch(r"(blocks\.\d+\.attn)\.([qkv])\.(\w+)", name)
        if not match:
            result[name] = tensor
        elif match[2] == "q":
            three = [renamed.get(f"{match[1]}.{part}.{match[3]}") for part in "qkv"]
            if all(part is not None for part in three):
                result[f"{match[1]}.qkv.{match[3]}"] = torch.cat(three)  # type: ignore[arg-type]
    return result


def from_torchvision(tensors: Tensors) -> Tensors:
    """ConvNeXt as torchvision saves it."""
    result = {}
    for name, tensor in tensors.items():
        new = name
        if match := re.fullmatch(r"features\.0\.(.+)", name):
            new = f"stem.{match[1]}"
        elif match := re.fullmatch(r"features\.(\d+)\.(\d+)\.(layer_scale|block\.\d)(.*)", name):
            new = f"stages.{int(match[1]) // 2}.blocks.{match[2]}.{_PARTS.get(match[3], match[3])}{match[4]}"
            tensor = tensor.flatten() if match[3] == "layer_scale" else tensor  # (C,1,1) -> (C,)
        elif match := re.fullmatch(r"features\.(\d+)\.(.+)", name):
            new = f"stages.{int(match[1]) // 2}.downsample.{match[2]}"
        elif match := re.fullmatch(r"classifier\.(0|2)\.(\w+)", name):
            new = f"head.{'norm' if match[1] == '0' else 'fc'}.{match[2]}"
        result[new] = tensor
    return result


def _eps(default: float) -> Callable[[Mapping[str, Any]], float]:
    return lambda settings: float(settings.get("layer_norm_eps", default))


LAYOUTS: dict[str, tuple[WeightsLayout, ...]] = {
    "ast": (
        WeightsLayout(
            "AST authors",
            r"(module\.)?v\.cls_token",
            from_authors,
            _eps(1e-6),
            ("head.", "imagenet_head"),
            1e-5,
        ),
        WeightsLayout(
            "AST Hugging Face",
            r"(\w+\.)?embeddings\.cls_token",
            from_hugging_face,
            _eps(1e-12),
            ("head.",),
        ),
    ),
    "convnext": (
        WeightsLayout(
            "ConvNeXt torchvision",
            r"features\.0\.0\.weight",
            from_torchvision,
            _eps(1e-6),
            ("head.fc.",),
        ),
        WeightsLayout("ConvNeXt timm", r"stem\.0\.weight", dict, _eps(1e-6), ("head.fc.",)),
    ),
}


def recognise(kind: str, names: Iterable[str]) -> WeightsLayout | None:
    """The layout of a checkpoint of `ast` or `convnext`, or None when it is neither of the known ones."""
    names = list(names)
    return next(
        (
            layout
            for layout in LAYOUTS[kind]
            if any(re.fullmatch(layout.mark, name) for name in names)
        ),
        None,
    )
