"""The names that published checkpoints give to tensors -> the names of our backbones, timm's.

AST is published as

- its authors' file: `module.v.blocks.0.attn.qkv.weight`, 159 tensors;
- the Hugging Face file:
  `audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight`, 203 tensors;
- what current transformers save: `audio_spectrogram_transformer.layers.0.attention.q_proj.weight`.

ConvNeXt is published as torchvision's file, `features.1.0.block.0.weight`, 344 tensors, and as
timm's. The classifier of a published tagger is called head.fc here, and the LayerNorm before it
head.norm.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class WeightsLayout(NamedTuple):
    """One way to name the tensors of a checkpoint."""

    title: str
    mark: str  # a regular expression that matches a name of this layout and of no other
    rename: Callable[[Tensors], Tensors]
    norm_eps: float  # LayerNorm epsilon in the source's code
    heads: tuple[str, ...]  # prefixes of the names in the source's own classifier
    head_eps: float | None = None  # epsilon of the LayerNorm in that classifier; None: norm_eps


def _substitute(rules: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    """Return a function that applies the first rule whose pattern matches the whole name."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def rename(name: str) -> str:
        for pattern, replacement in compiled:
            if pattern.fullmatch(name):
                return pattern.sub(replacement, name)
        return name

    return rename


_rename_authors = _substitute(
    [
        (r"(?:module\.)?mlp_head\.0\.(.+)", r"head.norm.\1"),
        (r"(?:module\.)?mlp_head\.1\.(.+)", r"head.fc.\1"),
        # The classifiers of the DeiT that AST was trained from.
        (r"(?:module\.)?v\.(head(?:_dist)?\.\w+)", r"imagenet_\1"),
        (r"(?:module\.)?v\.(.+)", r"\1"),
    ]
)

_LAYER = r"(?:audio_spectrogram_transformer\.)?(?:encoder\.layer|layers)\.(\d+)\."
_rename_hugging_face = _substitute(
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

_BLOCK_PARTS = {
    "layer_scale": "gamma",
    "block.0": "conv_dw",
    "block.2": "norm",
    "block.3": "mlp.fc1",
    "block.5": "mlp.fc2",
}


def from_authors(tensors: Tensors) -> Tensors:
    """Rename AST as its authors save it, with or without the prefix of DataParallel."""
    return {_rename_authors(name): tensor for name, tensor in tensors.items()}


def from_hugging_face(tensors: Tensors) -> Tensors:
    """Rename AST as any version of transformers saves it.

    It has a projection each for the queries, keys and values of a layer; timm has one for all
    three. Where one of the three is missing, so is the result.
    """
    renamed = {_rename_hugging_face(name): tensor for name, tensor in tensors.items()}
    result = {}
    for name, tensor in renamed.items():
        match = re.fullmatch(r"(blocks\.\d+\.attn)\.([qkv])\.(\w+)", name)
        if match is None:
            result[name] = tensor
            continue

        # The three are joined when the first of them is found.
        layer, projection, parameter = match.groups()
        names = [f"{layer}.{letter}.{parameter}" for letter in "qkv"]
        if projection == "q" and all(part in renamed for part in names):
            result[f"{layer}.qkv.{parameter}"] = torch.cat([renamed[part] for part in names])
    return result


def from_torchvision(tensors: Tensors) -> Tensors:
    """Rename ConvNeXt as torchvision saves it."""
    result = {}
    for name, tensor in tensors.items():
        renamed = _rename_torchvision(name)
        is_scale = renamed.endswith(".gamma")
        result[renamed] = tensor.flatten() if is_scale else tensor  # (C,1,1) -> (C,)
    return result


def _rename_torchvision(name: str) -> str:
    # `features` holds the stem (0), then stages (odd) and the downsampling before each (even).
    if match := re.fullmatch(r"features\.0\.(.+)", name):
        return f"stem.{match[1]}"
    if match := re.fullmatch(r"features\.(\d+)\.(\d+)\.(layer_scale|block\.\d)(.*)", name):
        number, block, part, rest = match.groups()
        return f"stages.{int(number) // 2}.blocks.{block}.{_BLOCK_PARTS.get(part, part)}{rest}"
    if match := re.fullmatch(r"features\.(\d+)\.(.+)", name):
        return f"stages.{int(match[1]) // 2}.downsample.{match[2]}"
    if match := re.fullmatch(r"classifier\.(0|2)\.(\w+)", name):
        return f"head.{'norm' if match[1] == '0' else 'fc'}.{match[2]}"
    return name


def recognise(kind: str, names: Iterable[str]) -> WeightsLayout | None:
    """Recognise the layout of a checkpoint of `ast` or `convnext` by the names of its tensors.

    Returns None when it is in no known layout.
    """
    names = list(names)
    for layout in LAYOUTS[kind]:
        if any(re.fullmatch(layout.mark, name) for name in names):
            return layout
    return None


LAYOUTS: dict[str, tuple[WeightsLayout, ...]] = {
    "ast": (
        WeightsLayout(
            "AST authors",
            r"(module\.)?v\.cls_token",
            from_authors,
            norm_eps=1e-6,
            heads=("head.", "imagenet_head"),
            head_eps=1e-5,
        ),
        WeightsLayout(
            "AST Hugging Face",
            r"(\w+\.)?embeddings\.cls_token",
            from_hugging_face,
            norm_eps=1e-12,
            heads=("head.",),
        ),
    ),
    "convnext": (
        WeightsLayout(
            "ConvNeXt torchvision",
            r"features\.0\.0\.weight",
            from_torchvision,
            norm_eps=1e-6,
            heads=("head.fc.",),
        ),
        WeightsLayout(
            "ConvNeXt timm",
            r"stem\.0\.weight",
            dict,
            norm_eps=1e-6,
            heads=("head.fc.",),
        ),
    ),
}
