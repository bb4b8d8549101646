"""A published checkpoint -> its tensors under our names, and what its publisher says of it.

Only tensors are ever read: safetensors, or torch's format with `weights_only`, so a file from anywhere runs no code.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avsc_core.data.logmel import MEL_BINS
from avsc_core.errors import Fault, UserError
from avsc_core.weights.layouts import LAYOUTS, Tensors, recognise
from avsc_core.weights.sources import locate, read_publisher_settings


class PublishedWeights(NamedTuple):
    """A checkpoint as it was found, tensors under our names."""

    file: Path
    layout: str
    tensors: Tensors
    norm_eps: float | None
    heads: tuple[str, ...]  # beginnings of the names of its own classifier
    head_eps: float | None  # LayerNorm epsilon of that classifier
    settings: Mapping[str, Any]  # what its publisher says beside it


def read_published(kind: str, source: str, where: str) -> PublishedWeights:
    """A checkpoint of `ast`, `convnext`, or a timm model. Raises UserError when it is none of a known layout."""
    file = locate(source, where)
    tensors, settings = read_tensors(file), read_publisher_settings(file)
    if kind not in LAYOUTS:
        return PublishedWeights(file, f"timm {kind}", tensors, None, (), None, settings)
    layout = recognise(kind, tensors)
    if layout is None:
        first = ", ".join(list(tensors)[:3])
        allowed = (
            "the authors' file or Hugging Face's"
            if kind == "ast"
            else "torchvision's file or timm's"
        )
        raise UserError(
            Fault(str(file), f"no checkpoint of {kind} (it begins with {first})", allowed)
        )
    eps = layout.norm_eps(settings)
    return PublishedWeights(
        file,
        layout.title,
        layout.rename(tensors),
        eps,
        layout.heads,
        layout.head_eps or eps,
        settings,
    )


def read_tensors(file: Path) -> Tensors:
    """The tensors of a safetensors file, or of a state dict that torch saved. Raises UserError."""
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        zipfile.BadZipFile,
        EOFError,
        ValueError,
    ) as error:
        what = f"holds no tensors that can be read safely ({str(error).splitlines()[0]})"
        allowed = "safetensors, or a state dict saved by torch"
        raise UserError(Fault(str(file), what, allowed, "download it again")) from None
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    named = content.items() if isinstance(content, Mapping) else ()
    tensors = {name: each for name, each in named if isinstance(each, Tensor)}
    if not tensors:
        raise UserError(Fault(str(file), "holds no state dict", "names with a tensor each"))
    return tensors


def find_position_grid(published: PublishedWeights, stride: int) -> tuple[int, int]:
    """(mel, time) patches of a published AST. Raises UserError when its position embeddings make no such grid."""
    tensors = published.tensors
    patch = tensors["patch_embed.proj.weight"].shape[-1]
    mel = (MEL_BINS - patch) // int(published.settings.get("frequency_stride", stride)) + 1
    count = tensors["pos_embed"].shape[1] - 2  # without cls and dist
    if count < mel or count % mel:
        what = f"{count} position embeddings make no grid of {mel} mel patches"
        raise UserError(Fault(str(published.file), what, f"patches of {patch} at stride {stride}"))
    return mel, count // mel


def count_attention_heads(published: PublishedWeights, width: int, heads: int) -> int:
    """Of a published AST, which no tensor tells: its publisher's word, else `heads` when it is as wide as `width`, the
    configured ones, else as many as give AST's 64 dimensions a head."""
    own = published.tensors["cls_token"].shape[-1]
    return int(
        published.settings.get("num_attention_heads", heads if own == width else max(1, own // 64))
    )
