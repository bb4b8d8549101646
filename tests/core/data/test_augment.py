"""Tests of augmentation: off by default, what each kind changes, the same digits when repeated."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avsc_core.config import Augmentation, Config
from avsc_core.data.augment import apply_mixup, augment_frames, augment_log_mel
from avsc_core.data.batches import IMAGENET, Inputs, iterate_batches
from avsc_core.data.dataset import split_rows
from avsc_core.data.features import Features
from avsc_core.data.logmel import AUDIOSET
from avsc_core.errors import UserError
from avsc_core.resolve import Override, parse_set, resolve
from avsc_core.trainer.checkpoint import CheckpointFile
from avsc_core.trainer.loop import fit
from tests.builders.configs import TINY
from tests.builders.trainings import begin_training

KINDS = {
    "speed": 0.2,
    "time_shift": 0.5,
    "noise": 3.0,
    "gain_db": 6.0,
    "time_mask": 0.5,
    "mel_mask": 0.5,
    "flip": 0.5,
    "crop": 0.4,
    "rand_augment": 2,
    "mixup": 0.8,
}


@pytest.fixture(autouse=True)
def seed_torch() -> None:
    torch.manual_seed(0)


def test_off_by_default():
    assert resolve("paper").augmentation == resolve("demo").augmentation == Augmentation()
    assert not any(Augmentation().model_dump(exclude={"mixup_partners"}).values())
    assert {*KINDS, "mixup_partners"} == set(Augmentation.model_fields)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_training_and_repeats(features: Features, kind: str):
    setting = Override(f"augmentation.{kind}", KINDS[kind], "here")
    config = resolve("demo", [*parse_set(TINY), setting])
    parts = split_rows(features.data, config.split)

    def run(settings: Config) -> list[dict[str, float]]:
        epochs = fit(settings, features, parts.train, parts.validation)
        return [epoch.metrics for epoch in epochs]

    plain = run(resolve("demo", parse_set(TINY)))
    changed = run(config)
    assert changed[0]["train_total"] != plain[0]["train_total"]

    torch.rand(5)  # what was drawn before a training does not matter
    assert run(config) == changed


def test_a_continued_trial_sees_what_it_would_have_seen(features: Features, tmp_path: Path):
    settings = [Override(f"augmentation.{kind}", value, "here") for kind, value in KINDS.items()]
    config = resolve("demo", [*parse_set(TINY), *settings])
    parts = split_rows(features.data, config.split)
    path = tmp_path / "c.pt"
    whole = [epoch.metrics for epoch in fit(config, features, parts.train, parts.validation)]

    # Interrupt a training after its first epoch, then continue it.
    begin_training(config, features, parts, path)
    checkpoint = CheckpointFile(path, minutes=0)
    continued = fit(config, features, parts.train, parts.validation, checkpoint=checkpoint)
    assert [epoch.metrics for epoch in continued] == whole


def test_validation_is_left_alone(features: Features):
    inputs = Inputs(features, AUDIOSET, IMAGENET)
    (plain,) = iterate_batches(inputs, np.arange(4), 4, torch.device("cpu"))
    assert plain.scenes.dtype == torch.int64
    assert torch.equal(plain.events, torch.from_numpy(features.events[:4]).float())


def test_gain_moves_all_but_the_padding():
    mel = torch.randn(5, 40, 128) - 10
    mel[:, 30:] = 0
    changed = augment_log_mel(mel, Augmentation(gain_db=10))
    shift = changed[:, :30] - mel[:, :30]
    assert torch.allclose(shift, shift[:, :1, :1].expand_as(shift), atol=1e-5)
    assert (shift.abs() <= 10 * np.log(10) / 10 + 1e-5).all()
    assert len(set(shift[:, 0, 0].tolist())) == 5
    assert not changed[:, 30:].any()


@pytest.mark.parametrize(("kind", "axis"), [("time_mask", 1), ("mel_mask", 2)])
def test_masks_hide_one_span(kind: str, axis: int):
    mel = torch.randn(200, 50, 128)
    changed = augment_log_mel(mel, Augmentation(**{kind: 0.3}))
    hidden = (changed != mel).any(3 - axis)  # (B, size)
    widths = hidden.sum(1)
    assert widths.max() <= 0.3 * mel.shape[axis] + 1
    assert widths.float().mean() == pytest.approx(0.15 * mel.shape[axis], rel=0.2)
    assert ((hidden[:, 1:] != hidden[:, :-1]).sum(1) <= 2).all()  # one span each

    # What is hidden has the mean of its clip.
    row = int(widths.argmax())
    masked = changed[row][hidden[row]] if axis == 1 else changed[row][:, hidden[row]]
    assert torch.allclose(masked, mel[row].mean())


def make_padded_clips(clips: int) -> tuple[torch.Tensor, list[int]]:
    """Log-mels of 60 frames, of which 30 to 59 are recorded."""
    lengths = torch.randint(30, 60, (clips,)).tolist()
    mel = torch.randn(clips, 60, 128) - 10
    for clip, length in zip(mel, lengths, strict=True):
        clip[length:] = 0
    return mel, lengths


def test_speed_is_interpolation_in_time():
    """Against numpy, frame by frame: positions r t, to the end of the recording."""
    mel, lengths = make_padded_clips(40)
    torch.manual_seed(5)
    changed = augment_log_mel(mel, Augmentation(speed=0.3))
    torch.manual_seed(5)
    tempos = 1 + 0.3 * (2 * torch.rand(40) - 1)
    assert tempos.min() < 0.8
    assert tempos.max() > 1.2
    for clip, old, length, tempo in zip(changed, mel, lengths, tempos.tolist(), strict=True):
        places = np.arange(length) * tempo
        kept = int((places <= length - 1 + 1e-4).sum())
        for band in (0, 77):
            wanted = np.interp(places[:kept], np.arange(length), old[:length, band].double())
            assert np.allclose(clip[:kept, band], wanted, atol=1e-3)
        assert not clip[kept:].any()


def test_a_shift_rolls_what_is_recorded():
    mel, lengths = make_padded_clips(60)
    torch.manual_seed(5)
    changed = augment_log_mel(mel, Augmentation(time_shift=0.4))
    torch.manual_seed(5)
    shares = (0.4 * (2 * torch.rand(60) - 1)).tolist()
    for clip, old, length, share in zip(changed, mel, lengths, shares, strict=True):
        assert torch.equal(clip[:length], old[:length].roll(round(share * length), 0))
        assert not clip[length:].any()


def test_noise_has_its_deviation_in_decibels():
    mel, lengths = make_padded_clips(200)
    changed = augment_log_mel(mel, Augmentation(noise=6))
    deviations = []
    for clip, old, length in zip(changed, mel, lengths, strict=True):
        added = (clip - old)[:length] * 10 / np.log(10)
        assert float(added.mean()) == pytest.approx(0, abs=0.5)
        deviations.append(float(added.std()))
        assert not clip[length:].any()
    assert max(deviations) <= 6.3
    assert np.mean(deviations) == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("kind", ["time_mask", "mel_mask"])
def test_masks_leave_padding_out(kind: str):
    """It is neither hidden nor part of the mean that hides."""
    mel, lengths = make_padded_clips(50)
    changed = augment_log_mel(mel, Augmentation(**{kind: 0.5}))
    for clip, old, length in zip(changed, mel, lengths, strict=True):
        assert not clip[length:].any()
        hidden = clip[:length] != old[:length]
        assert torch.allclose(clip[:length][hidden], old[:length].mean())


def test_pictures_of_a_clip_change_alike():
    frames = torch.randint(0, 255, (6, 1, 3, 32, 32), dtype=torch.uint8).repeat(1, 4, 1, 1, 1)
    settings = Augmentation(flip=0.5, crop=0.5, rand_augment=2)
    changed = augment_frames(frames, settings)
    assert changed.shape == frames.shape
    assert changed.dtype == torch.uint8
    assert torch.equal(changed[:, :1].expand_as(changed), changed)
    assert not torch.equal(changed, frames)


def test_a_mirror_is_a_mirror():
    frames = torch.randint(0, 255, (400, 1, 3, 4, 4), dtype=torch.uint8)
    changed = augment_frames(frames, Augmentation(flip=0.3))
    mirrored = 0
    for new, old in zip(changed, frames, strict=True):
        is_mirrored = torch.equal(new, old.flip(-1))
        assert is_mirrored or torch.equal(new, old)
        mirrored += is_mirrored
    assert mirrored / 400 == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("partners", ["joint", "single"])
def test_mixup_keeps_sums_and_pairs(partners: str):
    clips = 64
    eye = torch.eye(clips)
    scenes = torch.arange(clips) % 10
    sounds, pictures, events, objects, targets = apply_mixup(
        eye, eye, eye, eye, scenes, 10, Augmentation(mixup=1.0, mixup_partners=partners)
    )
    for mixed in (sounds, pictures):
        assert torch.allclose(mixed.sum(1), torch.ones(clips))
        assert ((mixed > 0).sum(1) <= 2).all()
        assert (mixed.diagonal() >= 0.5).all()
    assert torch.equal(sounds, events)
    assert torch.equal(pictures, objects)
    assert torch.equal(sounds, pictures) == (partners == "joint")

    # With clips as rows of the identity, the mixed clips are the weights of the targets.
    one_hot = torch.nn.functional.one_hot(scenes, 10).float()
    by_hand = (sounds + pictures) / 2 @ one_hot
    assert torch.allclose(targets, by_hand, atol=1e-6)


def test_frozen_encoders_see_clips_as_they_are():
    once = r"are computed once, of clips as they are"
    with pytest.raises(UserError, match=rf"flip: frozen encodings \(visual\) {once}"):
        resolve("frozen", parse_set(["augmentation.flip=0.5"]))
    with pytest.raises(UserError, match=rf"flip: encodings from elsewhere \(visual\) {once}"):
        resolve("demo", parse_set(["augmentation.flip=0.5", "visual.encodings=clip.npz"]))

    # Clips of the other branch may change, and mixup mixes encodings.
    sets = ["augmentation.noise=3", "augmentation.mixup=0.2", "visual.freeze=all"]
    assert resolve("demo", parse_set(sets)).augmentation.mixup == 0.2
