"""Study files: golden faults with their lines, several at once, what the command line puts over a file."""

from pathlib import Path

import pytest

from avsc_core.errors import UserError
from studies.runner.plan import make_plan
from studies.runner.read import read_study
from studies.runner.schema import Study

STUDIES = Path(__file__).parent.parent / "studies"
GOOD = """\
question: Does it matter?
base: {alignment.k: 4}
seeds: [0, 1]
arms:
  - name: all
  - name: no SF
    set:
      fusion: {kind: none}
    published: {table: II, row: 1, acc: 0.9, logloss: 0.3}
search:
  space:
    loss_weights.scene: {low: 1, high: 10}
    alignment.mode:
  trials: 3
"""


def read(folder: Path, text: str, **options: object) -> Study:
    path = folder / "study.yaml"
    path.write_text(text)
    return read_study(path, **options)


def faults(folder: Path, text: str, **options: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        read(folder, text, **options)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("preset", ["demo", "paper"])
def test_every_study_that_ships_is_fine(path: Path, preset: str):
    study = read_study(path, preset=preset)
    assert make_plan(study).trials or study.search
    assert f"avsc-search run studies/{path.name}" in path.read_text()


def test_a_good_study(tmp_path: Path):
    study = read(tmp_path, GOOD)
    assert (study.name, study.preset, study.metric, study.direction) == ("study", "demo", "val_acc", "max")
    assert study.base.alignment.k == 4
    assert [arm.config.fusion.kind for arm in study.arms] == ["semantic", "none"]
    assert study.arms[1].published.acc == 0.9
    assert study.search.trials == 3


def test_lambda_has_twelve_rows_and_a_search_of_all_five():
    study = read_study(STUDIES / "lambda.yaml")
    assert len(make_plan(study).trials) == 12
    search = study.search
    assert search is not None
    assert [key.split(".")[1] for key in search.space.dimensions] == ["event", "object", "e2o", "o2e", "scene"]
    assert all(domain.log for domain in search.space.dimensions.values())
    assert (search.sampler, search.scheduler) == ("tpe", "asha")


@pytest.mark.parametrize(
    ("options", "preset"),
    [({}, "demo"), ({"data_given": True}, "paper"), ({"data_given": True, "preset": "demo"}, "demo")],
)
def test_the_preset_follows_the_data(tmp_path: Path, options: dict[str, object], preset: str):
    assert read(tmp_path, GOOD, **options).preset == preset


def test_the_command_line_wins(tmp_path: Path):
    sets = ["alignment.k=7", "search.sampler=random", "seeds=[5]", "metric=val_logloss"]
    study = read(tmp_path, GOOD, sets=sets, trials=9, name="other", cpus=0.5, gpus=0.25)
    search = study.search
    assert search is not None
    assert (study.base.alignment.k, study.arms[1].config.alignment.k) == (7, 7)
    assert (search.sampler, search.trials, study.seeds, study.direction) == ("random", 9, (5,), "min")
    assert (study.name, study.resources.cpus, study.resources.gpus) == ("other", 0.5, 0.25)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("question: Does it matter?\n", "", "study.yaml:1: 'question' is missing"),
        ("seeds: [0, 1]", "seed: [0, 1]", "study.yaml:3: unknown key 'seed'; did you mean 'seeds'?"),
        ("seeds: [0, 1]", "seeds: []", "study.yaml:3: seeds: [] is not allowed; list should have at least 1 item "
         "after validation, not 0"),
        ("seeds: [0, 1]", "seeds: [1, 1]", "study.yaml:3: a seed stands twice"),
        ("alignment.k: 4", "alignment.k: 40", "study.yaml:2: alignment.k: 40 is above half the classes; "
         "allowed: 1 to 32"),
        ("alignment.k: 4", "alignment.kk: 4", "study.yaml:2: unknown key 'alignment.kk'; did you mean 'alignment.k'?; "
         "see `avsc-core config`"),
        ("kind: none", "kind: nome", "study.yaml:8: fusion.kind: 'nome' is not allowed; input should be 'semantic', "
         "'none', 'intermediate', 'decision' or 'hybrid'"),
        ("kind: none", "knid: none", "study.yaml:8: unknown key 'fusion.knid'; did you mean 'fusion.kind'?; "
         "see `avsc-core config`"),
        ("name: no SF", "name: all", "study.yaml:6: two arms are called 'all'; rename one"),
        ("name: no SF", "name: search", "study.yaml:6: 'search' names the search's trials; rename the arm"),
        ("row: 1,", "row: 1, f1: 3,", "study.yaml:9: unknown key 'f1'; one of acc, logloss, row, table"),
        ("loss_weights.scene: {", "loss_weight.scene: {", "study.yaml:12: unknown dimension 'loss_weight.scene'; "
         "did you mean 'loss_weights.scene'?"),
        ("low: 1, high: 10", "low: 10, high: 1", "study.yaml:12: loss_weights.scene: low 10 is above high 1; "
         "the space is empty"),
        ("low: 1, high: 10", "low: 1, high: 1000", "study.yaml:12: loss_weights.scene: 1 to 1000 reaches outside "
         "0.01 to 100"),
        ("trials: 3", "trials: 0", "study.yaml:14: search.trials: 0 is not allowed; input should be greater than or "
         "equal to 1"),
        ("trials: 3", "sampler: tpr", "study.yaml:14: unknown sampler 'tpr'; did you mean 'tpe'?"),
        ("trials: 3", "scheduler: ahsa", "study.yaml:14: unknown scheduler 'ahsa'; did you mean 'asha'?"),
        ("trials: 3", "trial: 3", "study.yaml:14: unknown key 'trial'; did you mean 'trials'?"),
        ("seeds: [0, 1]", "resources: {gpus: 1.5}", "study.yaml:3: 1.5 GPUs per trial; a share of one GPU, "
         "or whole ones"),
        ("seeds: [0, 1]", "metric: acc", "study.yaml:3: metric: 'acc' is not allowed; input should be 'val_acc' or "
         "'val_logloss'"),
        ("seeds: [0, 1]", "resources: {cpus: .inf}", "study.yaml:3: resources.cpus: inf is not allowed; input should "
         "be a finite number"),
        ("seeds: [0, 1]", "resources: {gpus: .inf}", "study.yaml:3: resources.gpus: inf is not allowed; input should "
         "be a finite number"),
        ("seeds: [0, 1]", "seeds: [2147483648]", "study.yaml:3: seeds.0: 2147483648 is not allowed; input should be "
         "less than 2147483648"),
        ("name: no SF", "name: ''", "study.yaml:6: arms.1.name: '' is not allowed; string should have at least 1 "
         "character"),
        ("alignment.k: 4", "seed: 4", "study.yaml:2: a seed among the settings; every arm runs with the study's; "
         "use seeds: [...]"),
        ("seeds: [0, 1]", "preset: dmo", "study.yaml:3: unknown preset 'dmo'; did you mean 'demo'?"),
        ("seeds: [0, 1]", "name: a/b", "study.yaml:3: 'a/b' is no study name; letters, digits, - and _"),
    ],
)  # fmt: skip
def test_golden_faults(tmp_path: Path, old: str, new: str, fault: str):
    assert old in GOOD
    assert faults(tmp_path, GOOD.replace(old, new, 1)) == [fault]


def test_an_empty_space_and_nothing_to_run(tmp_path: Path):
    assert faults(tmp_path, "question: q\nsearch:\n  space: {}\n") == [
        "study.yaml:3: the search space is empty; dimensions such as contrast, loss_weights, modules; name at least one"
    ]
    assert faults(tmp_path, "question: q\n") == ["study.yaml:1: nothing to run; arms, an ablation, or a search"]


def test_all_faults_at_once(tmp_path: Path):
    text = GOOD.replace("kind: none", "kind: nome").replace("alignment.mode:", "alignment.mood:")
    assert faults(tmp_path, text.replace("trials: 3", "sampler: x")) == [
        "study.yaml:8: fusion.kind: 'nome' is not allowed; input should be 'semantic', 'none', "
        "'intermediate', 'decision' or 'hybrid'",
        "study.yaml:14: unknown sampler 'x'; one of brute_force, cmaes, gp, nsga2, qmc, random, tpe, tpe_multivariate",
        "study.yaml:13: unknown dimension 'alignment.mood'; did you mean 'alignment.mode'?",
    ]
