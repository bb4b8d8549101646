"""Load published weights into a backbone, with an account of every tensor.

    published file -> tensors under our names (layouts.py) -> backbone

Every tensor is taken, dropped or new. Only those of the source's own classifier may be dropped, and
only our embedding layers, classifiers and fusion start new. Any other tensor that is missing, left
over or of another shape is a fault that names it. The backbone takes over the LayerNorm epsilon of
the source's code.
"""

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.nn.functional import interpolate

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, collect_faults, make_error
from avsc_core.finite import NOT_FINITE, is_finite
from avsc_core.model.branch import name_backbones
from avsc_core.model.network import (
    AudioVisualNet,
    build_encoder,
    build_model,
    check_computation,
    check_pieces,
)
from avsc_core.resolve import find_weights
from avsc_core.weights.layouts import Tensors
from avsc_core.weights.published import PublishedWeights, find_position_grid, read_published
from avsc_core.weights.sources import hash_source

SHOWN = 6  # faults of one sort that are shown in full; the rest is counted


class Account(NamedTuple):
    """What happened to the tensors of one published file; it goes into the record as JSON."""

    branch: str
    source: str  # as the configuration names it
    file: str
    sha256: str
    layout: str
    norm_eps: float | None  # None: the backbone's own
    taken: list[str]
    adapted: list[str]  # those taken that were cut or interpolated to this input's size
    dropped: list[str]  # of the source's own classifier
    new: list[str]  # tensors of the branch with random weights, which no file gave


def load_pretrained(model: AudioVisualNet, config: Config) -> list[Account]:
    """Load `audio.weights` and `visual.weights` into the encoders of `model`.

    Returns an account of each file; a branch without an encoder is left out. Raises UserError with
    every fault: files that are missing or are not checkpoints, and tensors that do not fit.
    """
    accounts = []
    faults: list[Fault] = []
    for name in find_weights(config):
        branch = model.branches[name]
        if branch.encoder is None:
            continue
        with collect_faults(faults):
            loaded = _load(branch.encoder, config, name)
            published = tuple(f"encoder.{backbone}." for backbone in loaded)
            state = branch.state_dict()
            new = [f"{name}.{tensor}" for tensor in state if not tensor.startswith(published)]
            accounts += [account._replace(new=new) for account in loaded.values()]
    if faults:
        raise UserError(faults)
    return accounts


def build_pretrained_encoder(config: Config, branch: str) -> nn.Module:
    """Build the encoder of one branch as its training starts. Raises as `load_pretrained`."""
    encoder = build_encoder(config, branch)
    if branch in find_weights(config):
        _load(encoder, config, branch)
    return encoder


def check_pretrained(config: Config) -> list[Account]:
    """Check what `load_pretrained` would do, before any work starts. Raises as it does.

    Raises UserError too when the backbones cannot be computed as `compute` says, or do not take
    the pieces of sound.
    """
    # On torch's meta device a model has shapes but takes no memory.
    with torch.device("meta"):
        model = build_model(config)
    check_computation(model, config)
    check_pieces(config)
    return load_pretrained(model, config)


def set_norm_eps(module: nn.Module, eps: float | None) -> None:
    """Give every LayerNorm of `module` the epsilon that its weights were trained with.

    None leaves them as they are.
    """
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm) and eps is not None:
            layer.eps = eps


def check_tensors(
    where: str,
    wanted: Mapping[str, Tensor],  # the model's
    tensors: Tensors,  # the file's
    heads: tuple[str, ...] = (),
) -> None:
    """Check that a file's tensors are those of a model.

    Tensors whose names begin with one of `heads`, the source's own classifier, may be left over.
    Raises UserError, at `where`, with every tensor that is missing, left over, of another shape or
    not finite.
    """
    missing = []
    shapes = []
    broken = []
    for name, tensor in wanted.items():
        if name not in tensors:
            missing.append(f"the file has no tensor {name}, which the model needs")
        elif tensors[name].shape != tensor.shape:
            found = tuple(tensors[name].shape)
            needed = tuple(tensor.shape)
            shapes.append(f"tensor {name} has shape {found}; {needed} in the configuration")
        elif not is_finite(tensors[name]):
            broken.append(f"tensor {name} {NOT_FINITE}; get the file again, or train again")

    left = []
    for name, tensor in tensors.items():
        if name not in wanted and not name.startswith(heads):
            left.append(f"tensor {name} {tuple(tensor.shape)} is not one of the model's")
    texts = _shorten(missing) + _shorten(left) + _shorten(shapes) + _shorten(broken)
    if texts:
        raise UserError(Fault(where, text) for text in texts)


def _shorten(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"... and {more} more like it"] if more > 0 else lines


def _load(encoder: nn.Module, config: Config, branch: str) -> dict[str, Account]:
    """Load the weights of one branch into its encoder; map names of backbones to accounts.

    Raises UserError with the faults of all its files.
    """
    settings = getattr(config, branch)
    parts = name_backbones(encoder)
    accounts = {}
    faults: list[Fault] = []
    for number, (part, backbone) in enumerate(parts.items()):
        source = settings.sources[number]
        if source is None:
            continue
        where = f"{branch}.weights"
        if len(parts) > 1:
            where += f"[{number}]"
        with collect_faults(faults):
            name = settings.backbones[number]
            account = _load_backbone(backbone, name, source, config, where)
            accounts[part] = account._replace(branch=branch)
    if faults:
        raise UserError(faults)
    return accounts


def _load_backbone(
    backbone: nn.Module, name: str, source: str, config: Config, where: str
) -> Account:
    """Load one file of weights into the backbone `name`."""
    published = read_published(name, source, where)

    # What the source has, for this input's size.
    tensors = published.tensors
    adapted: list[str] = []
    heads = published.heads
    if name == "ast":
        _check_heads(published, config.audio.heads)
        tensors, adapted = _fit_positions(published, backbone)
    elif name != "convnext":
        tensors, adapted, heads = _fit_timm(published, backbone)

    # Into the backbone, unless it is on the meta device and has no memory for them.
    wanted = backbone.state_dict()
    check_tensors(f"{where} {published.file}", wanted, tensors, heads)
    if not any(tensor.is_meta for tensor in wanted.values()):
        backbone.load_state_dict({name: tensors[name] for name in wanted})
    set_norm_eps(backbone, published.norm_eps)
    return Account(
        branch="",
        source=source,
        file=str(published.file),
        sha256=hash_source(str(published.file)),
        layout=published.layout,
        norm_eps=published.norm_eps,
        taken=list(wanted),
        adapted=adapted,
        dropped=[name for name in tensors if name not in wanted],
        new=[],
    )


def _check_heads(published: PublishedWeights, heads: int) -> None:
    """Check the number of attention heads, the one size of AST that no tensor shows."""
    found = published.settings.get("num_attention_heads", heads)
    if found != heads:
        where = str(published.file.parent / "config.json")
        raise make_error(
            where,
            f"the model has {found} attention heads; audio.heads is {heads}",
            todo=f"set audio.heads to {found}",
        )


def _fit_positions(published: PublishedWeights, backbone: nn.Module) -> tuple[Tensors, list[str]]:
    """Fit AST's position embeddings to this input's size; return all tensors, and what was adapted.

    As AST's authors do: along each axis of the grid of patches, a larger grid is cut to its centre
    and a smaller one is interpolated linearly.
    """
    tensors = published.tensors
    if not {"patch_embed.proj.weight", "pos_embed"} <= set(tensors):
        return tensors, []  # `check_tensors` names them

    grid: tuple[int, int] = backbone.patch_embed.grid_size  # type: ignore[assignment, union-attr]
    stride = backbone.patch_embed.proj.stride[0]  # type: ignore[union-attr, index]
    source_grid = find_position_grid(published, int(stride))
    if source_grid == grid:
        return tensors, []

    # The first two embeddings belong to cls and dist, and have no place in the grid.
    tokens = tensors["pos_embed"][:, :2]  # (1,2,width)
    patches = tensors["pos_embed"][:, 2:]  # (1,N,width)
    plane = patches.mT.reshape(1, -1, *source_grid)  # (1,width,mel,time)
    for axis, wanted in enumerate(grid, start=2):
        found = plane.shape[axis]
        if wanted < found:
            plane = plane.narrow(axis, found // 2 - wanted // 2, wanted)
        elif wanted > found:
            size = list(plane.shape[2:])
            size[axis - 2] = wanted
            plane = interpolate(plane, size, mode="bilinear")
    fitted = torch.cat([tokens, plane.flatten(2).mT], 1)
    return {**tensors, "pos_embed": fitted}, ["pos_embed"]


def _fit_timm(
    published: PublishedWeights, backbone: nn.Module
) -> tuple[Tensors, list[str], tuple[str, ...]]:
    """Fit a timm checkpoint to this input by timm's own conversions.

    Returns all tensors, the names of those adapted, and the prefixes of the classifier's names.
    """
    tensors = published.tensors
    settings: Mapping[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]

    # Position embeddings: a module of timm has its own filter for checkpoints where it needs one.
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    converted: Tensors = dict(convert(dict(tensors), backbone) if convert else tensors)

    # Colours: the first layers take three channels, and a log-mel has one.
    wanted = backbone.state_dict()
    for layer in _list_names(settings["first_conv"]):
        name = f"{layer}.weight"
        if name in converted and name in wanted:
            channels = wanted[name].shape[1]
            if converted[name].shape[1] != channels:
                converted[name] = adapt_input_conv(channels, converted[name])

    adapted = []
    for name, tensor in converted.items():
        if name in tensors and tensor.shape != tensors[name].shape:
            adapted.append(name)
    heads = tuple(f"{layer}." for layer in _list_names(settings["classifier"]))
    return converted, adapted, heads


def _list_names(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in a field of timm's settings, which holds one or several."""
    return (names,) if isinstance(names, str) else names
