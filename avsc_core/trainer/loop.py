"""The training loop: configuration and features -> one `Epoch` after another.

`avsc-core train` and every trial of a study run this same function. It seeds everything from (seed,
epoch), so that a trial that was interrupted continues to the numbers it would have had, and a
worker process that served another trial before starts clean.
"""

from collections.abc import Iterator
from functools import partial
from math import ceil, isfinite
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from avsc_core.config import Config
from avsc_core.data.batches import Inputs, check_inputs, iterate_batches, shuffle_rows
from avsc_core.data.features import Features
from avsc_core.errors import Diverged, EnvironmentFault, UserError, make_error
from avsc_core.model import build_model
from avsc_core.model.losses import Losses, balance_classes
from avsc_core.model.network import AudioVisualNet, check_computation
from avsc_core.processes import Progress, no_progress
from avsc_core.trainer.checkpoint import CheckpointFile
from avsc_core.trainer.device import choose_device, seed_all
from avsc_core.trainer.frozen import find_frozen_branches, prepare_inputs
from avsc_core.trainer.inference import run_model, scene_probabilities
from avsc_core.trainer.measures import copy_rows, measure_fusion, measure_rows
from avsc_core.trainer.selection import Selection, deal_halves, score_clips
from avsc_core.trainer.state import describe_owner, restore_states, take_states
from avsc_core.trainer.step import TrainingParts, build_training, start_epoch, train_step
from avsc_core.weights.pretrained import load_pretrained

# Parts of a training whose state a checkpoint has, under the same names.
STATES = ("model", "optimiser", "schedule", "scaler", "ema")


class Epoch(NamedTuple):
    """The result of an epoch."""

    number: int  # from 1
    metrics: dict[str, float]  # loss terms as train_* and val_*; val_acc, val_logloss and the like
    # Of the epochs up to this one, by the metric asked for; None without validation clips.
    selection: Selection | None
    model: AudioVisualNet  # without the encoders that are frozen as a whole
    inputs: Inputs  # what it was trained on


def fit(
    config: Config,
    features: Features,
    train: ndarray,  # rows
    validation: ndarray,  # rows, may be empty
    *,
    metric: str = "val_acc",
    epochs: int | None = None,  # fewer than the schedule's own, for retraining
    checkpoint: CheckpointFile | None = None,
    progress: Progress = no_progress,  # of frozen encoders that have not been run yet
) -> Iterator[Epoch]:
    """Train for `epochs` epochs and yield after each; continue from this trial's `checkpoint`.

    Continuing yields the checkpoint's own epoch once more, because the process that was stopped may
    not have recorded it. Raises Diverged when a loss is no longer finite, UserError when there are
    no clips to train on or clips whose features are not finite.
    """
    check_training_rows(train)

    # inputs, and the model with its optimiser
    device = choose_device(config)
    inputs = prepare_inputs(config, features, train, progress)
    model = _build_initial_model(config, device)
    first_rows = copy_rows(model) if config.alignment.enabled else {}
    steps_per_epoch = ceil(len(train) / config.training.batch_size)
    class_weights = None
    if config.losses.class_weights == "balanced":
        class_weights = balance_classes(features.data.scenes[train], config.scenes).to(device)
    parts = build_training(config, model, steps_per_epoch, class_weights)
    states = {name: getattr(parts, name) for name in STATES}
    if parts.ema is None:
        del states["ema"]

    # continue where an earlier process stopped
    last_epoch = epochs or config.training.epochs
    first_epoch = 1
    selection = _open_selection(features, validation, metric)
    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    owner = describe_owner(config, features, train, validation, metric)
    saved = checkpoint.load(owner) if checkpoint else None
    if saved:
        restore_states(saved, states, frozen)
        first_epoch = saved.epoch + 1
        if selection and saved.selection:
            selection.load_state_dict(saved.selection)
        yield Epoch(saved.epoch, saved.metrics, selection, parts.result, inputs)

    for number in range(first_epoch, last_epoch + 1):
        # one pass over the training clips
        if checkpoint:
            checkpoint.forget()
        metrics = _train_epoch(parts, inputs, train, number)

        # loss terms and scores on validation
        if selection:
            probability, values = predict_rows(
                parts.result, inputs, validation, config, losses=parts.losses
            )
            metrics |= values
            metrics |= score_clips(probability, selection.scenes)
            if first_rows:
                metrics |= measure_rows(parts.result, first_rows)
        _check_metrics(number, metrics, inputs, np.concatenate([train, validation]))

        # the epochs that the trial's figures may be taken from
        if selection:
            selection.add(number, metrics, probability)

        # a trial that is about to end needs no checkpoint
        if checkpoint and number < last_epoch:
            checkpoint.offer(partial(take_states, number, metrics, states, frozen, selection))
        yield Epoch(number, metrics, selection, parts.result, inputs)


def check_training_rows(train: ndarray) -> None:
    """Check that there are clips to train on. Raises UserError."""
    if not len(train):
        raise make_error(
            "split",
            "leaves no clips to train on",
            todo="a smaller split.validation, or another split.rule or split.fold",
        )


@torch.inference_mode()
def predict_rows(
    model: AudioVisualNet,
    inputs: Inputs,
    rows: ndarray,  # (N,)
    config: Config,
    *,
    losses: Losses | None = None,
) -> tuple[ndarray, dict[str, float]]:
    """Return (N,S) float64 scene probabilities of `rows`, and with `losses` metrics by name.

    These are the mean loss terms as val_*, and what SF adds.
    """
    device = next(model.parameters()).device
    generator = seed_all(config.seed, 0)  # RKM's draws on validation are the same after every epoch

    probabilities = []
    sums: dict[str, Tensor] = {}
    for batch in iterate_batches(inputs, rows, config.training.batch_size, device):
        outputs = run_model(model, batch.log_mel, batch.frames, config)
        probabilities.append(scene_probabilities(outputs))  # (B,S)
        if losses:
            targets = (batch.events, batch.objects, batch.scenes)
            terms = losses(model, outputs, *targets, generator)
            metrics = {f"val_{name}": term for name, term in terms.items()}
            metrics |= measure_fusion(model, outputs)
            _add_terms(sums, metrics, len(batch.scenes))

    return np.concatenate(probabilities), _divide_sums(sums, len(rows))


def _build_initial_model(config: Config, device: torch.device) -> AudioVisualNet:
    """Build the model with its pretrained or random weights, without wholly frozen encoders."""
    seed_all(config.seed, 0)
    model = build_model(config, find_frozen_branches(config))
    check_computation(model, config)
    load_pretrained(model, config)
    return model.to(device)


def _open_selection(features: Features, validation: ndarray, metric: str) -> Selection | None:
    """Make the selection among epochs; None without validation clips."""
    if not len(validation):
        return None
    scenes = features.data.scenes[validation]
    locations = [features.data.clips[row].location for row in validation]
    return Selection(metric, scenes, deal_halves(scenes, locations))


def _train_epoch(
    parts: TrainingParts, inputs: Inputs, train: ndarray, number: int
) -> dict[str, float]:
    """Train on the rows `train` once and return the mean of every loss term as train_*."""
    config = parts.config
    device = choose_device(config)
    generator = seed_all(config.seed, number)
    order = shuffle_rows(train, config.seed, number)
    batch_size = config.training.batch_size

    start_epoch(parts, number)
    sums: dict[str, Tensor] = {}
    for batch in iterate_batches(inputs, order, batch_size, device, config.augmentation):
        terms = train_step(parts, batch, generator)
        _add_terms(sums, terms, len(batch.scenes))

    means = _divide_sums(sums, len(train))
    return {f"train_{name}": value for name, value in means.items()}


def _add_terms(sums: dict[str, Tensor], terms: dict[str, Tensor], count: int) -> None:
    """Add the loss terms of a batch, weighted by its `count` clips: a last batch may be smaller.

    They stay on the device, because reading a number from a GPU would make it wait at every step.
    """
    for name, term in terms.items():
        sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach() * count


def _divide_sums(sums: dict[str, Tensor], count: int) -> dict[str, float]:
    """Turn sums over clips into means."""
    return {name: float(value) / count for name, value in sums.items()}


def _check_metrics(epoch: int, metrics: dict[str, float], inputs: Inputs, rows: ndarray) -> None:
    """Raise Diverged when a metric is not finite, EnvironmentFault when inputs are the reason."""
    for name, value in metrics.items():
        if not isfinite(value):
            # They were finite when they were computed.
            try:
                check_inputs(inputs, rows)
            except UserError as error:
                raise EnvironmentFault(error.faults) from None
            raise Diverged(f"epoch {epoch}: {name} is not finite")
