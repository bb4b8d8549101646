"""Every pooling of avsc_core/model/pooling.py by `avsc-core train`, frozen and not."""

from pathlib import Path

import numpy as np
import pytest

from avsc_core.data.dataset import DataSet
from avsc_core.model.pooling import POOLINGS
from tests.builders.commands import RECORD, run
from tests.builders.configs import TINY_OPTIONS
from tests.builders.records import copy_empty_record, open_record_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poolings")
    copy_empty_record(folder / RECORD)
    return folder


def train(folder: Path, scenes: Path, *sets: str) -> tuple[int, str, str]:
    """Train an epoch by the command, with three pictures and two pieces of sound a clip."""
    options = [word for setting in sets for word in ("--set", setting)]
    small = ["--set", "training.epochs=1", "--set", "pictures.frames=3", "--set", "audio.pieces=2"]
    command = ["avsc-core", "train", "--data", str(scenes), "--preset", "demo"]
    done = run(folder, *command, *TINY_OPTIONS, *small, *options)
    return done.code, done.out, done.err


@pytest.mark.parametrize("freeze", ["none", "all"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_trains_and_evaluates(folder: Path, scenes: Path, pooling: str, freeze: str):
    sets = [f"audio.pooling={pooling}", f"visual.pooling={pooling}"]
    sets += [f"audio.freeze={freeze}", f"visual.freeze={freeze}"]
    code, out, err = train(folder, scenes, *sets)
    assert code == 0, out + err

    # The model folder is whole: its figures on validation are those of the training.
    newest = open_record_in(folder, RECORD).list_trials("training", "training")[-1]
    assert newest.config.visual.pooling == pooling
    options = ["--split", "validation", "--data", str(scenes), "--out", "answers.tsv"]
    done = run(folder, "avsc-core", "evaluate", newest.run_id, *options)
    assert done.code == 0, done.out + done.err
    assert f"{newest.metrics['val_logloss']:.4f}" in done.out


def test_a_training_on_encodings_says_what_it_lacks_before_it_starts(
    folder: Path, scenes: Path, data: DataSet
):
    names = [clip.name for clip in data.clips]
    trainings = len(open_record_in(folder, RECORD).list_trials("training", "training"))
    np.savez(folder / "few.npz", clips=names[3:], encodings=np.ones((len(names) - 3, 2, 5)))
    code, out, err = train(folder, scenes, f"visual.encodings={folder / 'few.npz'}")
    assert code == 2, out
    assert f"the file lacks {', '.join(names[:3])} of {len(names)} clips" in err
    assert len(open_record_in(folder, RECORD).list_trials("training", "training")) == trainings

    np.savez(folder / "all.npz", clips=names, encodings=np.ones((len(names), 2, 5)))
    code, out, err = train(folder, scenes, f"visual.encodings={folder / 'all.npz'}")
    assert code == 0, out + err
    assert "next: avsc-core evaluate" in out
    assert "avsc-core predict" not in out
    newest = open_record_in(folder, RECORD).list_trials("training", "training")[-1]
    clip = data.clips[0].video
    done = run(folder, "avsc-core", "predict", str(clip), "--model", newest.run_id)
    assert done.code == 2
    assert "all.npz has no encoding of a new file, and the model has no visual encoder" in done.err


def test_batch_statistics_in_micro_batches_are_refused(folder: Path, scenes: Path):
    sets = ["audio.backbone=resnet10t", "compute.micro_batch=2"]
    code, out, err = train(folder, scenes, *sets)
    assert code == 2, out
    assert "compute.micro_batch: it changes the numbers of audio.backbone" in err
