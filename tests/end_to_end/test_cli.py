"""The command lines (avsc_core/cli.py, studies/cli.py) as people meet them.

Help, exit codes, one line per fault, and nothing started where something is wrong.
"""

import re
from functools import partial
from pathlib import Path

import pytest

from avsc_core.demo.scenes import write_demo
from tests.builders.commands import run, run_process
from tests.builders.configs import TINY_OPTIONS
from tests.builders.studies import STUDIES

BAD_STUDY = """\
question: What is wrong with me?
sed: [0]
arms:
  - {name: a, set: {alignment.k: 40}}
search:
  space: {loss_weight: }
"""


@pytest.mark.parametrize(
    "command",
    [
        ["avsc-core"],
        *(
            ["avsc-core", name]
            for name in [
                "demo-data",
                "check",
                "features",
                "pseudo",
                "config",
                "train",
                "evaluate",
                "predict",
                "map",
            ]
        ),
        ["avsc-search"],
        *(
            ["avsc-search", name]
            for name in [
                "check",
                "plan",
                "run",
                "status",
                "best",
                "report",
                "plot",
                "export",
                "ui",
            ]
        ),
    ],
    ids=" ".join,
)
def test_help_has_an_example(tmp_path: Path, command: list[str]):
    code, out, _ = run(tmp_path, *command, "--help")
    assert code == 0
    assert len(command) == 1 or "Example" in out


def test_a_bad_study_starts_nothing(tmp_path: Path):
    (tmp_path / "bad.yaml").write_text(BAD_STUDY)
    command = ("avsc-search", "run", "bad.yaml", "--data", "absent", "--preset", "demo")
    code, out, err = run(tmp_path, *command)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "bad.yaml:2: unknown key 'sed'; did you mean 'seeds'?",
        "bad.yaml:4: alignment.k: 40 is above half the classes; allowed: 1 to 32",
        "bad.yaml:6: unknown dimension 'loss_weight'; did you mean 'loss_weights'?",
        "--data: absent is not a folder; give the folder that holds audio/ and video/",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["avsc-search", "check", "absent.yaml"], "absent.yaml: no such file"),
        (["avsc-search", "check", "."], "FILE: there is no file and no shipped study '.'"),
        (
            ["avsc-search", "run", "good.yaml", "--max-hours", "nan"],
            "--max-hours: nan is not a number of hours; 0 or",
        ),
        (
            ["avsc-search", "plan", "good.yaml", "--max-hours", "inf"],
            "--max-hours: inf is not a number of hours; 0 or",
        ),
        (
            ["avsc-search", "plan", "good.yaml", "--max-hours", "-1"],
            "--max-hours: -1 is not a number of hours; 0 or",
        ),
        (
            ["avsc-search", "ui"],
            "mlruns/mlflow.db: no record in this folder; run a study first, or give --tracking-uri",
        ),
        (["avsc-search", "rnu"], "command line: No such command 'rnu'"),
        (
            ["avsc-core", "check", "absent"],
            "absent: no such folder; give the folder that holds audio/ and video/",
        ),
        (["avsc-core", "config", "--set", "a"], "--set: 'a' has no '='; key=value"),
        (
            ["avsc-core", "config", "--preset", "papre"],
            "--preset: unknown preset 'papre'; did you mean 'paper'?",
        ),
        (
            ["avsc-core", "train", "--study", "x"],
            "--study: names whose winner to retrain; add --best",
        ),
        (
            ["avsc-core", "train", "--check"],
            "--check: repeats the trial of a winner; add --best",
        ),
        (
            ["avsc-core", "train", "--best"],
            "mlruns/mlflow.db: no record in this folder; run a study first, or give --tracking-uri",
        ),
        (["avsc-core", "evaluate", "absent"], "absent: no model there"),
        (
            ["avsc-core", "evaluate", "absent", "--split", "tset"],
            "command line: Invalid value for '--split'",
        ),
        (
            ["avsc-core", "predict", "absent.mp4", "--model", "m"],
            "absent.mp4: no such file",
        ),
        (
            ["avsc-core", "demo-data", ".", "--clips-per-scene", "1"],
            "command line: Invalid value for '--clips-per-scene'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_cost_one_line(tmp_path: Path, command: list[str], error: str):
    code, out, err = run(tmp_path, *command)
    assert (code, out) == (2, "")
    assert err.startswith(error)
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ["status", "best", "report", "plot", "export", "check", "plan"])
def test_reading_makes_no_record(tmp_path: Path, verb: str):
    (tmp_path / "mine.yaml").write_text("question: q\nbest-of: lambda\narms: [{name: one}]\n")
    code, out, err = run(
        tmp_path, "avsc-search", verb, "mine.yaml" if verb in ("check", "plan") else "lambda"
    )
    assert (code, out) == (2, "")
    assert (
        err
        == "mlruns/mlflow.db: no record in this folder; run a study first, or give --tracking-uri\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("address", ["foo", "foo bar", "http://x:1"])
def test_no_address_is_told_before_anything_is_prepared(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AVSC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.yaml").write_text("question: q\narms: [{name: one}]\n")
    code, out, err = run_process(tmp_path, "avsc-search", "run", "mine.yaml", "--address", address)
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith(f"--address: no Ray cluster at {address}; give HOST:PORT")
    assert not (tmp_path / "cache").exists()


def test_demo_data_does_not_overwrite(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    code, _, err = run(tmp_path, "avsc-core", "demo-data", "mine")
    assert (code, err) == (2, "mine: exists and is not empty; a new or empty folder\n")


def test_config_prints_what_set_reads(tmp_path: Path):
    code, out, _ = run(
        tmp_path, "avsc-core", "config", "--preset", "demo", "--set", "alignment.mode=rkm"
    )
    assert code == 0
    assert "alignment.mode=rkm" in out.splitlines()
    sets = [word for line in out.splitlines() for word in ("--set", line)]
    assert run(tmp_path, "avsc-core", "config", "--preset", "paper", *sets)[1] == out


def test_plan_shows_every_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # The embedded scenes, in a cache of their own and with a tenth of their clips.
    monkeypatch.setenv("AVSC_CACHE", str(tmp_path / "cache"))
    few = partial(write_demo, clips_per_scene=4)
    monkeypatch.setattr("avsc_core.data.features.write_demo", few)

    study = STUDIES / "lambda.yaml"
    code, out, _ = run(tmp_path, "avsc-search", "plan", str(study), "--trials", "7")
    assert code == 0
    arms = re.findall(r"name: (row \d+)", study.read_text())
    assert len(arms) == 12
    assert all(arm in out for arm in arms)
    assert "then 7 by tpe with scheduler asha" in out


def test_features_are_checked_and_pruned(scenes: Path, tmp_path: Path):
    options = ("--preset", "demo", *TINY_OPTIONS, "--verify", "--prune", "30")
    code, out, err = run(tmp_path, "avsc-core", "features", str(scenes), *options)
    assert code == 0, err
    assert out.count(": 0 damaged rows") == 2
    assert "0 unused arrays deleted" in out


def test_looking_for_a_model_makes_no_record(tmp_path: Path):
    for command in (("evaluate", "best:x"), ("map", "best:x"), ("train", "--best")):
        code, _, err = run(tmp_path, "avsc-core", *command)
        assert code == 2
        assert "no record in this folder" in err
    assert not list(tmp_path.iterdir())
