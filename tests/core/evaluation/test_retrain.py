"""One training, recorded: it is one at a time, and leaves nothing behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avsc_core.config import Config
from avsc_core.data.features import Features
from avsc_core.errors import Diverged, UserError
from avsc_core.evaluation import retrain
from avsc_core.record.address import CHECKPOINTS
from avsc_core.record.recorder import Recorder
from tests.builders.records import fresh_record


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.chdir(tmp_path)
    return fresh_record(tmp_path)


def checkpoints() -> list[Path]:
    return list(CHECKPOINTS.rglob("*.pt"))


def test_the_same_training_twice_at_once_is_refused(
    recorder: Recorder, tiny: Config, features: Features
):
    told = []

    def meanwhile(*about: object) -> None:
        with pytest.raises(UserError) as caught:
            retrain.train_recorded(recorder, tiny, features, print)
        told.append(str(caught.value))

    retrain.train_recorded(recorder, tiny, features, meanwhile)
    assert set(told) == {
        "training: the same training is running in another process; "
        "wait for it, or train with another --set seed"
    }
    (run,) = recorder.list_trials("training", "training")
    assert run.outcome == "complete"
    assert checkpoints() == []


def test_a_diverged_training_leaves_no_checkpoint(
    recorder: Recorder, tiny: Config, features: Features, monkeypatch: pytest.MonkeyPatch
):
    def diverges(*args: Any, checkpoint: Path, **kwargs: Any) -> Iterator[None]:
        checkpoint.touch()
        yield from ()
        raise Diverged("epoch 1: train_total is not finite")

    monkeypatch.setattr(retrain, "fit", diverges)
    with pytest.raises(
        UserError, match=r"^training: diverged, epoch 1: train_total is not finite; a lower"
    ):
        retrain.train_recorded(recorder, tiny, features, print)
    assert recorder.list_trials("training", "training")[0].outcome == "diverged"
    assert checkpoints() == []
