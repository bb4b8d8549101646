"""Frozen encoders: run once for all trials, and metrics as if they ran at every step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from avsc_core.config import Config
from avsc_core.data.batches import Inputs
from avsc_core.data.dataset import SplitRows, split_rows
from avsc_core.data.features import Features
from avsc_core.evaluation.evaluate import (
    Trained,
    evaluate_rows,
    evaluate_split,
    load_trained,
    save_trained,
)
from avsc_core.processes import no_progress
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer import frozen, loop
from avsc_core.trainer.frozen import find_frozen_branches, prepare_inputs, restore_encoders
from avsc_core.trainer.loop import fit
from tests.builders.configs import TINY
from tests.builders.weights import CONVNEXT, reference_convnext

Encode = Callable[[np.ndarray], np.ndarray]
FROZEN = ("audio.freeze=all", "visual.freeze=all")


def configured(*sets: str) -> Config:
    return resolve("demo", parse_set([*TINY, *FROZEN, *sets]))


@pytest.fixture(scope="module")
def parts(features: Features, tiny: Config) -> SplitRows:
    return split_rows(features.data, tiny.split)


def run(config: Config, features: Features, parts: SplitRows) -> list[dict[str, float]]:
    return [epoch.metrics for epoch in fit(config, features, parts.train, parts.validation)]


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("alignment.mode=rkm", "fusion.dropout=0.5"),
        ("visual.freeze=none",),
        ("modality=visual", "visual.pooling=mean+max"),
        ("visual.backbone=resnet10t",),  # whose batch statistics must stay
        ("training.precision=bf16",),
        ("visual.pooling=gru", "audio.pieces=2", "audio.pooling=transformer"),
        ("visual.backbone=[convnext, resnet10t]", "visual.pooling=attention"),
        ("audio.pieces=3", "audio.pooling=mean+max"),
    ],
)
def test_the_metrics_of_running_frozen_encoders_at_every_step(
    features: Features, parts: SplitRows, sets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    config = configured(*sets)
    cached = run(config, features, parts)
    for module in (frozen, loop):
        monkeypatch.setattr(module, "find_frozen_branches", lambda config: frozenset())
    every_step = run(config, features, parts)
    for ours, theirs in zip(cached, every_step, strict=True):
        assert ours["val_acc"] == theirs["val_acc"]
        assert ours == pytest.approx(
            theirs, rel=1e-2 if "training.precision=bf16" in sets else 1e-5
        )


def test_a_trial_trains_its_heads_only(features: Features, parts: SplitRows):
    epoch = next(fit(configured(), features, parts.train, parts.validation))
    assert all(branch.encoder is None for branch in epoch.model.branches.values())
    assert epoch.inputs.audio.shape == epoch.inputs.visual.shape == (30, 16)
    assert isinstance(epoch.inputs.audio, np.memmap)


def test_learned_poolings_train_on_sequences(features: Features, parts: SplitRows):
    sets = ("visual.pooling=transformer", "audio.pieces=2", "audio.pooling=gru")
    epoch = next(fit(configured(*sets), features, parts.train, parts.validation))
    assert epoch.inputs.visual.shape == (30, 1, 16)
    assert epoch.inputs.audio.shape == (30, 2, 16)
    learned = {name for name, _ in epoch.model.named_parameters() if ".pool." in name}
    assert {name.split(".")[0] for name in learned} == {"audio", "visual"}


def test_caches_are_named_as_in_earlier_versions(
    features: Features, parts: SplitRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AVSC_CACHE", str(tmp_path))
    prepare_inputs(configured("log_mel.normalise=audioset"), features, parts.train)
    folders = [path for path in (tmp_path / "features").iterdir() if path.is_dir()]
    assert {path.name.rsplit("-", 1)[0] for path in folders} == {
        "audio_encoding-ce0f0573614ac53b",
        "visual_encoding-3297a6c1f376452f",
    }


def test_once_for_all_trials(
    features: Features, parts: SplitRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AVSC_CACHE", str(tmp_path))
    torch.save(reference_convnext().state_dict(), tmp_path / "c.pth")
    ran: list[str] = []

    def ask(*sets: str) -> set[str]:
        ran.clear()
        prepare_inputs(
            configured(*sets), features, parts.train, lambda what, done, total: ran.append(what)
        )
        return {what.split()[-2] for what in ran}

    assert ask() == {"audio", "visual"}
    assert (
        ask(
            "loss_weights.scene=7",
            "fusion.hidden=8",
            "training.learning_rate=0.1",
            "audio.embedding=16",
        )
        == set()
    )
    assert ask("seed=1") == {"audio", "visual"}  # other random weights
    assert ask("visual.pooling=max") == {"visual"}
    assert ask("log_mel.normalise=audioset") == {"audio"}
    assert ask("visual.pooling=attention") == {"visual"}
    assert ask("visual.pooling=gru", "pictures.frames=1") == set()  # the same sequences
    assert ask("audio.pieces=2", "audio.pooling=max") == {"audio"}
    weights = (*CONVNEXT, f"visual.weights={tmp_path / 'c.pth'}")
    assert ask(*weights) == {"visual"}
    assert ask(*weights, "seed=1") == set()  # those of a file do not depend on the seed


def test_the_saved_model_is_whole(features: Features, parts: SplitRows, tmp_path: Path):
    config = configured()
    *_, epoch = fit(config, features, parts.train, parts.validation)
    trained = evaluate_rows(epoch.model, epoch.inputs, parts.validation, config)
    whole = restore_encoders(epoch.model, config)
    save_trained(tmp_path, Trained(whole, config, epoch.inputs.scale, [], [], []))
    loaded = evaluate_split(load_trained(tmp_path), features.data, "validation", no_progress)
    assert np.allclose(loaded.probability, trained.probability, atol=1e-5)
    assert loaded.names == trained.names


def test_frozen_branches_of_each_modality():
    assert find_frozen_branches(configured()) == {"audio", "visual"}
    assert find_frozen_branches(configured("modality=audio")) == {"audio"}
    assert find_frozen_branches(configured("audio.freeze=1")) == {"visual"}
    assert find_frozen_branches(resolve("frozen")) == {"audio", "visual"}


def test_a_changed_or_added_clip_costs_that_clip(
    features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    computed: dict[str, list[int]] = {"audio": [], "visual": []}
    load_encoder = frozen._load_encoder

    def load_spied_encoder(config: Config, inputs: Inputs, branch: str) -> Encode:
        encode = load_encoder(config, inputs, branch)

        def encode_spied(rows: np.ndarray) -> np.ndarray:
            computed[branch] += rows.tolist()
            return encode(rows)

        return encode_spied

    def encode(given: Features, cache: str) -> Inputs:
        monkeypatch.setenv("AVSC_CACHE", str(tmp_path / cache))
        for rows in computed.values():
            rows.clear()
        return prepare_inputs(configured("log_mel.normalise=audioset"), given, np.arange(20))

    monkeypatch.setattr(frozen, "_load_encoder", load_spied_encoder)
    before = encode(select_clips(features, 29), "cache")
    assert computed == {"audio": list(range(29)), "visual": list(range(29))}
    changed = change_clip(features, 7)
    after = encode(changed, "cache")
    assert computed == {"audio": [7, 29], "visual": [7, 29]}
    encode(changed, "cache")
    assert computed == {"audio": [], "visual": []}
    whole = encode(changed, "another cache")
    assert computed == {"audio": list(range(30)), "visual": list(range(30))}
    for branch in ("audio", "visual"):
        encodings = getattr(after, branch)
        kept = np.delete(np.arange(29), 7)
        assert np.array_equal(encodings[kept], getattr(before, branch)[kept])
        assert not np.allclose(encodings[7], getattr(before, branch)[7])
        assert np.allclose(encodings, getattr(whole, branch), rtol=1e-5, atol=1e-6)


def select_clips(features: Features, count: int) -> Features:
    """Return the features of the first clips only."""
    data = features.data._replace(
        clips=features.data.clips[:count],
        sounds=features.data.sounds[:count],
        films=features.data.films[:count],
    )
    return Features(data, *(array[:count] for array in features[1:]))


def change_clip(features: Features, row: int) -> Features:
    """Return the features with another sound and another film in one row."""
    log_mel = np.array(features.log_mel)
    frames = np.array(features.frames)
    sounds = list(features.data.sounds)
    films = list(features.data.films)
    log_mel[row] += 1
    frames[row] = 255 - frames[row]
    sounds[row] = "another sound"
    films[row] = "another film"
    data = features.data._replace(sounds=sounds, films=films)
    return features._replace(data=data, log_mel=log_mel, frames=frames)
