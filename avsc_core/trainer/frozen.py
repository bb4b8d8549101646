"""Encodings of frozen encoders, computed once and shared by all trials; the inputs of a training.

With `audio.freeze` or `visual.freeze` at `all`, an encoder gives a clip the same encoding in every
epoch of every trial. So the encodings (N,width) go into the cache, and a trial trains only what
follows the encoder. A learned pooling follows it too: then the cache keeps sequences (N,F,width),
one array for all learned poolings.

A clip that changed or was added costs the encoding of that clip, as long as the normalisation of
log-mels stays the same: with `log_mel.normalise: dataset` it is measured on the training clips, and
all encodings of the audio branch depend on it.

Encodings that were computed elsewhere (`audio.encodings`, `visual.encodings`) take the same place.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from numpy import ndarray

from avsc_core.cache.store import compute_in_batches, load_or_compute, locate_array
from avsc_core.config import Config
from avsc_core.data.batches import (
    Inputs,
    compute_scale,
    prepare_frames,
    prepare_log_mels,
    read_rows,
)
from avsc_core.data.dataset import DataSet
from avsc_core.data.features import Features
from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.model.network import AudioVisualNet
from avsc_core.model.pooling import FIXED
from avsc_core.processes import Progress, no_progress
from avsc_core.resolve import find_given_encodings, follows_backbone, identify
from avsc_core.trainer.device import autocast, choose_device
from avsc_core.weights.encodings import load_encodings
from avsc_core.weights.preparation import choose_pictures, find_colours
from avsc_core.weights.pretrained import build_pretrained_encoder


def find_frozen_branches(config: Config) -> frozenset[str]:
    """Return the branches that have an encoder which is frozen as a whole."""
    given = find_given_encodings(config)
    return frozenset(
        name
        for name in config.modality.split("-")
        if getattr(config, name).freeze == "all" and name not in given
    )


def prepare_inputs(
    config: Config, features: Features, train: ndarray, progress: Progress = no_progress
) -> Inputs:
    """Return the inputs of a training on rows `train`, with encodings where there are any.

    Raises UserError as `load_given_encodings`.
    """
    scale = compute_scale(features, config.log_mel.normalise, train)
    inputs = Inputs(features, scale, find_colours(config.visual.backbones[0]))

    encodings: dict[str, Any] = load_given_encodings(config, features.data)
    for branch in sorted(find_frozen_branches(config)):
        encodings[branch] = _load_encodings(config, inputs, branch, progress)

    # This may be the process that runs a study, whose trials need the memory of the device.
    torch.cuda.empty_cache()
    return inputs._replace(**encodings)


def load_given_encodings(config: Config, data: DataSet) -> dict[str, ndarray]:
    """Load the encodings that were computed elsewhere, by branch: (N,D) or (N,T,D) float32.

    Raises UserError with the faults of all files: wrong shapes, missing clips, values not finite.
    """
    clips = [clip.name for clip in data.clips]
    found = {}
    faults: list[Fault] = []
    for branch, file in find_given_encodings(config).items():
        with collect_faults(faults):
            found[branch] = load_encodings(file, clips, f"{branch}.encodings")
    if faults:
        raise UserError(faults)
    return found


def restore_encoders(model: AudioVisualNet, config: Config) -> AudioVisualNet:
    """Give the model the frozen encoders that its training did without, for use on any clip."""
    device = next(model.parameters()).device
    for name in find_frozen_branches(config):
        branch = model.branches[name]
        if branch.encoder is None:
            branch.encoder = build_pretrained_encoder(config, name).to(device)
    return model


def _load_encodings(config: Config, inputs: Inputs, branch: str, progress: Progress) -> ndarray:
    """Return the encodings float32 of every clip, from the cache or computed now.

    They are (N,width), or (N,F,width) for a learned pooling.
    """
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
    # A learned pooling comes after the encoder; the sequence is the same for each of them.
    if getattr(config, branch).pooling not in FIXED:
        encoder["pooling"] = "none"
    if branch == "audio":
        prepared = identity["log_mel"]
    elif follows_backbone(config):
        prepared = choose_pictures(config).model_dump()
    else:
        prepared = identity["pictures"]
    # A scale without a value for padding stands here as it did before there was one.
    scale = inputs.scale if inputs.scale.padding is not None else inputs.scale[:2]
    dependencies = [
        encoder,
        prepared,
        identity["media"],
        None if all(getattr(config, branch).sources) else config.seed,
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
    """Return a function that computes the encodings (B,...) float32 of the rows (B,)."""
    device = choose_device(config)
    encoder = build_pretrained_encoder(config, branch).to(device).eval()

    @torch.inference_mode()
    def encode(rows: ndarray) -> ndarray:
        stored = read_rows(inputs, rows, device)
        if branch == "audio":
            batch = prepare_log_mels(stored.log_mel, inputs, device)
        else:
            batch = prepare_frames(stored.frames, inputs, device)
        with autocast(config, device):
            encodings: ndarray = encoder(batch).float().cpu().numpy()
        return encodings

    return encode
