"""Trained models are found by every name, and an outdated one says so."""

from pathlib import Path

import pytest

from avsc_core.config import Config
from avsc_core.errors import UserError
from avsc_core.record.models import fetch_model
from avsc_core.record.recorder import Recorder
from tests.builders.records import fresh_record

TAGS = {"avsc.study": "s", "avsc.arm": "row 1", "avsc.data": "d", "avsc.data_fingerprint": "f"}


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    recorder = fresh_record(tmp_path)
    recorder.open_study_run("s", {"avsc.metric": "val_acc"}, {})
    return recorder


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Return a folder that stands for a model."""
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    return folder


def test_models_by_every_name(recorder: Recorder, tiny: Config, local: Path):
    with pytest.raises(
        UserError,
        match=r"best:s: study s has no retrained model; `avsc-core train --best --study s`",
    ):
        fetch_model(recorder, "best:s")
    run_id = recorder.begin_run("s", tiny, TAGS | {"avsc.kind": "training"})
    source = recorder.log_folder(run_id, local, "model")
    assert recorder.register_model(run_id, source, "avsc-s", "best") == "1"
    recorder.end_run(run_id, "complete", {})
    for name in (run_id, "best:s", "models:/avsc-s@best"):
        assert (fetch_model(recorder, name) / "model.json").read_text() == "{}", name
    for name in ("absent", "models:/absent@best", "models:/avsc-s@absent", "models:/avsc-s"):
        with pytest.raises(UserError, match=f"^{name}: no model there"):
            fetch_model(recorder, name)


def test_a_model_of_an_earlier_winner_says_so(
    recorder: Recorder, tiny: Config, local: Path, capsys: pytest.CaptureFixture[str]
):
    def end_trial(seed: int, acc: float) -> str:
        config = tiny.model_copy(update={"seed": seed})
        run_id = recorder.begin_run("s", config, TAGS | {"avsc.kind": "trial"})
        recorder.end_run(run_id, "complete", {"selected_val_acc": acc, "selected_val_logloss": 1.0})
        return run_id

    winner = end_trial(0, 0.5)
    tags = TAGS | {"avsc.kind": "training", "avsc.winner": winner}
    run_id = recorder.begin_run("s", tiny, tags)
    recorder.log_folder(run_id, local, "model")
    recorder.end_run(run_id, "complete", {})
    fetch_model(recorder, "best:s")
    assert capsys.readouterr().err == ""

    # Another configuration is better than the one that was retrained.
    better = tiny.model_copy(update={"training": tiny.training.model_copy(update={"epochs": 9})})
    other = recorder.begin_run("s", better, TAGS | {"avsc.kind": "trial"})
    recorder.end_run(other, "complete", {"selected_val_acc": 0.9, "selected_val_logloss": 0.5})
    fetch_model(recorder, "best:s")
    note = "note: study s has another winner by now than the one that was retrained;"
    assert capsys.readouterr().err.startswith(note)


def test_a_study_that_is_misspelt(recorder: Recorder):
    with pytest.raises(UserError, match=r"^best:t: no study 't' in the record; one of s$"):
        fetch_model(recorder, "best:t")
