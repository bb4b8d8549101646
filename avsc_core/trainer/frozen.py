"""Encodings of frozen encoders, computed once and shared by all trials; the inputs of a training.

With `audio.freeze` or `visual.freeze` at `all`, an encoder gives a clip the same encoding in every
epoch of every trial. So the encodings (N,width) go into the cache, and a trial trains only what
follows the encoder. A clip that changed or was added costs the encoding of that clip, as long as
the normalisation of log-mels stays the same: with `log_mel.normalise: dataset` it is measured on
the training clips, and all encodings of the audio branch depend on it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from numpy import ndarray

from avsc_core.cache.store import compute_in_batches, load_or_compute, locate_array
from avsc_core.config import Config
from avsc_core.data.batches import (
    IMAGENET,
    Colours,
    Inputs,
    compute_scale,
    load_frames,
    load_log_mels,
)
from avsc_core.data.features import Features
from avsc_core.model.network import AudioVisualNet
from avsc_core.processes import Progress, no_progress
from avsc_core.resolve import find_weights, identify
from avsc_core.trainer.device import autocast, choose_device
from avsc_core.weights.pretrained import build_pretrained_encoder


def find_frozen_branches(config: Config) -> frozenset[str]:
    """Return the branches whose whole encoder is frozen."""
    return frozenset(
        name for name in config.modality.split("-") if getattr(config, name).freeze == "all"
    )


def prepare_inputs(
    config: Config, features: Features, train: ndarray, progress: Progress = no_progress
) -> Inputs:
    """Return the inputs of a training on rows `train`, with the encodings of frozen encoders."""
    scale = compute_scale(features, config.log_mel.normalise, train)
    inputs = Inputs(features, scale, find_colours(config.visual.backbone))

    encodings: dict[str, Any] = {}
    for branch in sorted(find_frozen_branches(config)):
        encodings[branch] = _load_encodings(config, inputs, branch, progress)

    # This may be the process that runs a study, whose trials need the memory of the device.
    torch.cuda.empty_cache()
    return inputs._replace(**encodings)


def restore_encoders(model: AudioVisualNet, config: Config) -> AudioVisualNet:
    """Give the model the frozen encoders that its training did without, for use on any clip."""
    device = next(model.parameters()).device
    for name, branch in model.branches.items():
        if branch.encoder is None:
            branch.encoder = build_pretrained_encoder(config, name).to(device)
    return model


def find_colours(backbone: str) -> Colours:
    """Return the normalisation of pictures that a visual backbone expects.

    torchvision's constants for `convnext`; for other backbones those that timm lists, or
    torchvision's if it has none.
    """
    if backbone == "convnext":
        return IMAGENET
    import timm

    settings = timm.get_pretrained_cfg(backbone)
    return IMAGENET if settings is None else Colours(tuple(settings.mean), tuple(settings.std))


def _load_encodings(config: Config, inputs: Inputs, branch: str, progress: Progress) -> ndarray:
    """Return the encodings (N,width) float32 of every clip, from the cache or computed now."""
    data = inputs.features.data
    contents = data.sounds if branch == "audio" else data.films
    batch_size = config.training.batch_size
    load_encoder = partial(_load_encoder, config, inputs, branch)

    # Everything that the encoding of a clip depends on, besides the clip: not the layers after the
    # encoder, and the seed only where the weights are random.
    identity = identify(config)
    encoder = identity[branch]
    for setting in ("embedding", "classes"):
        del encoder[setting]
    section = "log_mel" if branch == "audio" else "pictures"
    # A scale without a value for padding stands here as it did before there was one.
    scale = inputs.scale if inputs.scale.padding is not None else inputs.scale[:2]
    dependencies = [
        encoder,
        identity[section],
        identity["media"],
        None if branch in find_weights(config) else config.seed,
        scale if branch == "audio" else inputs.colours,
        identity["training"]["precision"],
    ]

    # `BRANCH-HASH.npy` of earlier versions is not read: its rows do not say whose they are.
    return load_or_compute(
        locate_array(f"{branch}_encoding", dependencies, contents),
        contents,
        compute=partial(
            compute_in_batches,
            load_encoder,
            batch_size,
            names=[clip.name for clip in data.clips],
            source=f"the frozen {branch} encoder",
        ),
        report=partial(progress, f"running the frozen {branch} encoder"),
        block=batch_size,
    )


def _load_encoder(config: Config, inputs: Inputs, branch: str) -> Callable[[ndarray], ndarray]:
    """Return a function that computes the encodings (B,width) float32 of the rows (B,)."""
    device = choose_device(config)
    encoder = build_pretrained_encoder(config, branch).to(device).eval()
    load_inputs = load_log_mels if branch == "audio" else load_frames

    @torch.inference_mode()
    def encode(rows: ndarray) -> ndarray:
        with autocast(config, device):
            encodings: ndarray = encoder(load_inputs(inputs, rows, device)).float().cpu().numpy()
        return encodings

    return encode
