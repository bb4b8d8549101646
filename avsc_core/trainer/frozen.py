"""What a frozen encoder makes of every clip, computed once and shared by every trial; and the inputs of a training.

With `audio.freeze` or `visual.freeze` at `all` an encoder says the same of a clip in every epoch of every trial, so its
features (N,width) go into the cache, under a hash of all they depend on, and a trial trains its heads only.
"""

import hashlib
import json
from functools import partial
from typing import Any

import numpy as np
import torch

from avsc_core.cache.arrays import Rows, filled
from avsc_core.config import Config
from avsc_core.data.batches import (
    IMAGENET,
    Colours,
    Inputs,
    compute_scale,
    load_frames,
    load_log_mels,
)
from avsc_core.data.features import FORMAT, Features
from avsc_core.files import cache_root
from avsc_core.model.network import AudioVisualNet
from avsc_core.processes import Progress, no_progress
from avsc_core.resolve import find_weights, identify
from avsc_core.trainer.device import autocast, choose_device
from avsc_core.weights.pretrained import build_pretrained_encoder


def find_frozen_branches(config: Config) -> frozenset[str]:
    """The branches whose encoder is frozen as a whole."""
    return frozenset(
        name for name in config.modality.split("-") if getattr(config, name).freeze == "all"
    )


def prepare_inputs(
    config: Config, features: Features, train: np.ndarray, progress: Progress = no_progress
) -> Inputs:
    """The inputs of a training on the rows `train`: normalisations, and the features of frozen encoders."""
    scale = compute_scale(features, config.log_mel.normalise, train)
    inputs = Inputs(features, scale, find_colours(config.visual.backbone))
    arrays: dict[str, Any] = {}
    for branch in sorted(find_frozen_branches(config)):
        path = cache_root() / "features" / f"{branch}-{_key(config, inputs, branch)}.npy"
        report = partial(progress, f"running the frozen {branch} encoder")
        count, step = len(features.data.clips), config.training.batch_size
        arrays[branch] = filled(path, count, step, partial(_runner, config, inputs, branch), report)
    torch.cuda.empty_cache()  # this may be a study's driver, whose trials need the memory
    return inputs._replace(**arrays)


def restore_encoders(model: AudioVisualNet, config: Config) -> AudioVisualNet:
    """The model with the frozen encoders that its training did without, to be saved and used on any clip."""
    for name, branch in model.branches.items():
        if branch.encoder is None:
            branch.encoder = build_pretrained_encoder(config, name).to(
                next(model.parameters()).device
            )
    return model


def find_colours(backbone: str) -> Colours:
    """What a visual backbone expects: torchvision's constants for ConvNeXt, else what timm says of the model."""
    if backbone == "convnext":
        return IMAGENET
    import timm

    settings = timm.get_pretrained_cfg(backbone)
    return IMAGENET if settings is None else Colours(tuple(settings.mean), tuple(settings.std))


def _key(config: Config, inputs: Inputs, branch: str) -> str:
    """Of everything that a frozen encoder's features depend on."""
    own = identify(config)
    settings = {
        name: own[name]
        for name in (branch, "log_mel" if branch == "audio" else "pictures", "media")
    }
    for head in ("embedding", "classes"):
        del settings[branch][head]
    origin = (
        None if branch in find_weights(config) else config.seed
    )  # random weights come from the seed
    data = inputs.features.data
    files = data.sounds if branch == "audio" else data.films
    scale = inputs.scale if branch == "audio" else inputs.colours
    about = [FORMAT, settings, origin, scale, own["training"]["precision"], files]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _runner(config: Config, inputs: Inputs, branch: str) -> Rows:
    """rows -> their features (B,width) float32."""
    device = choose_device(config)
    encoder = build_pretrained_encoder(config, branch).to(device).eval()
    read = load_log_mels if branch == "audio" else load_frames

    @torch.inference_mode()
    def run(rows: np.ndarray) -> np.ndarray:
        with autocast(config, device):
            features: np.ndarray = encoder(read(inputs, rows, device)).float().cpu().numpy()
        return features

    return run
