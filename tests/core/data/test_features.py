"""Features in the cache: built once, and again only where something changed; batches of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avsc_core.config import Augmentation, Config
from avsc_core.data.batches import IMAGENET, Inputs, compute_scale, iterate_batches, shuffle_rows
from avsc_core.data.clip_features import compute_frames, compute_log_mel
from avsc_core.data.dataset import DataSet
from avsc_core.data.features import Features, build_features, locate_feature_folder
from avsc_core.data.logmel import AUDIOSET, Scale, normalise
from avsc_core.errors import UserError
from avsc_core.files import cache_root
from avsc_core.processes import no_progress
from avsc_core.resolve import parse_set, resolve
from tests.builders.configs import TINY


def folders() -> set[str]:
    return {path.name for path in (cache_root() / "features").iterdir() if path.is_dir()}


def test_rows_are_the_clips(features: Features, tiny: Config):
    assert features.log_mel.shape == (30, 64, 128)
    assert features.frames.shape == (30, 1, 3, 32, 32)
    for row in (0, 17, 29):
        clip = features.data.clips[row]
        assert np.array_equal(
            features.log_mel[row], compute_log_mel(clip, tiny.log_mel, tiny.media)[0]
        )
        assert np.array_equal(
            features.frames[row], compute_frames(clip, tiny.pictures, tiny.media)[0]
        )


def test_a_second_call_reads_what_the_first_wrote(features: Features, tiny: Config):
    def forbidden(what: str, done: int, total: int) -> None:
        raise AssertionError(what)

    again = build_features(features.data, tiny, forbidden)
    assert np.array_equal(again.frames, features.frames)


@pytest.mark.parametrize(
    ("setting", "rebuilt"),
    [
        ("pictures.resize=40", {"frames"}),
        ("log_mel.window=hanning", {"log_mel", "log_mel_sums"}),
        ("log_mel.normalise=peak", {"log_mel"}),
        ("log_mel.normalise=audioset", set()),
        ("loss_weights.scene=3", set()),
    ],
)
def test_only_what_depends_on_a_setting_is_rebuilt(
    features: Features, setting: str, rebuilt: set[str]
):
    before = folders()
    build_features(features.data, resolve("demo", parse_set([*TINY, setting])), no_progress)
    assert {name.split("-")[0] for name in folders() - before} == rebuilt


@pytest.mark.parametrize(
    ("modality", "kept", "left_out"),
    [("audio", "log_mel", "frames"), ("visual", "frames", "log_mel")],
)
def test_a_model_of_one_modality_reads_nothing_of_the_other(
    features: Features,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    modality: str,
    kept: str,
    left_out: str,
):
    """Neither from the files nor from the cache: half of Table IV would wait for nothing."""
    monkeypatch.setenv("AVSC_CACHE", str(tmp_path))
    config = resolve("demo", parse_set([*TINY, f"modality={modality}"]))
    single = build_features(features.data, config, no_progress)
    assert getattr(single, left_out) is None
    assert np.array_equal(getattr(single, kept), getattr(features, kept))
    assert {name.split("-")[0] for name in folders()} - {"log_mel_sums"} == {kept}
    rows = np.arange(10)
    inputs = Inputs(single, compute_scale(single, "dataset", rows), IMAGENET)
    (batch,) = iterate_batches(inputs, rows, 10, torch.device("cpu"), Augmentation(mixup=0.4))
    assert getattr(batch, left_out) is None
    assert len(getattr(batch, kept)) == 10


def test_kept_sums_give_the_scale_of_the_values(features: Features):
    rows = np.arange(3, 20)
    assert features.sums is not None
    direct = compute_scale(features._replace(sums=None), "dataset", rows)
    assert compute_scale(features, "dataset", rows) == direct


def test_every_unreadable_file_is_named(data: DataSet, tiny: Config, tmp_path: Path):
    bad = [tmp_path / name for name in ("a.wav", "b.wav")]
    for path in bad:
        path.write_text("nothing")
    clips = [
        clip._replace(audio=path) for clip, path in zip(data.clips, bad, strict=False)
    ] + data.clips[2:]
    broken = data._replace(clips=clips, sounds=["a", "b", *data.sounds[2:]])
    with pytest.raises(UserError) as caught:
        build_features(broken, tiny, no_progress)
    assert [fault.where for fault in caught.value.faults] == [str(path) for path in bad]


def test_label_sets_must_fit(data: DataSet):
    with pytest.raises(UserError) as caught:
        build_features(data, resolve("paper"), no_progress)
    assert str(caught.value).startswith("audio.classes: 527 in the configuration, 64 in ")
    assert len(caught.value.faults) == 2


def test_folders_are_named_as_in_earlier_versions():
    """Under other names, all that is in a cache would be computed again."""
    paper = resolve("paper")
    contents = ["a" * 64, "b" * 64]
    log_mel = locate_feature_folder(contents, paper.log_mel, paper.media)
    frames = locate_feature_folder(contents, paper.pictures, paper.media)
    seconds = locate_feature_folder(contents, paper.pictures, paper.media, seconds=1.0)
    assert log_mel == cache_root() / "features" / "log_mel-f7176bc081f59dc6-b46097e735d7c16e"
    assert frames.name == "frames-6866b503f6f72a44-b46097e735d7c16e"
    assert seconds.name == "frames-197cb99704cf5ed9-b46097e735d7c16e"


def test_scale_is_the_training_rows_own(features: Features):
    """Mean and deviation of the recorded frames, in float64; a tenth of the frames is padding."""
    rows = np.array([3, 4, 9])
    values = features.log_mel[rows].astype(np.float64)
    recorded = values[(values != 0).any(2)]
    assert 0 < len(recorded) < 3 * values.shape[1]
    scale = compute_scale(features, "dataset", rows)
    assert (scale.mean, scale.std) == pytest.approx((recorded.mean(), recorded.std()))
    assert compute_scale(features, "audioset", rows) == AUDIOSET


def test_padding_counts_nowhere_and_keeps_the_value_of_ast(features: Features):
    """Whatever the share of padding, statistics stay, and padded frames are what AST saw: 0.467."""
    rows = np.arange(9)
    scale = compute_scale(features, "dataset", rows)
    padded = np.pad(np.array(features.log_mel), ((0, 0), (0, 500), (0, 0)))
    longer = compute_scale(features._replace(log_mel=padded), "dataset", rows)
    assert longer == pytest.approx(scale)

    inputs = Inputs(features._replace(log_mel=padded), scale, IMAGENET)
    (batch,) = iterate_batches(inputs, rows, 9, torch.device("cpu"))
    plain = normalise(torch.from_numpy(padded[rows]), AUDIOSET)
    assert torch.allclose(batch.log_mel[:, -500:], plain[:, -500:])
    assert float(batch.log_mel[0, -1, 0]) == pytest.approx(4.2677393 / (2 * 4.5689974))
    recorded = batch.log_mel[(torch.from_numpy(padded[rows]) != 0).any(2)]
    assert float(recorded.mean()) == pytest.approx(0, abs=1e-4)
    assert float(recorded.std()) == pytest.approx(0.5, abs=1e-4)


def test_models_of_earlier_versions_keep_the_padding_they_were_trained_with():
    """Their folders have a mean and a deviation alone."""
    mel = torch.zeros(1, 4, 128)
    mel[:, :2] = -9
    normalised = normalise(mel, Scale(mean=-8.0, std=2.0))
    assert normalised[0, :, 0].tolist() == [-0.25, -0.25, 2.0, 2.0]
    assert normalise(mel, Scale(-8.0, 2.0, 0.5))[0, :, 0].tolist() == [-0.25, -0.25, 0.5, 0.5]


def test_batches_hold_every_row_once(features: Features):
    rows = shuffle_rows(np.arange(30), seed=3, epoch=2)
    assert sorted(rows) == list(range(30))
    assert list(rows) == list(shuffle_rows(np.arange(30), seed=3, epoch=2))
    assert list(rows) != list(shuffle_rows(np.arange(30), seed=3, epoch=3))
    parts = list(
        iterate_batches(Inputs(features, AUDIOSET, IMAGENET), rows, 8, torch.device("cpu"))
    )
    assert [len(part.scenes) for part in parts] == [8, 8, 8, 6]
    assert (
        torch.cat([part.scenes for part in parts]).tolist() == features.data.scenes[rows].tolist()
    )
    events = torch.cat([part.events for part in parts]).numpy()
    assert np.array_equal(events, features.events[rows])
    picture = (
        features.frames[rows[0], 0].astype(np.float64) / 255
        - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))
    ) / (np.reshape([0.229, 0.224, 0.225], (3, 1, 1)))
    assert np.allclose(parts[0].frames[0, 0].numpy(), picture, atol=1e-5)


def test_log_mels_may_be_stored_in_half(features: Features):
    half = build_features(
        features.data, resolve("demo", parse_set([*TINY, "log_mel.stored=float16"])), no_progress
    )
    assert half.log_mel.dtype == np.float16
    assert np.allclose(half.log_mel.astype(np.float32), features.log_mel, rtol=1e-3, atol=1e-3)
    (batch,) = iterate_batches(
        Inputs(half, AUDIOSET, IMAGENET), np.arange(3), 3, torch.device("cpu")
    )
    assert batch.log_mel.dtype == torch.float32
