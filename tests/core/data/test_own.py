# ruff: noqa: E501 - the texts stand as people read them
"""Tests of a data set of one's own: any scenes, any folders, from clips.csv to a trained model."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from avsc_core.data.dataset import DataSet, read_dataset, split_rows
from avsc_core.data.features import build_features
from avsc_core.data.tau import is_unlabelled
from avsc_core.errors import UserError
from avsc_core.evaluation.evaluate import (
    Trained,
    evaluate_split,
    load_trained,
    predict_file,
    save_trained,
)
from avsc_core.labels import write_labels
from avsc_core.processes import no_progress
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer.loop import fit
from tests.builders.configs import TINY

SCENES = ("beach", "forest", "quarry")


@pytest.fixture
def root(data: DataSet, tmp_path: Path) -> Path:
    """Twelve clips of three scenes that TAU does not have."""
    root = tmp_path / "own"
    (root / "sound").mkdir(parents=True)
    (root / "film").mkdir()
    lines = ["audio,video,scene,group,split"]
    for number, clip in enumerate(data.clips[:12]):
        shutil.copy(clip.audio, root / "sound" / f"take {number}.wav")
        shutil.copy(clip.video, root / "film" / f"{number}.mp4")
        split = "test" if number >= 9 else "train"
        lines.append(
            f"sound/take {number}.wav,film/{number}.mp4,{SCENES[number % 3]},day {number},{split}"
        )
    (root / "clips.csv").write_text("\n".join(lines) + "\n")
    names = [f"take {number}" for number in range(12)]
    write_labels(
        root / "labels.npz",
        names,
        data.events[:12],
        data.objects[:12],
        data.event_names,
        data.object_names,
    )
    return root


def test_from_the_table_to_a_trained_model(root: Path, tmp_path: Path):
    data = read_dataset(root)
    assert data.scene_names == SCENES
    assert not is_unlabelled(root)
    assert [clip.name for clip in data.clips][:2] == ["take 0", "take 1"]
    with pytest.raises(UserError, match=r"scenes: 10 in the configuration, 3 in .*; set it to 3"):
        build_features(data, resolve("demo", parse_set(TINY)), no_progress)
    config = resolve("demo", parse_set([*TINY, "scenes=3", "augmentation.mixup=0.5"]))
    features = build_features(data, config, no_progress)
    parts = split_rows(data, config.split)
    assert len({data.clips[row].scene for row in parts.validation}) == 3

    # Train, save, and use the model on the test split and on single files.
    *_, epoch = fit(config, features, parts.train, parts.validation)
    assert epoch.selection.best.probability.shape == (len(parts.validation), 3)
    names = ([], [], list(data.scene_names))
    save_trained(tmp_path / "model", Trained(epoch.model, config, epoch.inputs.scale, *names))
    trained = load_trained(tmp_path / "model")
    result = evaluate_split(trained, data, "test", no_progress)
    assert result.probability.shape == (3, 3)
    predicted = predict_file(trained, data.clips[0].audio, data.clips[0].video)["scenes"]
    assert list(predicted) == list(SCENES)
    assert sum(predicted.values()) == pytest.approx(1)


def test_tabs_serve_as_well(root: Path):
    before = read_dataset(root)
    (root / "clips.csv").write_text((root / "clips.csv").read_text().replace(",", "\t"))
    after = read_dataset(root)
    assert after.fingerprint == before.fingerprint
    assert np.array_equal(after.scenes, before.scenes)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("sound/take 0", "../take 0", "clips.csv:2: '../take 0.wav' leaves the data folder; a path to a .wav or .mp4 or .mov file in it"),
        ("film/0", "http://host/0", "clips.csv:2: 'http://host/0.mp4' leaves the data folder; a path to a .mp4 or .mov file in it"),
        ("film/0.mp4", "film/0.avi", "clips.csv:2: 'film/0.avi' is not a .mp4 or .mov file; a path to a .mp4 or .mov file"),
        ("film/0.mp4", "film/99.mp4", "/film/99.mp4 does not exist; put it there or remove the row"),
        ("beach,day 0", ",day 0", "clips.csv:2: no scene; every clip has one"),
        ("beach,day 0", "beach,", "clips.csv:2: no group; every clip has one"),
        ("day 0,train", "day 0,dev", "clips.csv:2: unknown split 'dev'; one of test, train"),
        ("take 1.wav", "take 0.wav", "clips.csv:3: take 0 is given twice; give its audio file another name"),
        ("day 9", "day 0", "day 0: location in both train and test; keep it on one side"),
        ("scene,group", "scene,grp", "clips.csv:1: no column group; found audio, video, scene, grp, split"),
        ("audio,video", "\naudio,video", "clips.csv:1: no column audio, video, scene, group, split; found an empty file"),
        ("day 0,train", "day 0", "clips.csv:2: 4 columns; 5 as in the header"),
    ],
)  # fmt: skip
def test_bad_rows(root: Path, old: str, new: str, fault: str):
    text = (root / "clips.csv").read_text()
    assert old in text
    (root / "clips.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_dataset(root)
    found = [str(caught_fault) for caught_fault in caught.value.faults]
    assert any(fault in text for text in found)


def test_a_coarse_head_is_refused(root: Path):
    """Before any feature is computed; TAU's ten scenes alone have coarse classes."""
    settings = parse_set([*TINY, "scenes=3"])
    with pytest.raises(UserError, match=r"--set: losses.coarse: the coarse classes are those of"):
        resolve("demo", [*settings, *parse_set(["losses.coarse=1"])])
    data = read_dataset(root)
    ten = data._replace(scene_names=(*"abcdefg", *SCENES))
    config = resolve("demo", parse_set([*TINY, "losses.coarse=1"]))
    with pytest.raises(UserError, match=r"losses.coarse: .* without a coarse class: a, b, beach"):
        build_features(ten, config, no_progress)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
def test_a_table_as_a_spreadsheet_writes_it(root: Path, delimiter: str):
    table = root / "clips.csv"
    rows = table.read_text().splitlines()
    written = "\r\n".join(delimiter.join(f'"{cell}"' for cell in row.split(",")) for row in rows)
    table.write_text("\N{ZERO WIDTH NO-BREAK SPACE}" + written, encoding="utf-8")
    assert len(read_dataset(root).clips) == 12


def test_endings_in_capitals_and_of_quicktime(root: Path):
    (root / "sound/take 0.wav").rename(root / "sound/take 0.WAV")
    (root / "film/0.mp4").rename(root / "film/0.MOV")
    (root / "film/1.mp4").rename(root / "film/1.MP4")
    table = root / "clips.csv"
    text = table.read_text().replace("take 0.wav", "take 0.WAV")
    table.write_text(text.replace("film/0.mp4", "film/0.MOV").replace("film/1.mp4", "film/1.MP4"))
    clips = read_dataset(root).clips
    assert [clip.video.name for clip in clips[:3]] == ["0.MOV", "1.MP4", "2.mp4"]
