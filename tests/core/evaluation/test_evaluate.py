"""Protocols and answer files: segments, unlabelled clips, files that score as their numbers did."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from avsc_core.config import Config
from avsc_core.data.batches import IMAGENET, Inputs, compute_scale
from avsc_core.data.clip_features import compute_frames, compute_log_mel
from avsc_core.data.features import Features
from avsc_core.data.logmel import AUDIOSET
from avsc_core.data.tau import is_unlabelled, read_unlabelled
from avsc_core.errors import UserError
from avsc_core.evaluation.evaluate import (
    Trained,
    answer_unlabelled,
    evaluate_split,
    load_trained,
    save_trained,
)
from avsc_core.evaluation.segments import cut_pictures, cut_sound, predict_segments
from avsc_core.labels import SCENES
from avsc_core.metrics import compute_scores, format_predictions, parse_predictions
from avsc_core.model import build_model
from avsc_core.model.network import Outputs
from avsc_core.processes import no_progress
from avsc_core.resolve import resolve
from avsc_core.trainer import inference
from avsc_core.trainer.inference import run_raw_clips, scene_probabilities
from tests.builders.media import write_evaluation_set


@pytest.fixture(scope="module")
def trained(tiny: Config) -> Trained:
    torch.manual_seed(0)
    return Trained(build_model(tiny).eval(), tiny, AUDIOSET, [], [], list(SCENES))


def test_ten_decisions_a_clip(features: Features, trained: Trained):
    whole = evaluate_split(trained, features.data, "test", no_progress)
    parts = evaluate_split(trained, features.data, "test", no_progress, "segment")
    assert parts.probability.shape == (10 * len(whole.names), 10)
    assert parts.names[:11] == [
        *(f"{whole.names[0]}-{second}" for second in range(10)),
        f"{whole.names[1]}-0",
    ]
    assert parts.locations[::10] == whole.locations
    assert np.array_equal(parts.scenes[::10], whole.scenes)
    assert parts.metrics == compute_scores(parts.probability, parts.scenes)
    assert not np.allclose(parts.probability[0], parts.probability[1])


def test_a_second_keeps_its_own_sound_and_picture():
    config = resolve("paper")
    log_mel = np.repeat(
        np.arange(1024, dtype=np.float32)[:, None], 128, 1
    )  # every frame is its number
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 2, 2), np.uint8)
    sounds = cut_sound(log_mel, config.log_mel)
    pictures = cut_pictures(frames, config.pictures.offset_s)
    assert sounds.shape == (10, 1024, 128)
    assert pictures.shape == (10, 1, 3, 2, 2)
    for second in range(10):
        assert sounds[second, :98, 0].tolist() == list(range(100 * second, 100 * second + 98))
        assert not sounds[second, 98:].any()
        assert (pictures[second] == second).all()


def test_the_rest_of_a_second_is_what_ast_saw_in_padding(
    features: Features, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With `normalise: dataset` too, also after saving and loading: it is most of the input."""
    scale = compute_scale(features, "dataset", np.arange(20))
    saved = Trained(build_model(tiny), tiny, scale, [], [], list(SCENES))
    save_trained(tmp_path, saved)
    loaded = load_trained(tmp_path)
    assert loaded.scale == scale

    seen: list[torch.Tensor] = []
    run = inference.run_model

    def run_spied(model: nn.Module, log_mel: torch.Tensor, *rest: Any) -> Outputs:
        seen.append(log_mel)
        return run(model, log_mel, *rest)

    monkeypatch.setattr(inference, "run_model", run_spied)
    inputs = Inputs(features, loaded.scale, IMAGENET)
    predict_segments(loaded.model, inputs, np.arange(2), tiny)
    padding = seen[0][:, 10:]  # of 64 frames; a second has 6 or 7
    assert torch.allclose(padding, torch.tensor(0.46703), atol=1e-4)
    assert not torch.allclose(seen[0][:, :5], torch.tensor(0.46703), atol=1e-2)


def test_fewer_pictures_than_seconds():
    config = resolve("demo")  # four pictures, at 0.4, 2.9, 5.4 and 7.9 s
    frames = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 2, 2), np.uint8)
    pictures = cut_pictures(frames, config.pictures.offset_s)
    assert pictures[:, 0, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


@given(st.integers(0, 2**31), st.floats(0.001, 3))
def test_the_answer_file_scores_as_its_numbers(seed: int, sharpness: float):
    rng = np.random.default_rng(seed)
    probability, scenes = rng.dirichlet(np.full(10, sharpness), 30), rng.integers(0, 10, 30)
    text = format_predictions([f"{row}.wav" for row in range(30)], probability, SCENES)
    names, read = parse_predictions(text)
    assert names[3] == "3.wav"
    assert np.array_equal(read, probability)
    assert compute_scores(read, scenes) == compute_scores(probability, scenes)
    header, first = (line.split("\t") for line in text.splitlines()[:2])
    assert header == ["filename", "scene_label", *SCENES]
    assert first[1] == SCENES[int(probability[0].argmax())]


def test_an_unlabelled_set_is_answered_in_order(
    trained: Trained, features: Features, tmp_path: Path
):
    write_evaluation_set(tmp_path / "set", 12)
    assert is_unlabelled(tmp_path / "set")
    assert not is_unlabelled(features.data.root)
    names, probability = answer_unlabelled(trained, tmp_path / "set", no_progress)
    assert names == [f"{number}.wav" for number in range(12)]
    assert probability.shape == (12, 10)
    assert np.allclose(probability.sum(1), 1)
    assert len(np.unique(probability[:, 0])) == 12


def test_seconds_are_kept_without_padding_and_seen_with_it(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The evaluation set of the challenge would fill 38 GB, nine tenths of it zeros."""
    monkeypatch.setenv("AVSC_CACHE", str(tmp_path / "cache"))
    write_evaluation_set(tmp_path / "set", 3)
    _, probability = answer_unlabelled(trained, tmp_path / "set", no_progress)
    (kept,) = (tmp_path / "cache" / "features").glob("log_mel-*/array.npy")
    recorded = np.load(kept, mmap_mode="r").shape[1]
    assert recorded < trained.config.log_mel.frames / 8

    # The log-mel of a whole input, computed at once.
    clip = read_unlabelled(tmp_path / "set")[1]
    media = trained.config.media
    whole, _ = compute_log_mel(clip, trained.config.log_mel, media, 1.0)  # (T,128)
    frames, _ = compute_frames(clip, trained.config.pictures, media, 1.0)  # (F,3,H,W)
    outputs = run_raw_clips(
        trained.model, whole[None], frames[None], trained.scale, IMAGENET, trained.config
    )
    assert np.allclose(scene_probabilities(outputs)[0], probability[1], atol=1e-6)


def test_a_clip_of_ten_seconds_is_none_of_the_challenges(
    trained: Trained, scenes: Path, tmp_path: Path
):
    for kind in ("audio", "video"):
        shutil.copytree(scenes / kind, tmp_path / kind)
    with pytest.raises(UserError, match=r"is 10\.00 s long; 1 s, give or take 0.05 s"):
        answer_unlabelled(trained, tmp_path, no_progress)


def test_a_missing_partner_is_a_fault(tmp_path: Path):
    write_evaluation_set(tmp_path, 3)
    (tmp_path / "video" / "1.mp4").unlink()
    with pytest.raises(
        UserError, match="1 files without a partner, first 1; a wav and an mp4 of every name"
    ):
        read_unlabelled(tmp_path)
