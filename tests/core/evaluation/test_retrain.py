"""One training, recorded: it is one at a time, and leaves nothing behind.

A winner's trial is trained again and compared, and its retraining says where it comes from.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avsc_core import display
from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, SplitRows, split_rows
from avsc_core.data.features import Features
from avsc_core.errors import Diverged, NotReproduced, UserError
from avsc_core.evaluation import retrain
from avsc_core.evaluation.evaluate import (
    Provenance,
    evaluate_split,
    find_pair,
    is_trained_on,
    load_trained,
)
from avsc_core.evaluation.retrain import check_winner, train_recorded
from avsc_core.metrics import compute_scores, format_predictions
from avsc_core.processes import no_progress
from avsc_core.record.address import locate_state
from avsc_core.record.environment import describe_environment
from avsc_core.record.models import fetch_model
from avsc_core.record.recorder import Recorder
from avsc_core.record.winner import Winner, find_winner
from avsc_core.trainer.checkpoint import CheckpointFile
from avsc_core.trainer.loop import fit
from tests.builders.records import fresh_record


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.chdir(tmp_path)
    return fresh_record(tmp_path)


def checkpoints(recorder: Recorder) -> list[Path]:
    return list(locate_state(recorder.uri).rglob("*.pt"))


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
    assert checkpoints(recorder) == []


def test_a_diverged_training_leaves_no_checkpoint(
    recorder: Recorder, tiny: Config, features: Features, monkeypatch: pytest.MonkeyPatch
):
    def diverges(*args: Any, checkpoint: CheckpointFile, **kwargs: Any) -> Iterator[None]:
        checkpoint.path.touch()
        yield from ()
        raise Diverged("epoch 1: train_total is not finite")

    monkeypatch.setattr(retrain, "fit", diverges)
    with pytest.raises(
        UserError, match=r"^training: diverged, epoch 1: train_total is not finite; a lower"
    ):
        retrain.train_recorded(recorder, tiny, features, print)
    assert recorder.list_trials("training", "training")[0].outcome == "diverged"
    assert checkpoints(recorder) == []


Change = Callable[[np.ndarray], np.ndarray]
PUBLISHED = {"table": "II", "row": 4, "acc": 0.9, "logloss": 0.3}


def record_winner(
    recorder: Recorder,
    config: Config,
    features: Features,
    rows: SplitRows | None = None,
    change: Change = np.asarray,
    rule: str = "best",
) -> Winner:
    """Train and record a study of one trial as the runner does.

    `change` turns its probabilities (N,S) into those that are recorded.
    """
    data = features.data
    arms = [{"name": "both", "published": PUBLISHED}, {"name": "none", "published": None}]
    tags = {"avsc.metric": "val_logloss"}
    document = {"format": 2, "definition": {"select": rule}, "metadata": {"arms": arms}}
    recorder.open_study_run("s", tags, document)
    about = {"avsc.kind": "trial", "avsc.study": "s", "avsc.role": "arm", "avsc.arm": "none = both"}
    run_id = recorder.begin_run("s", config, about | {"avsc.data_fingerprint": data.fingerprint})
    recorder.add_environment(run_id, describe_environment(config))

    rows = rows or split_rows(data, config.split)
    *_, epoch = fit(config, features, rows.train, rows.validation, metric="val_logloss")
    selected = epoch.selection.select(rule)
    probability = change(selected.probability)
    names = [data.clips[row].name for row in rows.validation]
    table = format_predictions(names, probability, data.scene_names)
    recorder.log_text(run_id, "predictions_val.tsv", table)
    scores = compute_scores(probability, data.scenes[rows.validation])
    metrics = {f"best_val_{name}": value for name, value in scores.items()}
    recorder.end_run(run_id, "complete", metrics | {"best_epoch": float(selected.epochs)})
    return find_winner(recorder, "s")


def check(recorder: Recorder, winner: Winner, features: Features) -> retrain.Check:
    return check_winner(recorder, winner.trial.config, features, print, winner)


@pytest.mark.parametrize("rule", ["best", "crossfit"])
def test_a_trial_comes_out_again_to_the_last_digit(
    recorder: Recorder,
    tiny: Config,
    features: Features,
    monkeypatch: pytest.MonkeyPatch,
    rule: str,
):
    torch.set_num_threads(1)
    winner = record_winner(recorder, tiny, features, rule=rule)
    monkeypatch.setattr(retrain, "evaluate_rows", lambda *args: pytest.fail("test was read"))
    torch.set_num_threads(2)  # a check computes with the trial's one thread
    try:
        found = check(recorder, winner, features)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)

    assert found.exact
    figure = winner.trial.metrics["best_val_logloss"]
    assert found.recorded == found.again == figure
    assert found.verdict == f"val_logloss {figure:.4f} again, every probability to the last digit"

    # it counts neither as a trial nor as a training of the winner
    (run,) = recorder.list_trials("s", "check")
    assert (run.run_id, run.outcome) == (found.run_id, "complete")
    assert run.tags["avsc.check"] == found.verdict
    assert run.tags["avsc.threads"] == "1"
    assert recorder.list_trials("s", "training") == []
    assert len(recorder.list_trials("s")) == 1
    assert find_winner(recorder, "s") == winner


def test_a_trial_is_checked_on_the_clips_it_was_validated_on(
    recorder: Recorder, tiny: Config, features: Features
):
    """Another version may draw the split of the same settings in another way."""
    other = tiny.split.model_copy(update={"seed": 5})
    rows = split_rows(features.data, other)
    assert set(rows.validation) != set(split_rows(features.data, tiny.split).validation)
    assert check(recorder, record_winner(recorder, tiny, features, rows), features).exact


def test_a_figure_within_its_interval(recorder: Recorder, tiny: Config, features: Features):
    winner = record_winner(recorder, tiny, features, change=lambda table: 0.99 * table + 0.001)
    found = check(recorder, winner, features)
    assert not found.exact
    assert found.low < found.again < found.high
    assert found.verdict == (
        f"val_logloss {found.again:.4f}, within the trial's "
        f"95 % interval {found.low:.4f} to {found.high:.4f} ({found.recorded:.4f})"
    )


def test_a_miss_stops_before_the_test_split(recorder: Recorder, tiny: Config, features: Features):
    def flatter(table: np.ndarray) -> np.ndarray:
        scenes = features.data.scenes[split_rows(features.data, tiny.split).validation]
        sure = np.linspace(0.8, 0.99, len(scenes))[:, None] * np.eye(table.shape[1])[scenes]
        flattered: np.ndarray = sure + 1e-3
        return flattered

    winner = record_winner(recorder, tiny, features, change=flatter)
    with pytest.raises(NotReproduced) as caught:
        check(recorder, winner, features)
    assert caught.value.exit_code == 3
    (run,) = recorder.list_trials("s", "check")
    again = run.metrics["best_val_logloss"]
    recorded = winner.trial.metrics["best_val_logloss"]
    text = str(caught.value)
    assert text.startswith(f"--check: val_logloss {again:.4f}, outside the trial's 95 % interval ")
    assert text.endswith(
        f" ({recorded:.4f}); the test split was not read; "
        "see what changed since the trial, or retrain without --check"
    )
    assert run.tags["avsc.check"] in text


def test_without_an_interval_only_the_same_figure_will_do():
    found = retrain.Check("r", "val_acc", 1.0, 1.0, np.nan, np.nan, exact=False)
    assert found.is_met
    assert found.verdict == "val_acc 1.0000; the trial's 1.0000 has no interval"
    assert not found._replace(again=0.9).is_met


def test_earlier_readings_of_the_test_split_are_counted(
    recorder: Recorder, tiny: Config, features: Features, capsys: pytest.CaptureFixture[str]
):
    data = features.data
    winner = record_winner(recorder, tiny, features)
    told = "note: retrainings of this study have read this test split {} before;"
    for times in ("", "once", "2 times"):
        display.note_earlier_readings(recorder.list_trials(winner.study, "training"), data)
        err = capsys.readouterr().err
        assert err.startswith(told.format(times)) if times else err == ""
        tags = {"avsc.kind": "training", "avsc.study": winner.study}
        tags |= {"avsc.arm": "winner", "avsc.data_fingerprint": data.fingerprint}
        run_id = recorder.begin_run(winner.study, tiny, tags)
        recorder.end_run(run_id, "complete", {})
    # Those of other clips, and those that did not come to the test, are none.
    for fingerprint, outcome in (("other", "complete"), (data.fingerprint, "failed")):
        tags |= {"avsc.data_fingerprint": fingerprint}
        run_id = recorder.begin_run(winner.study, tiny, tags)
        recorder.end_run(run_id, outcome, {})
    display.note_earlier_readings(recorder.list_trials(winner.study, "training"), data)
    assert capsys.readouterr().err.startswith(told.format("3 times"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("absent.mp4", "absent.mp4: no such file"),
        ("clip.wav", "clip.wav: no .mp4 of that name; "),
        ("clip", "clip: no .mp4 of that name; "),
    ],
)
def test_a_file_that_is_missing_is_the_one_that_is_named(tmp_path: Path, given: str, told: str):
    (tmp_path / "clip.wav").touch()
    with pytest.raises(UserError) as caught:
        find_pair(tmp_path / given)
    assert str(caught.value).startswith(f"{tmp_path}/{told}")


@pytest.mark.parametrize("ending", [".mp4", ".MP4", ".mov", ".MOV"])
def test_a_clip_is_found_whatever_its_endings(tmp_path: Path, ending: str):
    files = tmp_path / "clip.WAV", tmp_path / f"clip{ending}"
    for file in files:
        file.touch()
    for given in (*files, tmp_path / "clip"):
        assert find_pair(given) == files


def test_what_changed_since_the_trial_is_said(
    recorder: Recorder, tiny: Config, features: Features, capsys: pytest.CaptureFixture[str]
):
    winner = record_winner(recorder, tiny, features)
    display.note_changes(winner, tiny)
    assert capsys.readouterr().err == ""
    # A retraining takes the trial's number of threads, where it has one.
    older = winner.trial.tags | {"avsc.threads": "7 then 1"}
    del older["avsc.commit"]
    display.note_changes(winner._replace(trials=(winner.trial._replace(tags=older),)), tiny)
    assert capsys.readouterr().err.splitlines() == [
        "changed since the trial: threads: 7 then 1, now 1",
        "changed since the trial: commit: not recorded",
    ]


def test_a_retrained_model_says_where_it_comes_from(
    recorder: Recorder, tiny: Config, features: Features
):
    data = features.data
    winner = record_winner(recorder, tiny, features)
    result = train_recorded(recorder, tiny, features, print, winner, verdict="it came out")
    trained = load_trained(fetch_model(recorder, result.run_id))
    assert trained.provenance == Provenance(
        splits=["train", "validation"],
        fingerprint=data.fingerprint,
        study="s",
        trial=winner.trial.run_id,
        trial_key=winner.trial.key,
        changed=[],
        row="Table II, row 4",
        check="it came out",
    )
    (run,) = recorder.list_trials("s", "training")
    assert run.tags["avsc.check"] == "it came out"
    assert run.tags["avsc.device"] == winner.trial.tags["avsc.device"]

    # its figures on the clips it learned are asked for as such, or not at all
    with pytest.raises(UserError) as caught:
        evaluate_split(trained, data, "validation", no_progress)
    assert str(caught.value) == (
        "--split: the model was trained on the validation clips too, so they tell nothing new; "
        "test, or train for the figures of a training; "
        "the validation figures of its configuration are those of the study's trial"
    )
    assert is_trained_on(trained, data, "train")
    assert not is_trained_on(trained, data, "test")
    assert evaluate_split(trained, data, "train", no_progress).names
    other = data._replace(fingerprint="another")
    assert evaluate_split(trained, other, "validation", no_progress).names


def test_a_retraining_with_other_settings_is_not_a_row_of_the_paper(
    recorder: Recorder,
    tiny: Config,
    features: Features,
    data: DataSet,
    capsys: pytest.CaptureFixture[str],
):
    winner = record_winner(recorder, tiny, features)
    training = tiny.training.model_copy(update={"batch_size": 7})
    other = tiny.model_copy(update={"seed": 3, "training": training})
    result = train_recorded(recorder, other, features, print, winner)
    trained = load_trained(fetch_model(recorder, result.run_id))
    assert trained.provenance.changed == ["training.batch_size 7"]
    assert trained.provenance.row == ""
    capsys.readouterr()
    display.note_provenance(trained, data, "train")
    trial = winner.trial.key[:6]
    told = f"model: winner of study s, trial {trial}, with training.batch_size 7; check: none\n"
    assert capsys.readouterr().err == told


def test_encodings_that_changed_since_the_training_are_named(
    recorder: Recorder,
    tiny: Config,
    features: Features,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """Only the path of such a file is a setting; what is in it may be another network's."""
    file = tmp_path / "visual.npz"
    names = np.array([clip.name for clip in features.data.clips])
    values = np.random.default_rng(0).normal(size=(len(names), 4))
    np.savez(file, clips=names, encodings=values)
    visual = tiny.visual.model_copy(update={"encodings": str(file)})
    config = tiny.model_copy(update={"visual": visual})
    result = train_recorded(recorder, config, features, print)
    trained = load_trained(fetch_model(recorder, result.run_id))
    capsys.readouterr()
    display.note_provenance(trained, features.data, "train")
    assert capsys.readouterr().err == ""

    np.savez(file, clips=names, encodings=2 * values)
    display.note_provenance(trained, features.data, "train")
    told = f"note: visual.encodings {file} has changed since the model was trained\n"
    assert capsys.readouterr().err == told


def test_a_check_that_diverges_is_a_miss(
    recorder: Recorder, tiny: Config, features: Features, monkeypatch: pytest.MonkeyPatch
):
    def diverges(*args: Any, **kwargs: Any) -> Iterator[None]:
        yield from ()
        raise Diverged("epoch 1: train_total is not finite")

    winner = record_winner(recorder, tiny, features)
    monkeypatch.setattr(retrain, "fit", diverges)
    with pytest.raises(NotReproduced) as caught:
        check(recorder, winner, features)
    assert str(caught.value) == (
        "--check: the trial did not diverge and now does, epoch 1: train_total is not finite; "
        "the test split was not read; see what changed since the trial, or retrain without --check"
    )


def test_a_plain_model_is_validated(recorder: Recorder, tiny: Config, features: Features):
    result = train_recorded(recorder, tiny, features, print)
    trained = load_trained(fetch_model(recorder, result.run_id))
    assert trained.provenance == Provenance(["train"], features.data.fingerprint, changed=[])
    validation = evaluate_split(trained, features.data, "validation", no_progress)
    assert validation.metrics["acc"] == result.metrics["val_acc"]

    # folders of earlier versions do not say where they come from
    folder = fetch_model(recorder, result.run_id)
    description = json.loads((folder / "model.json").read_text())
    del description["extra"]["provenance"]
    (folder / "model.json").write_text(json.dumps(description))
    assert load_trained(folder).provenance == Provenance()

    (run,) = recorder.list_trials("training", "training")
    assert {f"avsc.{name}" for name in ("device", "threads", "host", "libraries")} <= set(run.tags)


def test_without_clips_nothing_is_trained(
    recorder: Recorder, tiny: Config, features: Features, monkeypatch: pytest.MonkeyPatch
):
    rows = split_rows(features.data, tiny.split)
    expected = (
        "split: leaves no clips to train on; "
        "a smaller split.validation, or another split.rule or split.fold"
    )
    with pytest.raises(UserError) as caught:
        next(fit(tiny, features, rows.train[:0], rows.validation))
    assert str(caught.value) == expected

    monkeypatch.setattr(retrain, "split_rows", lambda *args: rows._replace(train=rows.train[:0]))
    with pytest.raises(UserError) as caught:
        train_recorded(recorder, tiny, features, print)
    assert str(caught.value) == expected
    assert recorder.list_trials("training", "training") == []
