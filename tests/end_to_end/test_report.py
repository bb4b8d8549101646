"""The real commands (studies/cli.py) from a study file to its report.

Cost card, retuning, ladder, starting points, export.
"""

import json
from pathlib import Path

import pytest

from avsc_core.record.recorder import Recorder
from avsc_core.resolve import trial_key
from tests.builders.places import Place

pytestmark = pytest.mark.slow

RETUNED = """\
question: Is SF worth it?
seeds: [0, 1]
ablation:
  design: leave_one_out
  factors:
    SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}
retune: 2
search: {space: {loss_weights.scene: }, sampler: random, scheduler: none}
"""
LADDER = """\
question: Do short trainings rank as long ones do?
ladder: [{training.epochs: 1}, {training.epochs: 2}]
search: {space: {loss_weights.scene: , alignment.k: {high: 8}}, trials: 3, finalists: 2, \
scheduler: none, WARM}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Place:
    return Place(tmp_path_factory.mktemp("place"), scenes)


def command(place: Place, name: str, text: str, verb: str = "run") -> list[str]:
    """The command for a study file of this text."""
    (place.folder / f"{name}.yaml").write_text(text)
    words = [{"tiny.yaml": f"{name}.yaml", "run": verb}.get(word, word) for word in place.run_study]
    return [*words, "--set", "training.epochs=2"]


@pytest.fixture(scope="module")
def retuned(place: Place) -> tuple[str, str]:
    return place.run(*command(place, "retuned", RETUNED))


def test_the_card_comes_before_anything_runs(place: Place, retuned: tuple[str, str]):
    _, err = retuned
    card = err.index("what it costs")
    trials = err.index("\n1/")  # on a busy machine the preparation shows its progress too
    assert card < trials
    out, _ = place.call(*command(place, "another", RETUNED, "plan"))
    for word in ("trials", "epochs", "time", "memory", "disk", "search of all", "2 for each arm"):
        assert word in out
    document = place.recorder.read_study_document(place.recorder.get_study("retuned").run_id)
    assert document["cost"]["trials"] == 2 * 2 + 2 * 2 + 2 * 1
    (invocation,) = document["invocations"]
    assert invocation["command"].startswith("avsc-search run retuned.yaml")


def test_hours_are_kept(place: Place, retuned: tuple[str, str]):
    _, err = place.run(*command(place, "dear", RETUNED), "--again", "--max-hours", "0", code=2)
    assert err.splitlines()[-1].startswith("--max-hours: 10 trials take up to ")
    assert place.recorder.find_study("dear") is None
    long = LADDER.replace("finalists: 2, ", "").replace(", WARM", "")
    long = long.replace("ladder: [{training.epochs: 1}, {training.epochs: 2}]\n", "")
    out, _ = place.call(
        *command(place, "long", long.replace("trials: 3", "trials: 100000"), "plan"),
        "--max-hours",
        "0.1",
    )
    trimmed = int(out.split("within 0.1 h: ")[1].split(" trials")[0])
    assert 0 < trimmed < 100000


def test_every_arm_was_retuned_and_the_report_says_so(place: Place, retuned: tuple[str, str]):
    trials = place.trials("retuned")
    rows = [(trial.role, trial.arm) for trial in trials]
    assert {rows.count(("search", name)) for name in ("all", "without SF")} == {2}
    assert all(trial.outcome == "complete" for trial in trials)
    out, _ = place.call("avsc-search", "report", "retuned")
    for word in (
        "Is SF worth it?",
        "Before and after retuning",
        "Differences between arms",
        "How to repeat it",
    ):
        assert word in out
    assert (
        "Missing" not in out
    )  # what the report calls the best of a search is what was trained with every seed
    folder = place.folder / "reports" / "retuned"
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert names >= {
        "report.html",
        "report.md",
        "report.tex",
        "results.csv",
        "retuned.csv",
        "rows.png",
        "curves.png",
    }
    out, _ = place.call("avsc-search", "plot", "retuned", "--out", "drawn")
    assert {path.name for path in (place.folder / "drawn").iterdir()} == {
        "rows.png",
        "curves.png",
        "confusion.png",
    }
    before = [trial.run_id for trial in trials]
    _, err = place.run(*command(place, "retuned", RETUNED))
    assert f"{len(before)} trials, {len(before)} of them in the record already" in err
    assert [trial.run_id for trial in place.trials("retuned")] == before


def test_what_is_exported_can_be_trained(place: Place, retuned: tuple[str, str]):
    place.call("avsc-search", "export", "retuned")
    folder = place.folder / "exports" / "retuned"
    assert {path.name for path in folder.iterdir()} == {"trials.csv", "trials.parquet", "best.yaml"}
    best = place.call("avsc-search", "best", "retuned")[1].split(":")[0].split()[-1]
    place.call(
        "avsc-core", "train", "--config", str(folder / "best.yaml"), "--data", str(place.scenes)
    )
    (run,) = place.recorder.list_trials("training", "training")
    assert trial_key(run.config)[:6] == best
    _, err = place.call("avsc-core", "train", "--config", "x.yaml", "--preset", "demo", code=2)
    assert (
        err
        == "--config: is a whole configuration; leave out --best and --preset; --set changes it\n"
    )


def test_a_ladder_from_the_best_of_another_study(place: Place, retuned: tuple[str, str]):
    """The base comes from the record and is pinned there; both rungs run; the full one wins."""
    text = LADDER.replace("WARM", "warm_start: retuned") + "best-of: retuned\n"
    words = command(place, "ladder", text)
    words = [word for word in words if word not in ("--preset", "demo")]
    _, err = place.run(*words)
    assert "the sampler knows 0 trials of retuned" in err  # whose search had other epochs
    source = {trial.key: trial for trial in place.trials("retuned")}
    definition = place.recorder.read_definition(place.recorder.get_study("ladder").run_id)
    assert (
        source[definition["best_of"]["key"]].config.fusion.kind
        == definition["base"]["fusion"]["kind"]
    )
    trials = place.trials("ladder")
    rungs = [(trial.tags["avsc.rung"], trial.config.training.epochs) for trial in trials]
    assert set(rungs) == {("lower", 1), ("upper", 2)}
    assert [rung for rung, _ in rungs].count("upper") == 3
    out, _ = place.call("avsc-search", "best", "ladder")
    assert "training.epochs=2" in out.splitlines()
    out, _ = place.call("avsc-search", "report", "ladder")
    assert "Rank correlation (Spearman)" in out
    _, err = place.run(*words)
    assert "7 of them in the record already" in err
    _, err = place.call(
        *command(place, "nowhere", text.replace("best-of: retuned", "best-of: nothing"))[:-6],
        code=2,
    )
    assert err.splitlines()[-1].startswith("nowhere.yaml:4: no study 'nothing' in the record")


def test_a_report_of_what_is_not_there(place: Place, retuned: tuple[str, str]):
    for verb in ("report", "plot", "export"):
        _, err = place.call("avsc-search", verb, "retund", code=2)
        assert err == "NAME: no study 'retund' in the record; did you mean 'retuned'?\n"


def test_the_record_holds_what_a_report_needs(place: Place, retuned: tuple[str, str]):
    recorder: Recorder = place.recorder
    run_id = recorder.get_study("retuned").run_id
    lines = recorder.read_lines(run_id, "clips_val.tsv")
    assert lines[0] == "filename\tscene\tlocation"
    trial = place.trials("retuned")[0]
    assert [
        line.split("\t")[0] for line in recorder.read_lines(trial.run_id, "predictions_val.tsv")
    ][1:] == [line.split("\t")[0] for line in lines[1:]]
    assert json.loads(json.dumps(recorder.read_definition(run_id)))["search"]["space_hash"]
