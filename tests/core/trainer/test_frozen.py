"""Frozen encoders: run once for all trials, with the metrics that running them at every step gives."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avsc_core.cache.arrays import filled
from avsc_core.config import Config
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


def test_once_for_all_trials(
    features: Features, parts: SplitRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(frozen, "cache_root", lambda: tmp_path)
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


def test_a_partial_array_is_continued(tmp_path: Path):
    asked: list[int] = []

    def rows(block: np.ndarray) -> np.ndarray:
        asked.extend(block.tolist())
        if len(asked) > 6 and not (tmp_path / "again").exists():
            raise KeyboardInterrupt
        return np.stack([block, block**2], 1).astype(np.float32)

    arguments = tmp_path / "x" / "a.npy", 10, 3, lambda: rows
    with pytest.raises(KeyboardInterrupt):
        filled(*arguments, lambda done, total: None)
    assert not (tmp_path / "x" / "a.npy").exists()
    (tmp_path / "again").touch()
    asked.clear()
    array = filled(*arguments, lambda done, total: None)
    assert asked == [6, 7, 8, 9]
    assert np.array_equal(array[:, 1], np.arange(10) ** 2)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["a.npy", "a.npy.lock"]
    assert filled(
        *arguments[:3], lambda: pytest.fail("computed again"), lambda done, total: None
    ).shape == (10, 2)
