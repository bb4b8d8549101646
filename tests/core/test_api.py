"""The public names of avsc_core: loaded when used, and each one run for real on tiny scenes."""

import subprocess
import sys
from pathlib import Path

import pytest

import avsc_core
from avsc_core.config import Config
from avsc_core.record.recorder import Recorder
from avsc_core.resolve import resolve, trial_key


def test_every_public_name_is_there():
    assert set(avsc_core.__all__) <= set(dir(avsc_core))
    for name in avsc_core.__all__:
        assert getattr(avsc_core, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        avsc_core.tarin  # noqa: B018 - reading it is the test


def test_a_configuration_is_loaded_without_torch():
    code = "import avsc_core, sys; avsc_core.load_config('demo'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_configurations_come_from_presets_and_files(tmp_path: Path):
    assert avsc_core.load_config() == resolve("paper")
    assert avsc_core.load_config("demo", {"alignment.k": 10}).alignment.k == 10
    assert avsc_core.load_config("demo", {"alignment": {"k": 10}}).alignment.k == 10

    file = tmp_path / "mine.yaml"
    file.write_text("alignment: {k: 7, mode: rkm}\n")
    config = avsc_core.load_config(file, {"alignment.k": 8})
    assert (config.alignment.k, config.alignment.mode) == (8, "rkm")


@pytest.mark.parametrize(
    ("source", "overrides", "fault"),
    [
        ("papre", {}, "papre: is neither a preset nor a file; demo, frozen, paper, or a YAML file"),
        (
            "demo",
            {"alignment.k": 99},
            "overrides: alignment.k: 99 is above half the classes; allowed: 1 to 32",
        ),
        (
            "demo",
            {"alignmnt.k": 9},
            "overrides: unknown key 'alignmnt.k'; did you mean 'alignment.k'?; "
            "see `avsc-core config`",
        ),
    ],
)
def test_faults_of_a_configuration(source: str, overrides: dict[str, object], fault: str):
    with pytest.raises(avsc_core.UserError) as caught:
        avsc_core.load_config(source, overrides)
    assert [str(each) for each in caught.value.faults] == [fault]


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new record, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/record.db"


def test_training_evaluation_and_prediction(scenes: Path, tiny: Config, uri: str):
    result = avsc_core.train(tiny, scenes, uri)
    assert {"val_acc", "val_logloss"} <= set(result.metrics)

    model = avsc_core.load_model(result.run_id, uri)
    assert trial_key(model.config) == trial_key(tiny)
    by_reference = avsc_core.evaluate(result.run_id, scenes, split="validation", tracking_uri=uri)
    by_model = avsc_core.evaluate(model, scenes, split="validation")
    assert by_reference.metrics == by_model.metrics
    assert by_model.metrics["acc"] == result.metrics["val_acc"]
    assert len(avsc_core.evaluate(model, scenes).names) == 10

    clip = next((scenes / "video").glob("*.mp4"))
    prediction = avsc_core.predict(model, clip)
    assert sum(prediction["scenes"].values()) == pytest.approx(1)
    assert len(prediction["events"]) == len(prediction["objects"]) == 5
    assert avsc_core.predict(result.run_id, clip, uri)["scenes"] == prediction["scenes"]


def test_a_study_is_a_table(tiny: Config, uri: str):
    with pytest.raises(avsc_core.UserError, match="no record in this folder"):
        avsc_core.open_study("mine", uri)
    recorder = Recorder(uri)
    recorder.open_study_run("mine", {"avsc.metric": "val_acc"}, {})
    tags = {"avsc.kind": "trial", "avsc.arm": "one", "avsc.data": "scenes"}
    run_id = recorder.begin_run("mine", tiny, tags)
    recorder.end_run(run_id, "complete", {"best_val_acc": 0.5})

    trials = avsc_core.open_study("mine", uri)
    row = trials.iloc[0]
    assert (row["run_id"], row["arm"], row["outcome"]) == (run_id, "one", "complete")
    assert (row["training.epochs"], row["best_val_acc"]) == (3, 0.5)
    with pytest.raises(avsc_core.UserError, match="did you mean 'mine'"):
        avsc_core.open_study("mien", uri)
