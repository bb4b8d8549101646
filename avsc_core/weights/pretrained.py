"""Pretrained tensors into a backbone, with an account of every one: taken, dropped, newly initialised.

A published file -> its tensors under our names (layouts.py) -> the backbone. Only a source's own classifier may be left
out, and only our heads start new; anything else that is missing, left over or of another shape is an error that names
it. Each source keeps the LayerNorm epsilon of its own code.
"""

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.nn.functional import interpolate

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.model.network import AudioVisualNet, build_encoder, build_model
from avsc_core.resolve import find_weights
from avsc_core.weights.layouts import Tensors
from avsc_core.weights.published import PublishedWeights, find_position_grid, read_published
from avsc_core.weights.sources import hash_source

SHOWN = 6  # faults of one kind before the rest is counted


class Account(NamedTuple):
    """What became of the tensors of one file; JSON for the record."""

    branch: str
    source: str  # as the person named it
    file: str
    sha256: str
    layout: str
    norm_eps: float | None  # None: the backbone's own
    taken: list[str]
    adapted: list[str]  # taken, but cut or interpolated to this input's size
    dropped: list[str]  # the source's own classifier
    new: list[str]  # of the model, with random weights


def load_pretrained(model: AudioVisualNet, config: Config) -> list[Account]:
    """Load `audio.weights` and `visual.weights` into the encoders that `model` has, and say what became of each tensor.

    Raises UserError with every fault: files that are missing or no checkpoints, tensors that do not fit.
    """
    accounts, faults = list[Account](), list[Fault]()
    for name in find_weights(config):
        branch = model.branches[name]
        if branch.encoder is not None:
            new = [
                f"{name}.{each}" for each in branch.state_dict() if not each.startswith("encoder.")
            ]
            with collect_faults(faults):
                accounts.append(_load(branch.encoder, config, name)._replace(new=new))
    if faults:
        raise UserError(faults)
    return accounts


def build_pretrained_encoder(config: Config, branch: str) -> nn.Module:
    """The encoder of one branch as its training starts. Raises UserError as `load_pretrained`."""
    encoder = build_encoder(config, branch)
    if branch in find_weights(config):
        _load(encoder, config, branch)
    return encoder


def check_pretrained(config: Config) -> list[Account]:
    """What loading would do, without memory for a model: faults show before any work starts. Raises as loading does."""
    with torch.device("meta"):
        model = build_model(config)
    return load_pretrained(model, config)


def set_norm_eps(module: nn.Module, eps: float | None) -> None:
    """Give every LayerNorm the epsilon of the code that its weights were trained with."""
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm) and eps is not None:
            layer.eps = eps


def _load(encoder: nn.Module, config: Config, branch: str) -> Account:
    settings = getattr(config, branch)
    kind, where = settings.backbone, f"{branch}.weights"
    published = read_published(kind, settings.weights, where)
    backbone: nn.Module = encoder.backbone  # type: ignore[assignment]
    tensors, adapted, heads = published.tensors, list[str](), published.heads
    if kind == "ast":
        _check_heads(published, config.audio.heads)
        tensors, adapted = _fit_positions(published, backbone)
    elif kind != "convnext":
        tensors, adapted, heads = _fit_timm(published, backbone)
    wanted = backbone.state_dict()
    faults = find_mismatches(wanted, tensors, heads)
    if faults:
        raise UserError([Fault(f"{where} {published.file}", text) for text in faults])
    if not any(tensor.is_meta for tensor in wanted.values()):
        backbone.load_state_dict({name: tensors[name] for name in wanted})
    set_norm_eps(backbone, published.norm_eps)
    taken, dropped = list(wanted), [name for name in tensors if name not in wanted]
    sha256 = hash_source(str(published.file))
    about = (settings.weights, str(published.file), sha256, published.layout, published.norm_eps)
    return Account(branch, *about, taken, adapted, dropped, new=[])


def find_mismatches(
    wanted: Mapping[str, Tensor], tensors: Tensors, heads: tuple[str, ...] = ()
) -> list[str]:
    """Every tensor that is missing, left over without being a classifier's, or of another shape."""
    missing = [
        f"has no tensor {name}, which the backbone needs" for name in wanted if name not in tensors
    ]
    left = [
        f"tensor {name} {tuple(tensor.shape)} is not of this backbone"
        for name, tensor in tensors.items()
        if name not in wanted and not name.startswith(heads or ("\0",))
    ]
    shapes = [
        f"tensor {name} has shape {tuple(tensors[name].shape)}; {tuple(tensor.shape)} in the configuration"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    return [line for lines in (missing, left, shapes) for line in _few(lines)]


def _few(lines: list[str]) -> list[str]:
    more = [f"... and {len(lines) - SHOWN} more like it"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more


def _check_heads(published: PublishedWeights, heads: int) -> None:
    """The number of heads is the one size that no tensor tells."""
    told = published.settings.get("num_attention_heads", heads)
    if told != heads:
        where = str(published.file.parent / "config.json")
        raise UserError(
            Fault(where, f"{told} heads; audio.heads is {heads}", todo=f"set audio.heads to {told}")
        )


def _fit_positions(published: PublishedWeights, backbone: nn.Module) -> tuple[Tensors, list[str]]:
    """AST's position embeddings for this input's size, as its authors do: the centre of a larger grid, or bilinear."""
    tensors = published.tensors
    if not {"patch_embed.proj.weight", "pos_embed"} <= set(tensors):
        return tensors, []  # `_mismatches` says so
    grid: tuple[int, int] = backbone.patch_embed.grid_size  # type: ignore[assignment, union-attr]
    stride = backbone.patch_embed.proj.stride[0]  # type: ignore[union-attr, index]
    theirs = find_position_grid(published, int(stride))
    if theirs == tuple(grid):
        return tensors, []
    tokens, patches = tensors["pos_embed"][:, :2], tensors["pos_embed"][:, 2:]
    plane = patches.mT.reshape(1, -1, *theirs)  # (1,width,mel,time)
    for axis, (have, want) in enumerate(zip(theirs, grid, strict=True), start=2):
        if want < have:
            plane = plane.narrow(axis, have // 2 - want // 2, want)
        elif want > have:
            size = [want if side == axis else plane.shape[side] for side in (2, 3)]
            plane = interpolate(plane, size, mode="bilinear")
    return {**tensors, "pos_embed": torch.cat([tokens, plane.flatten(2).mT], 1)}, ["pos_embed"]


def _fit_timm(
    published: PublishedWeights, backbone: nn.Module
) -> tuple[Tensors, list[str], tuple[str, ...]]:
    """A timm checkpoint through timm's own conversions: position embeddings to this size, colours to one channel."""
    tensors = published.tensors
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    converted: Tensors = dict(convert(dict(tensors), backbone)) if convert else dict(tensors)
    settings: Mapping[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    wanted = backbone.state_dict()
    first = settings["first_conv"]
    for layer in (first,) if isinstance(first, str) else first:
        name = f"{layer}.weight"
        if (
            name in converted
            and name in wanted
            and converted[name].shape[1] != wanted[name].shape[1]
        ):
            converted[name] = adapt_input_conv(wanted[name].shape[1], converted[name])
    classifier = settings["classifier"]
    heads = tuple(
        f"{layer}." for layer in ((classifier,) if isinstance(classifier, str) else classifier)
    )
    adapted = [
        name
        for name, each in converted.items()
        if name in tensors and each.shape != tensors[name].shape
    ]
    return converted, adapted, heads
