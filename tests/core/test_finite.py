"""Values that are not finite, put in wherever values enter; each is refused by name."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avsc_core.config import Config
from avsc_core.data.batches import compute_scale
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.data.features import Features, build_features, locate_features
from avsc_core.data.logmel import AUDIOSET
from avsc_core.errors import UserError
from avsc_core.evaluation.evaluate import Trained, evaluate_split, load_trained, save_trained
from avsc_core.files import cache_root
from avsc_core.finite import check_finite, is_finite
from avsc_core.labels import read_labels
from avsc_core.model import build_model
from avsc_core.processes import no_progress
from avsc_core.resolve import parse_set, resolve
from avsc_core.teachers.pseudo import label_clips
from avsc_core.trainer.loop import fit
from avsc_core.weights.pretrained import check_pretrained
from tests.builders.commands import run
from tests.builders.configs import TINY
from tests.builders.weights import CONVNEXT, reference_convnext

WRONG = "has values that are not finite"
LIMIT = 3e38  # a finite weight that makes infinite products


def faults(caught: pytest.ExceptionInfo[UserError]) -> list[str]:
    return [str(fault) for fault in caught.value.faults]


def configured(*sets: str) -> Config:
    return resolve("demo", parse_set([*TINY, *sets]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_type_of_value(value: float):
    for values in (np.array([1.0, value], np.float16), torch.tensor([1.0, value]).bfloat16()):
        assert not is_finite(values)
        assert is_finite(values[:1])
    assert is_finite(np.arange(3))
    assert is_finite(np.zeros((0, 3)))


def test_many_are_counted():
    entries = [(f"clip {number}", "its row", np.array(np.nan)) for number in range(9)]
    with pytest.raises(UserError) as caught:
        check_finite(entries, todo="look")
    assert faults(caught)[0] == f"clip 0: its row {WRONG}; look"
    assert faults(caught)[6:] == ["...: and 3 more like it; look"]


@pytest.mark.parametrize("key", ["training.head_multiplier", "log_mel.hop_ms", "pictures.offset_s"])
def test_a_setting(key: str):
    with pytest.raises(UserError, match=f"^--set: {key}: 'inf' is not allowed; input should be a"):
        configured(f"{key}=inf")


def test_a_tensor_of_pretrained_weights(tmp_path: Path):
    state = reference_convnext().state_dict()
    state["features.1.0.block.2.weight"][3] = torch.nan
    state["classifier.2.bias"][0] = torch.nan  # of the source's classifier, which is not read
    torch.save(state, tmp_path / "convnext.pth")
    config = configured(*CONVNEXT, f"visual.weights={tmp_path / 'convnext.pth'}")
    with pytest.raises(UserError) as caught:
        check_pretrained(config)
    assert faults(caught) == [
        f"visual.weights {tmp_path / 'convnext.pth'}: tensor stages.0.blocks.0.norm.weight {WRONG};"
        " get the file again, or train again"
    ]


def test_a_model_folder(tmp_path: Path, tiny: Config):
    trained = Trained(build_model(tiny), tiny, AUDIOSET, [], [], [])
    folder = tmp_path / "model"
    save_trained(folder, trained)
    assert load_trained(folder).scale == AUDIOSET

    description = json.loads((folder / "model.json").read_text())
    description["extra"]["scale"]["std"] = float("nan")
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=f"model.json: the scale of log-mels {WRONG}; train the"):
        load_trained(folder)

    tensors = load_file(folder / "model.safetensors")
    tensors["audio.classifier.bias"][1] = torch.inf
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=f"safetensors: tensor audio.classifier.bias {WRONG}; get"):
        load_trained(folder)


def test_what_a_frozen_encoder_makes_of_clips(data: DataSet, tmp_path: Path):
    """Finite weights that are too large: the checkpoint passes, its encodings do not."""
    state = reference_convnext().state_dict()
    state["features.0.0.weight"].fill_(LIMIT)
    torch.save(state, tmp_path / "convnext.pth")
    weights = f"visual.weights={tmp_path / 'convnext.pth'}"
    config = configured(*CONVNEXT, weights, "visual.freeze=all")
    features = build_features(data, config, no_progress)
    rows = split_rows(data, config.split)
    with pytest.raises(UserError) as caught:
        next(fit(config, features, rows.train, rows.validation))
    assert len(faults(caught)) == len(data.clips)
    assert faults(caught)[0] == (
        f"{data.clips[0].name}: what the frozen visual encoder makes of it {WRONG}; "
        "look at its files and at the weights; fp16 can overflow, float32 cannot"
    )
    assert not list((cache_root() / "features").glob("visual_encoding-*/array.npy"))


def test_what_a_teacher_answers(scenes: Path, tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    assert transformers
    from tests.builders.weights import reference_ast, save_ast

    ast = save_ast(reference_ast(frames=1024), "current", tmp_path / "ast")
    state = reference_convnext().state_dict()
    state["classifier.2.weight"].fill_(LIMIT)
    torch.save(state, tmp_path / "convnext.pth")
    config = configured("pictures.frames=2")
    teachers = (str(ast), str(tmp_path / "convnext.pth"))
    with pytest.raises(UserError) as caught:
        label_clips(scenes, config, *teachers, tmp_path / "labels.npz", no_progress)
    assert f": what the teacher ConvNeXt torchvision makes of it {WRONG}; look" in faults(caught)[0]
    assert not (tmp_path / "labels.npz").exists()


def damage(path: Path, place: tuple[int, ...], value: float) -> None:
    """Change a value of an array as a failing disk does: the time of the file stays."""
    before = path.stat()
    array = np.load(path, mmap_mode="r+")
    array[place] = value
    array.flush()
    del array
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def damaged(data: DataSet) -> Iterator[tuple[Features, Config, str]]:
    """Features of their own, where one training clip's log-mel has a value that is not a number."""
    config = configured("log_mel.window_ms=26")
    build_features(data, config, no_progress)
    row = split_rows(data, config.split).train[2]
    path = locate_features(data, config)[0] / "array.npy"
    damage(path, (row, 5, 5), np.nan)
    yield build_features(data, config, no_progress), config, data.clips[row].name
    damage(path, (row, 5, 5), 0.0)


def test_a_row_of_a_damaged_cache(damaged: tuple[Features, Config, str], tmp_path: Path):
    features, config, name = damaged
    data = features.data
    rows = split_rows(data, config.split)
    todo = f"`avsc-core features {data.root} --verify` computes it again"
    expected = [f"{name}: its log-mel in the cache {WRONG}; {todo}"]

    # in training, in its normalisation, in the evaluation of a model
    with pytest.raises(UserError) as caught:
        next(fit(config, features, rows.train, rows.validation))
    assert faults(caught) == expected
    with pytest.raises(UserError) as caught:
        compute_scale(features._replace(sums=None), "dataset", rows.train)
    assert faults(caught) == expected
    trained = Trained(build_model(config).eval(), config, AUDIOSET, [], [], [])
    with pytest.raises(UserError) as caught:
        evaluate_split(trained, data, "train", no_progress)
    assert faults(caught) == expected

    # and the remedy that the fault names helps
    sets = [word for text in (*TINY, "log_mel.window_ms=26") for word in ("--set", text)]
    command = ("avsc-core", "features", str(data.root), "--preset", "demo", "--verify", *sets)
    code, out, err = run(tmp_path, *command)
    assert code == 0, err
    assert "1 damaged rows, computed again" in out
    features = build_features(data, config, no_progress)
    assert next(fit(config, features, rows.train, rows.validation)).number == 1


def test_an_encoding_of_a_damaged_cache(data: DataSet):
    config = configured("audio.freeze=all", "audio.width=18")
    features = build_features(data, config, no_progress)
    rows = split_rows(data, config.split)
    next(fit(config, features, rows.train, rows.validation))
    (path,) = (cache_root() / "features").glob("audio_encoding-*/array.npy")
    damage(path, (rows.train[0], 0), np.inf)
    with pytest.raises(UserError) as caught:
        next(fit(config, features, rows.train, rows.validation))
    files = cache_root() / "features" / "audio_encoding-*"
    name = data.clips[rows.train[0]].name
    assert faults(caught) == [
        f"{name}: its audio encoding in the cache {WRONG}; delete {files}: they are computed again"
    ]


def test_labels_and_probabilities(tmp_path: Path):
    path = tmp_path / "labels.npz"
    clips = ["a", "b", "c"]
    arrays = {
        "clips": np.array(clips),
        "events": np.eye(3),
        "objects": np.ones((3, 2)),
        "event_names": np.array(["x", "y", "z"]),
        "object_names": np.array(["u", "v"]),
        "event_sigmoid": np.full((3, 3), 0.5),
    }
    np.savez(path, **arrays)
    assert read_labels(path).clips == clips

    arrays["events"][2, 0] = 2
    arrays["objects"][1, 1] = np.nan
    arrays["event_sigmoid"][0] = np.nan
    arrays["event_sigmoid"][1] = 1.5
    np.savez(path, **arrays)
    with pytest.raises(UserError) as caught:
        read_labels(path)
    todo = "make the file again: `avsc-core pseudo` writes one"
    assert faults(caught) == [
        f"{path}: events of 1 clips have other values, first c; 0 or 1; {todo}",
        f"{path}: objects of 1 clips have other values, first b; 0 or 1; {todo}",
        f"{path}: event_sigmoid of 2 clips have other values, first a; "
        f"probabilities from 0 to 1; {todo}",
    ]
