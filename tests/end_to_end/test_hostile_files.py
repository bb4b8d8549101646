"""Files that would run code if anybody unpickled them, planted wherever files are read.

What reads them: avsc_core/weights/published.py, avsc_core/weights/model_folder.py,
avsc_core/weights/encodings.py, avsc_core/labels.py, avsc_core/cache/store.py,
avsc_core/trainer/checkpoint.py, avsc_core/record/reading/record.py.
"""

import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avsc_core.config import Config
from avsc_core.data.dataset import split_rows
from avsc_core.data.features import Features, locate_features
from avsc_core.data.logmel import AUDIOSET
from avsc_core.evaluation.evaluate import Trained, save_trained
from avsc_core.model import build_model
from avsc_core.trainer.loop import fit
from studies.study.plan import make_plan
from studies.study.reading import read_study
from tests.builders.commands import RECORD, Done, run
from tests.builders.configs import TINY_OPTIONS
from tests.builders.records import copy_empty_record, open_record_in
from tests.builders.reports import make_dataset, record_study


class Hostile:
    """An object that makes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


STUDY = """\
question: Which is better?
seeds: [0, 1]
arms: [{name: a}, {name: b, set: {alignment.k: 3}}]
"""

# What commands say before they read a planted file.
ANNOUNCEMENTS = ("note: ", "embedded scenes ", "reading ", "computing ")

Plant = Callable[[Path, Hostile], None]


def plant_pickle(path: Path, hostile: Hostile) -> None:
    path.write_bytes(pickle.dumps({"content": hostile}))


def plant_torch(path: Path, hostile: Hostile) -> None:
    torch.save({"stem.0.weight": torch.zeros(1), "content": hostile}, path)


def plant_old_torch(path: Path, hostile: Hostile) -> None:
    torch.save({"content": hostile}, path, _use_new_zipfile_serialization=False)


def plant_array(path: Path, hostile: Hostile) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([hostile], dtype=object), allow_pickle=True)


def plant_arrays(path: Path, hostile: Hostile) -> None:
    names = ("clips", "encodings", "events", "objects", "event_names", "object_names")
    content = {name: np.array([hostile], dtype=object) for name in names}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, **content)


PLANTS = {
    plant.__name__: plant
    for plant in (plant_pickle, plant_torch, plant_old_torch, plant_array, plant_arrays)
}


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Hostile]:
    """Yield the object, and check that nobody has unpickled it; that it works is checked too."""
    proof = tmp_path / "executed"
    yield Hostile(proof)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Hostile(proof)))
    assert proof.exists()


@pytest.fixture(params=PLANTS)
def plant(request: pytest.FixtureRequest) -> Plant:
    return PLANTS[request.param]


def check_refused(done: Done, *words: str) -> None:
    """Check that a command ended with one line for each fault, in exit code 2 or 4."""
    assert done.code in (2, 4), done.err
    lines = [line for line in done.err.splitlines() if not line.startswith(ANNOUNCEMENTS)]
    lines = [line for line in lines if not re.fullmatch(r"[\w -]+: \d+/\d+", line)]  # progress
    assert len(lines) == 1, done.err
    assert "weights_only" not in lines[0]
    assert "allow_pickle" not in lines[0]
    for word in words:
        assert word in lines[0]


def train(folder: Path, scenes: Path, *settings: str) -> Done:
    options = [word for setting in settings for word in ("--set", setting)]
    command = ("avsc-core", "train", "--data", str(scenes), "--preset", "demo")
    return run(folder, *command, *TINY_OPTIONS, *options)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_weights(tmp_path: Path, scenes: Path, hostile: Hostile, plant: Plant, name: str):
    plant(tmp_path / name, hostile)
    done = train(tmp_path, scenes, f"visual.weights={tmp_path / name}")
    check_refused(done, name)
    # Pickled objects, or whatever else torch and safetensors refuse.
    assert re.search("could run code|holds no tensors that can be read safely", done.err)

    folder = tmp_path / "published"
    folder.mkdir()
    (tmp_path / name).rename(folder / name)
    teachers = ("--audio-teacher", str(folder), "--visual-teacher", str(folder))
    done = run(tmp_path, "avsc-core", "pseudo", str(scenes), *teachers, "--out", "labels.npz")
    assert done.code == 2
    assert "Traceback" not in done.err


def test_encodings(tmp_path: Path, scenes: Path, hostile: Hostile, plant: Plant):
    plant(tmp_path / "e.npz", hostile)
    done = train(tmp_path, scenes, f"visual.encodings={tmp_path / 'e.npz'}")
    check_refused(done, "e.npz", "is not an .npz of clips and encodings")


def test_labels(tmp_path: Path, scenes: Path, hostile: Hostile, plant: Plant):
    root = tmp_path / "data"
    shutil.copytree(scenes, root)
    plant(root / "labels.npz", hostile)
    check_refused(run(tmp_path, "avsc-core", "check", str(root)), "not a label file")
    check_refused(train(tmp_path, root), "not a label file")


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_model_folder(
    tmp_path: Path, scenes: Path, tiny: Config, hostile: Hostile, plant: Plant, name: str
):
    model = tmp_path / "model"
    save_trained(model, Trained(build_model(tiny), tiny, AUDIOSET, [], [], []))
    plant(model / name, hostile)
    clip = str(next(scenes.rglob("*.wav")))
    for command in (
        ("avsc-core", "evaluate", str(model), "--data", str(scenes)),
        ("avsc-core", "predict", clip, "--model", str(model)),
    ):
        check_refused(run(tmp_path, *command), "this is not a model folder")


def test_rows_of_the_cache(
    tmp_path: Path, scenes: Path, features: Features, tiny: Config, hostile: Hostile, plant: Plant
):
    root = tmp_path / "cache"
    folder, _ = locate_features(features.data, tiny)
    shutil.copytree(folder.parents[1], root)
    array = root / folder.relative_to(folder.parents[1]) / "array.npy"
    plant(array, hostile)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVSC_CACHE", str(root))
        check_refused(train(tmp_path, scenes), "array.npy")


def test_a_checkpoint(
    tmp_path: Path, features: Features, tiny: Config, hostile: Hostile, plant: Plant
):
    path = tmp_path / "checkpoint.pt"
    plant(path, hostile)
    rows = split_rows(features.data, tiny.split)
    with suppress(Exception):  # told, and begun anew or not: nothing is unpickled
        next(fit(tiny, features, rows.train, rows.validation, checkpoint=path))


def test_artifacts_of_the_record(tmp_path: Path, hostile: Hostile, plant: Plant):
    """Every artifact of a study is planted, and every command that reads a record is run."""
    copy_empty_record(tmp_path / RECORD)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    plan = make_plan(read_study(tmp_path / "tiny.yaml"))
    record_study(open_record_in(tmp_path, RECORD), plan, make_dataset())
    files = (tmp_path / "mlruns").rglob("*")
    artifacts = [path for path in files if path.suffix in (".json", ".tsv")]
    assert len(artifacts) > 4
    for path in artifacts:
        plant(path, hostile)

    for verb in ("status", "best", "report", "plot", "export"):
        done = run(tmp_path, "avsc-search", verb, "tiny")
        if done.code:
            check_refused(done, "record")
    done = run(tmp_path, "avsc-core", "train", "--best", "--study", "tiny")
    assert done.code in (2, 4)
