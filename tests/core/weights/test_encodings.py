"""Encodings computed elsewhere: what such a file must hold, and how a trial takes it."""

from pathlib import Path

import numpy as np
import pytest

from avsc_core.data.dataset import split_rows
from avsc_core.data.features import Features
from avsc_core.errors import UserError
from avsc_core.evaluation.evaluate import (
    Trained,
    answer_unlabelled,
    evaluate_split,
    load_trained,
    predict_file,
    save_trained,
)
from avsc_core.model import build_model
from avsc_core.processes import no_progress
from avsc_core.resolve import find_random_branches, parse_set, resolve, trial_key
from avsc_core.trainer.frozen import prepare_inputs, restore_encoders
from avsc_core.trainer.loop import fit, predict_rows
from avsc_core.weights.encodings import load_encodings
from search_spaces.inactive import reset_inactive
from tests.builders.configs import TINY

CLIPS = np.array(["a", "b", "c"])
# Scenes are learned from embeddings, in a few steps.
QUICK = (
    "fusion.kind=intermediate",
    "loss_weights.event=0",
    "loss_weights.object=0",
    "training.learning_rate=0.01",
    "training.epochs=12",
)
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def save(folder: Path, **arrays: np.ndarray) -> str:
    path = folder / "encodings.npz"
    np.savez(path, **arrays)
    return str(path)


def test_rows_are_found_by_name(tmp_path: Path):
    file = save(tmp_path, clips=CLIPS, encodings=ROWS.astype(np.float64))
    found = load_encodings(file, ["c", "a"], "audio.encodings")
    assert found.dtype == np.float32
    assert found.tolist() == [[4, 5], [0, 1]]


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"clips": CLIPS}, "is not an .npz of clips and encodings"),
        ({"clips": CLIPS.astype(object), "encodings": ROWS}, "it has pickled objects"),
        ({"clips": np.arange(3), "encodings": ROWS}, "clips is int64 of shape (3,); (N,) names"),
        ({"clips": CLIPS, "encodings": ROWS[:, 0]}, "encodings is float32 of shape (3,); (N,D)"),
        ({"clips": CLIPS, "encodings": ROWS.astype(int)}, "encodings is int64 of shape (3, 2)"),
        ({"clips": CLIPS, "encodings": ROWS[:2]}, "3 clips and 2 encodings; one encoding a clip"),
        ({"clips": CLIPS[[0, 0, 2]], "encodings": ROWS}, "a clip is named twice"),
        ({"clips": CLIPS[1:], "encodings": ROWS[1:]}, "the file lacks a of 2 clips"),
        ({"clips": CLIPS, "encodings": ROWS + np.inf}, "values of a, c are not finite numbers"),
    ],
)
def test_files_that_do_not_serve(tmp_path: Path, arrays: dict[str, np.ndarray], fault: str):
    file = save(tmp_path, **arrays)
    with pytest.raises(UserError) as caught:
        load_encodings(file, ["a", "c"], "audio.encodings")
    assert str(caught.value).startswith(f"audio.encodings {file}: ")
    assert fault in str(caught.value)


def test_a_file_that_is_missing_or_no_archive(tmp_path: Path):
    file = tmp_path / "x.npz"
    with pytest.raises(UserError, match=r"^audio\.encodings: .*x\.npz does not exist"):
        load_encodings(str(file), ["a"], "audio.encodings")
    file.write_bytes(b"rubbish")
    with pytest.raises(UserError, match=r"x\.npz: the file is not an \.npz"):
        load_encodings(str(file), ["a"], "audio.encodings")


def encode_labels(features: Features, folder: Path, shape: tuple[int, ...]) -> str:
    """Write encodings that tell each clip's scene, so that a model can learn from them alone."""
    names = [clip.name for clip in features.data.clips]
    encodings = np.random.default_rng(0).normal(size=(len(names), *shape))
    encodings[np.arange(len(names)), ..., features.data.scenes] += 20
    return save(folder, clips=np.array(names[::-1]), encodings=encodings[::-1])


@pytest.mark.parametrize("branch", ["audio", "visual"])
@pytest.mark.parametrize(
    ("shape", "pooling"), [((12,), "mean"), ((3, 12), "mean+max"), ((3, 12), "attention")]
)
def test_a_trial_on_encodings_from_elsewhere(
    features: Features, tmp_path: Path, branch: str, shape: tuple[int, ...], pooling: str
):
    file = encode_labels(features, tmp_path, shape)
    sets = [f"{branch}.encodings={file}", f"{branch}.pooling={pooling}", *QUICK]
    if branch == "audio" and len(shape) == 2:
        sets.append("audio.pieces=3")
    config = reset_inactive(resolve("demo", parse_set([*TINY, *sets])))
    assert getattr(config, branch).pooling == pooling
    rows = split_rows(features.data, config.split)

    inputs = prepare_inputs(config, features, rows.train)
    assert getattr(inputs, branch).shape == (30, *shape)
    *_, epoch = fit(config, features, rows.train, rows.validation)
    assert epoch.model.branches[branch].encoder is None
    assert epoch.metrics["val_acc"] >= 0.6  # 0.1 by chance

    # The model folder: evaluated on the same data, and of no use on a new file.
    whole = restore_encoders(epoch.model, config)
    save_trained(tmp_path / "model", Trained(whole, config, epoch.inputs.scale, [], [], []))
    trained = load_trained(tmp_path / "model")
    evaluation = evaluate_split(trained, features.data, "validation", no_progress)
    expected, _ = predict_rows(epoch.model, epoch.inputs, rows.validation, config)
    assert np.allclose(evaluation.probability, expected, atol=1e-6)

    clip = features.data.clips[0]
    refused = rf"^{branch}\.encodings: .*npz has no encoding of .*, and the model has no {branch}"
    with pytest.raises(UserError, match=refused):
        predict_file(trained, clip.audio, clip.video)
    with pytest.raises(UserError, match=refused):
        evaluate_split(trained, features.data, "test", no_progress, protocol="segment")
    with pytest.raises(UserError, match=refused):
        answer_unlabelled(trained, tmp_path, no_progress)


def test_the_key_knows_the_content(tmp_path: Path):
    key = trial_key(resolve("demo"))
    keys = set()
    for name, values in (("one", ROWS), ("two", ROWS), ("three", ROWS + 1)):
        (tmp_path / name).mkdir()
        file = save(tmp_path / name, clips=CLIPS, encodings=values)
        config = resolve("demo", parse_set([f"audio.encodings={file}"]))
        keys.add(trial_key(config))
        assert find_random_branches(config) == ["visual"]
    assert len(keys) == 2
    assert key not in keys


def test_settings_of_an_absent_encoder_are_inactive(tmp_path: Path):
    file = save(tmp_path, clips=CLIPS, encodings=ROWS)
    given = [f"audio.encodings={file}"]
    others = ["audio.backbone=[ast, resnet10t]", "audio.freeze=all", "audio.depth=3"]
    one, other = (
        reset_inactive(resolve("demo", parse_set(sets)))
        for sets in (given, [*given, *others, "audio.weights=[x.pth, null]"])
    )
    assert trial_key(one) == trial_key(other)
    assert build_model(one).branches["audio"].embed[0].in_features == 2


def test_encodings_are_of_clips_as_they_are(tmp_path: Path):
    file = save(tmp_path, clips=CLIPS, encodings=ROWS)
    sets = [f"visual.encodings={file}", "augmentation.gain_db=3", "augmentation.mixup=0.2"]
    assert (
        resolve("demo", parse_set(sets)).augmentation.gain_db == 3
    )  # of sound, which is not given
    with pytest.raises(UserError, match=r"augmentation\.flip: encodings from elsewhere \(visual\)"):
        resolve("demo", parse_set([*sets, "augmentation.flip=0.5"]))


def test_pieces_of_sound_must_be_those_of_the_file(tmp_path: Path):
    file = save(tmp_path, clips=CLIPS, encodings=np.ones((3, 4, 2)))
    config = resolve("demo", parse_set([f"audio.encodings={file}"]))
    with pytest.raises(UserError) as caught:
        build_model(config)
    what = f"audio.pieces: 1 in the configuration, 4 in {file}; set it to 4"
    assert str(caught.value) == what
