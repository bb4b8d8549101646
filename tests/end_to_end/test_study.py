"""The real commands on real files: a study run by studies/runner/run.py, and its winner used.

The study is interrupted, killed and continued. Its winner is retrained, evaluated, and asked about
a clip.
"""

import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from ray._private.utils import get_num_cpus

from avsc_core.record.address import locate_checkpoint, locate_state
from avsc_core.record.delivery.writer import Writer
from avsc_core.resolve import configuration_key
from avsc_core.trainer.checkpoint import read_checkpoint
from tests.builders.commands import BIN
from tests.builders.configs import TINY_OPTIONS
from tests.builders.media import write_evaluation_set
from tests.builders.places import Place
from tests.builders.weights import reference_convnext

WITHOUT_WHAT_IS_SLOW = """\
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        assert name not in ("ray", "mlflow", "torch"), name

sys.meta_path.insert(0, Refusing())
from studies.cli import main
main()
"""

STOP_BEFORE_THE_FIRST_TRIAL = """\
import os, signal, sys
from pathlib import Path
from studies.cluster.session import open_ray
from studies.study.reading import read_study

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(75))
with open_ray(None, read_study(Path(sys.argv[1]))) as session:
    session.starting.result()
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_study_leaves_one_run_with_its_trials_under_it(place: Place, finished: tuple[str, str]):
    recorder, trials = place.recorder, place.trials()
    study = recorder.get_study("tiny")
    assert study.status == "FINISHED"
    assert len(trials) == 9  # two arms with two seeds, four searched, the best of them again
    assert {trial.tags["mlflow.parentRunId"] for trial in trials} == {study.run_id}
    assert sorted((trial.arm, trial.seed) for trial in trials)[:4] == [
        ("all", 0),
        ("all", 1),
        ("no SF", 0),
        ("no SF", 1),
    ]
    for trial in trials:
        assert trial.outcome in ("complete", "stopped")
        # Only searched trials are stopped early.
        assert trial.role == "search" or trial.outcome == "complete"
        for metric in ("val_acc", "val_logloss", "train_event", "train_total"):
            steps = [epoch for epoch, _ in recorder.read_history(trial.run_id, metric)]
            assert steps == list(range(1, len(steps) + 1))
            assert len(steps) == 3 or trial.outcome == "stopped"
        params = recorder.client.get_run(trial.run_id).data.params
        lambdas = [
            float(params[f"loss_weights.{name}"])
            for name in ("event", "object", "e2o", "o2e", "scene")
        ]
        assert all(0.01 <= value <= 100 for value in lambdas)
        assert len(set(lambdas)) == (5 if trial.arm == "search" else 1)
    whole = next(trial for trial in trials if trial.outcome == "complete")
    table = (
        Path(recorder.fetch_artifact(whole.run_id, "predictions_val.tsv")).read_text().splitlines()
    )
    assert len(table) == 11
    assert float(np.sum([float(value) for value in table[1].split("\t")[2:]])) == pytest.approx(
        1, abs=1e-4
    )


def test_the_closing_table_says_what_next(place: Place, finished: tuple[str, str]):
    out, err = finished
    assert "9/9" in err
    assert "best by val_acc: " in out
    for command in (
        "avsc-search ui",
        "avsc-core train --best --study tiny",
        "avsc-search report tiny",
    ):
        assert command in out
    assert str(place.scenes) in out.replace("\n", "")


def test_running_it_again_runs_nothing(place: Place, finished: tuple[str, str]):
    before = [(trial.run_id, trial.metrics) for trial in place.trials()]
    recorder = place.recorder
    document = recorder.read_study_document(recorder.get_study("tiny").run_id)
    recorder.open_study_run("tiny", {}, document)  # and was killed there
    _, err = place.run(*place.run_study)
    assert "9 trials, 9 of them in the record already" in err
    assert re.search(r", validation: \d+ of \d+ training clips \(\d+\.\d %\): 9 trials", err)
    assert [(trial.run_id, trial.metrics) for trial in place.trials()] == before
    study = recorder.get_study("tiny")
    assert (study.status, study.tags["avsc.outcome"]) == ("FINISHED", "complete")


@pytest.mark.parametrize("command", ["run", "status", "best", "export", "report"])
def test_looking_at_a_finished_study_imports_nothing_slow(
    place: Place, finished: tuple[str, str], command: str
):
    words = ["avsc-search", command, "tiny"] if command != "run" else place.run_study
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WHAT_IS_SLOW, *words[1:]],
        cwd=place.folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "best by val_acc" in done.stdout or command != "run"


@pytest.mark.slow
def test_a_study_runs_in_a_terminal(place: Place, finished: tuple[str, str]):
    """There the display is a live table, which must not reach Ray."""
    command = [*place.run_study, "--name", "terminal", "--trials", "1", "--set", "seeds=[0]"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]], cwd=place.folder, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how a terminal says that nobody writes to it any more
        while part := os.read(ours, 4096):
            shown += part
    assert process.wait(timeout=240) == 0, shown.decode()
    assert {trial.outcome for trial in place.trials("terminal")} == {"complete"}
    assert b"trials" in shown


def test_a_plan_counts_what_is_left(place: Place, finished: tuple[str, str]):
    plan = [word if word != "run" else "plan" for word in place.run_study]
    out, _ = place.call(*plan)
    assert "9 of 9 trials are in the record already" in out
    assert "costs" not in out
    out, _ = place.call(*plan, "--trials", "5")
    assert "9 of 10 trials are in the record already" in out
    assert "what is left costs" in out
    assert "2, " in out.split("trials")[-1]  # with the other seed of what may be the new best
    _, err = place.call(*plan, "--set", "alignment.k=3", code=2)
    assert "base.alignment.k: 5, now 3" in err
    out, _ = place.call(*plan, "--set", "seeds=[0, 1, 2]")  # of two arms and the best
    assert "9 of 12 trials are in the record already" in out
    _, err = place.call(*plan, "--set", "seeds=[0]", code=2)
    assert err == (
        "tiny.yaml: study tiny is in the record with seeds: [0, 1], now [0]; "
        "use --name for a new study, or undo the change\n"
    )


@pytest.mark.slow
def test_a_study_adds_seeds_until_told(place: Place, finished: tuple[str, str]):
    """It is killed when it has looked once; the same command looks again and goes on."""
    seeds = ["--set", "seeds={until: told, at most: 4}"]
    command = [*place.run_study, "--name", "told", "--trials", "1", *seeds]
    process = place.start(*command)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("look at 3 seeds: 0 of 1 differences told; seed 3 is added"):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    before = {trial.key: trial for trial in place.trials("told") if trial.outcome == "complete"}
    assert len(before) >= 6
    time.sleep(1)

    _, err = place.run(*command)
    assert "look at 4 seeds" in err
    assert "what it costs" in err
    after = {trial.key: trial for trial in place.trials("told")}
    assert sorted(trial.seed for trial in after.values() if trial.arm == "all") == [0, 1, 2, 3]
    assert before.items() <= after.items()  # nothing is trained twice
    recorder = place.recorder
    document = recorder.read_study_document(recorder.get_study("told").run_id)
    assert [look["seeds"] for look in document["looks"]] == [3, 4]
    assert document["definition"]["seeds"] == [0, 1, 2, 3]

    # The same command trains nothing; another limit is another question.
    place.run(*command)
    assert {trial.key: trial for trial in place.trials("told")} == after
    longer = [word.replace("most: 4", "most: 5") for word in command]
    _, err = place.call(*longer, code=2)
    assert "with until: told at level 0.05, at most 4 seeds, now told at level 0.05, at most" in err


@pytest.mark.slow
def test_the_same_study_elsewhere_gives_the_same_digits(place: Place, finished: tuple[str, str]):
    one_worker = [
        *place.run_study,
        "--name",
        "again",
        "--cpus",
        str(os.cpu_count()),
        "--set",
        "seeds=[0]",
    ]
    place.run(*one_worker)
    twin = [word if word != "again" else "twin" for word in one_worker]
    place.run(*twin)
    ours, theirs = place.trials("again"), place.trials("twin")
    assert [trial.key for trial in ours] == [trial.key for trial in theirs]
    drop = {"seconds"}
    for one, other in zip(ours, theirs, strict=True):
        assert {k: v for k, v in one.metrics.items() if k not in drop} == {
            k: v for k, v in other.metrics.items() if k not in drop
        }


@pytest.mark.slow
def test_a_study_that_mixes_devices_says_so(place: Place, finished: tuple[str, str]):
    """On a CPU another number of threads is another device: its digits differ."""
    command = [*place.run_study, "--name", "mixed", "--set", "seeds=[0]", "--trials", "1"]
    _, err = place.run(*command)
    assert "digits differ" not in err
    out, _ = place.call("avsc-search", "report", "mixed")
    assert "Not all on one device" not in out
    _, err = place.run(*command, "--trials", "2", "--cpus", "2")
    (device,) = {trial.tags["avsc.device"] for trial in place.trials("mixed")}
    what = f"trials of this study were trained on {device}, 1 thread, and others now on {device}"
    assert f"note: {what}, 2 threads: their digits differ\n" in err
    out, _ = place.call("avsc-search", "report", "mixed")
    assert f"{device}, 2 threads" in " ".join(out.split())


def test_a_changed_question_is_refused(place: Place, finished: tuple[str, str]):
    _, err = place.call(
        *place.run_study, "--set", "alignment.k=3", "--set", "metric=val_logloss", code=2
    )
    assert err.splitlines()[0] == (
        "tiny.yaml: study tiny is in the record with metric: val_acc, now val_logloss; "
        "use --name for a new study, or undo the change"
    )
    assert "base.alignment.k: 5, now 3" in err


def test_sigterm_before_the_first_trial_is_no_crash(tmp_path: Path):
    study = tmp_path / "study.yaml"
    study.write_text("question: q\narms: [{name: one}, {name: two, set: {alignment.k: 3}}]\n")
    command = [sys.executable, "-c", STOP_BEFORE_THE_FIRST_TRIAL, str(study)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 75  # and not 134, Ray's abort
    assert "SIGTERM received" not in process.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_study_finishes_without_repeating(
    tmp_path: Path, scenes: Path, number: signal.Signals, code: int
):
    place = Place(tmp_path, scenes)
    process = place.start(*place.run_study)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("3/8"):
            break
    if number == signal.SIGTERM:
        process.send_signal(number)
    else:
        os.killpg(
            process.pid, number
        )  # as a terminal's Ctrl-C does: to every process of the command
    process.communicate(timeout=60)
    assert process.returncode == code
    before = {trial.key: trial for trial in place.trials()}
    done = [trial for trial in before.values() if trial.outcome in ("complete", "stopped")]
    # What a killed command has not written into the record yet waits on disk for the next one.
    assert len(done) + count_waiting_ends(place) >= 3
    assert len(done) < 9
    unfinished = {trial.outcome for trial in before.values()} - {"complete", "stopped"}
    assert unfinished <= ({"running"} if number == signal.SIGKILL else {"interrupted"})
    time.sleep(1)
    place.run(*place.run_study)
    after = {trial.key: trial for trial in place.trials()}
    assert len(after) == 9
    assert {trial.outcome for trial in after.values()} <= {"complete", "stopped"}
    for trial in done:
        assert after[trial.key] == trial  # neither run nor counted again
    for key, trial in before.items():
        assert after[key].run_id == trial.run_id
    for trial in after.values():
        steps = [epoch for epoch, _ in place.recorder.read_history(trial.run_id, "train_total")]
        assert steps == list(range(1, len(steps) + 1))
        spent = [seconds for _, seconds in place.recorder.read_history(trial.run_id, "seconds")]
        assert spent == sorted(spent)  # of all invocations together
        assert len(spent) == len(steps)


def count_waiting_ends(place: Place) -> int:
    """Count the ends of trials that a killed command has not written into the record."""
    spools = (locate_state(place.recorder.uri) / "spool").rglob("*.jsonl")
    lines = [line for spool in spools for line in spool.read_text().splitlines()]
    waiting = [json.loads(line) for line in lines if line.startswith(" ")]
    return sum(operation["call"] == "end" for operation in waiting)


def count_epochs(place: Place) -> int:
    """Count the epochs that the record has, of all trials; 0 without a record."""
    histories = [place.recorder.read_history(each.run_id, "val_acc") for each in place.trials()]
    return sum(map(len, histories))


def describe(place: Place) -> list[tuple[object, ...]]:
    """What has to be the same in two records of one study: trials in their order, and values."""
    told = []
    for trial in place.trials():
        history = place.recorder.read_history(trial.run_id, "val_logloss")
        told.append((trial.key, trial.arm, trial.outcome, trial.tags["avsc.begun"], history))
    return told


@pytest.mark.slow
def test_a_killed_study_ends_as_the_undisturbed_one(tmp_path: Path, scenes: Path):
    """It is killed twice, the second time with its checkpoints, which is told."""
    settings = ("search.sampler=tpe", "search.scheduler=asha", "search.trials=6", "seeds=[0]")
    one_at_a_time = ("--cpus", str(get_num_cpus()))
    places = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        place = Place(tmp_path / name, scenes)
        sets = [word for setting in settings for word in ("--set", setting)]
        places.append((place, [*place.run_study, *sets, *one_at_a_time]))
    (whole, command), (killed, _) = places
    whole.run(*command)

    for epochs in (7, 13):
        process = killed.start(*command)
        while count_epochs(killed) < epochs:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    shutil.rmtree(killed.folder / "mlruns" / "checkpoints" / "tiny")
    # A kill leaves epochs in the spool, which the next command delivers before it looks.
    with Writer(killed.recorder, "tiny"):
        pass
    unfinished = [each for each in killed.trials() if each.outcome == "running"]
    begun = [each for each in unfinished if "val_acc" in each.metrics]
    _, err = killed.run(*command)

    assert describe(killed) == describe(whole)
    missing = killed.folder / "mlruns" / "checkpoints" / "tiny"
    for trial in begun:
        lost = f"no checkpoint at {missing / trial.key}.pt; begins again at epoch 1"
        assert f"note: trial {trial.label}: {lost}\n" in err
    assert err.count("begins again") == len(begun)
    assert list(missing.rglob("*.pt")) == []


@pytest.mark.slow
def test_sigterm_keeps_the_last_state(tmp_path: Path, scenes: Path):
    """A checkpoint is as far as the record, though trials write one only now and then."""
    place = Place(tmp_path, scenes)
    process = place.start(*place.run_study, "--set", "training.epochs=2000")
    while count_epochs(place) < 20:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 75

    begun = [each for each in place.trials() if "val_acc" in each.metrics]
    assert begun
    for trial in begun:
        path = locate_checkpoint(place.recorder.uri, "tiny", trial.key)
        recorded = place.recorder.read_history(trial.run_id, "val_acc")
        assert read_checkpoint(path, {}).epoch >= recorded[-1][0]


def test_the_winner_is_retrained_and_used(place: Place, finished: tuple[str, str], tmp_path: Path):
    data = ["--data", str(place.scenes)]
    out, err = place.run("avsc-core", "train", "--best", "--study", "tiny", "--check", *data)
    assert "models:/avsc-tiny@best" in out
    assert " again, every probability to the last digit" in err
    changes = [line for line in err.splitlines() if line.startswith("changed since the trial: ")]
    # Somebody may be working on the code.
    assert {line.split(": ")[1] for line in changes} <= {"commit"}
    (checked,) = place.recorder.list_trials("tiny", "check")
    (trained,) = place.recorder.list_trials("tiny", "training")
    assert checked.tags["avsc.threads"] == trained.tags["avsc.threads"] == "1"
    # The best mean of two seeds wins. Trials this small often tie in Acc.
    complete = [trial for trial in place.trials() if trial.outcome == "complete"]
    pairs = {}
    for trial in complete:
        pairs.setdefault(configuration_key(trial.config), {})[trial.seed] = trial
    figures = {}
    for key, by_seed in pairs.items():
        if len(by_seed) == 2:
            accs = [trial.metrics["selected_val_acc"] for trial in by_seed.values()]
            losses = [trial.metrics["selected_val_logloss"] for trial in by_seed.values()]
            figures[key] = (-np.mean(accs), np.mean(losses))
    best = pairs[min(figures, key=figures.get)]
    winner = best[0]
    assert trained.tags["avsc.winner"] == winner.run_id
    assert trained.config == winner.config
    epochs = place.recorder.read_history(trained.run_id, "train_total")
    assert len(epochs) == round(np.mean([best[seed].metrics["selected_epoch"] for seed in (0, 1)]))
    assert not any(name.startswith("val_") for name in trained.metrics)
    answers = tmp_path / "answers.tsv"
    out, err = place.call("avsc-core", "evaluate", "best:tiny", *data, "--out", str(answers))
    assert err.splitlines()[:2] == [
        f"model: winner of study tiny, trial {winner.key[:6]}; check: {checked.tags['avsc.check']}",
        "note: this reads the test split, as the retraining did; "
        "nothing should be chosen by its figures",
    ]
    assert f"{trained.metrics['test_acc']:.4f}" in out
    assert f"{trained.metrics['test_logloss']:.4f}" in out
    rows = [line.split("\t") for line in answers.read_text().splitlines()]
    assert len(rows) == 11
    _, err = place.call(
        "avsc-core", "evaluate", "best:tiny", *data, "--split", "validation", code=2
    )
    assert "--split: the model was trained on the validation clips too" in err
    out, _ = place.call("avsc-core", "evaluate", "best:tiny", *data, "--split", "train")
    assert "on which the model was trained" in " ".join(out.split())
    figure = tmp_path / "confusion.png"
    out, _ = place.call(
        "avsc-core",
        "evaluate",
        "best:tiny",
        *data,
        "--protocol",
        "segment",
        "--figure",
        str(figure),
    )
    assert "100 segments" in " ".join(out.split())
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert Path(place.recorder.fetch_artifact(trained.run_id, "confusion_test.png")).is_file()
    write_evaluation_set(tmp_path / "challenge", 3)
    unlabelled = ("evaluate", "best:tiny", "--data", str(tmp_path / "challenge"))
    _, err = place.call("avsc-core", *unlabelled, code=2)
    assert "is unlabelled, so there is nothing to score; give --out for answers" in err
    place.call("avsc-core", *unlabelled, "--out", str(answers))
    assert [line.split("\t")[0] for line in answers.read_text().splitlines()[1:]] == [
        "0.wav",
        "1.wav",
        "2.wav",
    ]
    out, _ = place.call("avsc-search", "report", "tiny")
    assert "The retrained winner on the test split" in out
    assert f"{trained.metrics['test_acc']:.4f}" in out
    model = Path(place.recorder.fetch_artifact(trained.run_id, "model"))
    assert sorted(path.name for path in model.iterdir()) == ["model.json", "model.safetensors"]
    described = json.loads((model / "model.json").read_text())
    assert described["config"]["alignment"]["mode"] == "lkm"
    assert described["extra"]["trained_on"] == f"embedded scenes (synthetic) in {place.scenes}"
    clip = place.scenes / "video" / f"{rows[1][0]}.mp4"
    out, err = place.run("avsc-core", "predict", str(clip), "--model", str(model))
    assert out.startswith(f"{clip}: {rows[1][1]} (")
    assert "events: " in err


def test_a_plain_training_leaves_the_test_split_alone(place: Place, finished: tuple[str, str]):
    sets = [*TINY_OPTIONS, "--set", "training.epochs=1"]
    place.call(
        "avsc-core", "train", "--data", str(place.scenes), "--preset", "demo", *sets, "--seeds", "2"
    )
    runs = place.recorder.list_trials("training", "training")
    assert [run.seed for run in runs] == [0, 1]
    assert not any(name.startswith("test_") for run in runs for name in run.metrics)


def test_a_winner_keeps_its_data(place: Place, finished: tuple[str, str], tmp_path: Path):
    other = tmp_path / "other"
    place.call("avsc-core", "demo-data", str(other), "--clips-per-scene", "3", "--seed", "9")
    _, err = place.call(
        "avsc-core", "train", "--best", "--study", "tiny", "--data", str(other), code=2
    )
    ours, theirs = (f"embedded scenes (synthetic) in {folder}" for folder in (place.scenes, other))
    assert err.splitlines()[-1].startswith(f"--data: the study ran on {ours}, this is {theirs}")


def test_status_and_best(place: Place, finished: tuple[str, str]):
    out, _ = place.call("avsc-search", "status", "tiny")
    # The last repeats the best with the other seed.
    assert out.replace("avsc-search", "").count("search") == 5
    out, _ = place.call("avsc-search", "best", "tiny")
    settings = dict(line.split("=", 1) for line in out.splitlines())
    assert settings["training.epochs"] == "3"


@pytest.mark.slow
def test_a_study_on_pretrained_frozen_backbones(place: Place, tmp_path: Path):
    """Weights that do not fit cost two seconds; the record accounts for those that fit."""
    torch.save(reference_convnext().state_dict(), tmp_path / "convnext.pth")
    (place.folder / "frozen.yaml").write_text(
        "question: q\narms: [{name: one}, {name: late, set: {fusion.kind: decision}}]\n"
    )
    command = [word if word != "tiny.yaml" else "frozen.yaml" for word in place.run_study]
    command += ["--set", "audio.freeze=all", "--set", "visual.freeze=all"]
    command += ["--set", f"visual.weights={tmp_path / 'convnext.pth'}"]
    _, err = place.run(*command, "--set", "visual.dims=[8, 16, 24, 40]", code=2)
    assert "tensor stages.3.blocks.0.norm.weight has shape (32,); (40,) in the configuration" in err
    assert place.recorder.find_study("frozen") is None
    command += ["--set", "visual.depths=[1, 2, 1, 1]", "--set", "visual.dims=[8, 16, 24, 32]"]
    _, err = place.run(*command)
    assert "running the frozen visual encoder: 30/30" in err
    trials = place.trials("frozen")
    assert [(trial.arm, trial.outcome) for trial in trials] == [
        ("one", "complete"),
        ("late", "complete"),
    ]
    sha256 = hashlib.sha256((tmp_path / "convnext.pth").read_bytes()).hexdigest()
    assert {trial.tags["avsc.weights.visual"] for trial in trials} == {sha256}
    study = place.recorder.get_study("frozen").run_id
    (account,) = place.recorder.read_study_document(study)["weights"]
    assert account["sha256"] == sha256
    assert account["dropped"] == ["head.fc.weight", "head.fc.bias"]
    out, _ = place.call(
        "avsc-core", "train", "--best", "--study", "frozen", "--data", str(place.scenes)
    )
    assert "test" in out
    place.call("avsc-core", "evaluate", "best:frozen", "--data", str(place.scenes))
