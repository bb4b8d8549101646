"""Study files: golden faults with their lines, several at once, what the command line puts over a
file."""

from pathlib import Path

import pytest

from avsc_core.config import Config
from avsc_core.resolve import resolve
from studies.study.plan import make_plan
from studies.study.reading import read_study
from tests.builders.studies import GOOD, STUDIES, faults, read


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("preset", ["demo", "paper"])
def test_every_study_that_ships_is_fine(path: Path, preset: str):
    study = read_study(path, preset=preset)
    assert make_plan(study).trials or study.search
    assert f"avsc-search run studies/{path.name}" in path.read_text()


def test_a_good_study(tmp_path: Path):
    study = read(tmp_path, GOOD)
    assert (study.name, study.preset, study.metric, study.direction) == (
        "study",
        "demo",
        "val_acc",
        "max",
    )
    assert study.base.alignment.k == 4
    assert [arm.config.fusion.kind for arm in study.arms] == ["semantic", "none"]
    assert study.arms[1].published.acc == 0.9
    assert study.search.trials == 3


def test_lambda_has_twelve_rows_and_a_search_of_all_five():
    study = read_study(STUDIES / "lambda.yaml")
    assert len(make_plan(study).trials) == 12
    search = study.search
    assert search is not None
    assert [key.split(".")[1] for key in search.space.dimensions] == [
        "event",
        "object",
        "e2o",
        "o2e",
        "scene",
    ]
    assert all(domain.log for domain in search.space.dimensions.values())
    assert (search.sampler, search.scheduler) == ("tpe", "asha")


@pytest.mark.parametrize(
    ("options", "preset"),
    [
        ({}, "demo"),
        ({"data_given": True}, "paper"),
        ({"data_given": True, "preset": "demo"}, "demo"),
    ],
)
def test_the_preset_follows_the_data(tmp_path: Path, options: dict[str, object], preset: str):
    assert read(tmp_path, GOOD, **options).preset == preset


def test_the_command_line_wins(tmp_path: Path):
    sets = ["alignment.k=7", "search.sampler=random", "seeds=[5]", "metric=val_logloss"]
    study = read(tmp_path, GOOD, sets=sets, trials=9, name="other", cpus=0.5, gpus=0.25)
    search = study.search
    assert search is not None
    assert (study.base.alignment.k, study.arms[1].config.alignment.k) == (7, 7)
    assert (search.sampler, search.trials, study.seeds, study.direction) == (
        "random",
        9,
        (5,),
        "min",
    )
    assert (study.name, study.resources.cpus, study.resources.gpus) == ("other", 0.5, 0.25)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("question: Does it matter?\n", "", "study.yaml:1: 'question' is missing"),
        (
            "seeds: [0, 1]",
            "seed: [0, 1]",
            "study.yaml:3: unknown key 'seed'; did you mean 'seeds'?",
        ),
        (
            "seeds: [0, 1]",
            "seeds: []",
            "study.yaml:3: seeds: [] is not allowed; list should have at least 1 item after "
            "validation, not 0",
        ),
        ("seeds: [0, 1]", "seeds: [1, 1]", "study.yaml:3: a seed is given twice"),
        (
            "seeds: [0, 1]",
            "seeds: {until: sure, at most: 10}",
            "study.yaml:3: seeds.until: 'sure' is not allowed; input should be 'told'",
        ),
        (
            "seeds: [0, 1]",
            "seeds: {until: told}",
            "study.yaml:3: 'at most' is missing",
        ),
        (
            "seeds: [0, 1]",
            "seeds: {until: told, at most: 3}",
            "study.yaml:3: seeds.at most: 3 is not allowed; input should be greater than 3",
        ),
        (
            "seeds: [0, 1]",
            "seeds: {until: told, at most: 10, at_most: 10}",
            "study.yaml:3: unknown key 'at_most'; did you mean 'at most'?",
        ),
        (
            "alignment.k: 4",
            "alignment.k: 40",
            "study.yaml:2: alignment.k: 40 is above half the classes; allowed: 1 to 32",
        ),
        (
            "alignment.k: 4",
            "alignment.kk: 4",
            "study.yaml:2: unknown key 'alignment.kk'; did you mean 'alignment.k'?; see "
            "`avsc-core config`",
        ),
        (
            "kind: none",
            "kind: nome",
            "study.yaml:8: fusion.kind: 'nome' is not allowed; input should be 'semantic', "
            "'none', 'intermediate', 'decision' or 'hybrid'",
        ),
        (
            "kind: none",
            "knid: none",
            "study.yaml:8: unknown key 'fusion.knid'; did you mean 'fusion.kind'?; see "
            "`avsc-core config`",
        ),
        ("name: no SF", "name: all", "study.yaml:6: two arms are called 'all'; rename one"),
        (
            "name: no SF",
            "name: search",
            "study.yaml:6: 'search' names the search's trials; rename the arm",
        ),
        pytest.param(
            "name: no SF",
            f"name: {501 * 'x'}",
            f"study.yaml:6: '{40 * 'x'}...' is not a name for an arm; one line of at most 500"
            " characters",
            id="long name",
        ),
        (
            "row: 1,",
            "row: 1, f1: 3,",
            "study.yaml:9: unknown key 'f1'; one of acc, logloss, row, table",
        ),
        (
            "loss_weights.scene: {",
            "loss_weight.scene: {",
            "study.yaml:12: unknown dimension 'loss_weight.scene'; did you mean "
            "'loss_weights.scene'?",
        ),
        (
            "low: 1, high: 10",
            "low: 10, high: 1",
            "study.yaml:12: loss_weights.scene: low 10 is above high 1; the space is empty",
        ),
        (
            "low: 1, high: 10",
            "low: 1, high: 1000",
            "study.yaml:12: loss_weights.scene: 1 to 1000 reaches outside 0.01 to 100",
        ),
        (
            "trials: 3",
            "trials: 0",
            "study.yaml:14: search.trials: 0 is not allowed; input should be greater than or "
            "equal to 1",
        ),
        ("trials: 3", "sampler: tpr", "study.yaml:14: unknown sampler 'tpr'; did you mean 'tpe'?"),
        (
            "trials: 3",
            "scheduler: ahsa",
            "study.yaml:14: unknown scheduler 'ahsa'; did you mean 'asha'?",
        ),
        ("trials: 3", "trial: 3", "study.yaml:14: unknown key 'trial'; did you mean 'trials'?"),
        (
            "seeds: [0, 1]",
            "resources: {gpus: 1.5}",
            "study.yaml:3: 1.5 GPUs per trial; 1, or a share of one such as 0.5",
        ),
        (
            "seeds: [0, 1]",
            "select: lucky",
            "study.yaml:3: select: 'lucky' is not allowed; input should be 'crossfit', 'best', "
            "'last' or 'last 3'",
        ),
        (
            "seeds: [0, 1]",
            "metric: acc",
            "study.yaml:3: metric: 'acc' is not allowed; input should be 'val_acc' or "
            "'val_logloss'",
        ),
        (
            "seeds: [0, 1]",
            "resources: {cpus: .inf}",
            "study.yaml:3: resources.cpus: inf is not allowed; input should be a finite number",
        ),
        (
            "seeds: [0, 1]",
            "resources: {gpus: .inf}",
            "study.yaml:3: resources.gpus: inf is not allowed; input should be a finite number",
        ),
        (
            "seeds: [0, 1]",
            "seeds: [2147483648]",
            "study.yaml:3: seeds.0: 2147483648 is not allowed; input should be less than "
            "2147483648",
        ),
        (
            "name: no SF",
            "name: ''",
            "study.yaml:6: arms.1.name: '' is not allowed; string should have at least 1 character",
        ),
        (
            "alignment.k: 4",
            "seed: 4",
            "study.yaml:2: a seed among the settings; every arm runs with the study's; use "
            "seeds: [...]",
        ),
        (
            "seeds: [0, 1]",
            "preset: dmo",
            "study.yaml:3: unknown preset 'dmo'; did you mean 'demo'?",
        ),
        (
            "seeds: [0, 1]",
            "name: a/b",
            "study.yaml:3: 'a/b' is not a study name; letters, digits, - and _, at most 64",
        ),
    ],
)
def test_golden_faults(tmp_path: Path, old: str, new: str, fault: str):
    assert old in GOOD
    assert faults(tmp_path, GOOD.replace(old, new, 1)) == [fault]


ARM = "question: q\narms: [{name: a}]\n"
SEARCH = "question: q\nsearch: {space: {loss_weights.scene: }, scheduler: none}\n"
CEOA_ALONE = "base: {loss_weights: {event: 0, object: 0, e2o: 1, o2e: 1, scene: 0}}\n"
SEED = "a seed among the settings; every arm runs with the study's; use seeds: [...]"
PRESET_RUNG = (
    "study.yaml:4: preset {} as a rung; the best trial has a value for every setting; "
    "settings as rungs, such as {{training.epochs: 5}}"
)
NO_ARMS = (
    "seeds until told without arms to compare; two arms or more, or an ablation; "
    "or seeds: [0, 1, 2]"
)
CLIPS = "the rungs are validated on different clips; one split"
CLASSES = "the rungs have different classes; audio.classes and visual.classes of the data"
SAME = "study.yaml:3: both rungs are the same training; a cheap one and a full one"


def best(own: str, source: str, where: str) -> tuple[str, Config]:
    return "key", resolve("demo")


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        # a ladder
        (SEARCH + "ladder: [demo, {split.seed: 3}]\n", {}, [f"study.yaml:3: {CLIPS}"]),
        (SEARCH, {"sets": ["ladder=[demo, paper]"]}, [f"--set: {CLIPS}", f"--set: {CLASSES}"]),
        (
            SEARCH + "ladder: [null, [1]]\n",
            {},
            [
                "study.yaml:3: None is not a rung; demo, frozen, paper, or settings",
                "study.yaml:3: [1] is not a rung; demo, frozen, paper, or settings",
            ],
        ),
        (
            SEARCH + "ladder: [frozen, {alignment.kk: 1}]\n",
            {},
            [
                "study.yaml:3: unknown key 'alignment.kk'; did you mean 'alignment.k'?; see "
                "`avsc-core config`"
            ],
        ),
        (SEARCH + "ladder: [{seed: 3}, demo]\n", {}, [f"study.yaml:3: {SEED}"]),
        (SEARCH + "ladder: [demo, {device: cpu}]\n", {}, [SAME]),
        (SEARCH + "ladder: [{audio.classes: 32}, demo]\n", {}, [f"study.yaml:3: {CLASSES}"]),
        (
            SEARCH + "best-of: lambda\nladder: [frozen, paper]\n",
            {"winner_of": best},
            [PRESET_RUNG.format("frozen"), PRESET_RUNG.format("paper")],
        ),
        (
            SEARCH.replace("}, scheduler", "}, finalists: 2, scheduler"),
            {},
            ["study.yaml:2: finalists without a ladder; ladder: [..., ...]; leave it out"],
        ),
        # seeds that are added until told
        (ARM + "seeds: {until: told, at most: 10}\n", {}, [f"study.yaml:3: {NO_ARMS}"]),
        (
            SEARCH + "seeds: {until: told, at most: 10}\nladder: [frozen, paper]\n",
            {},
            [f"study.yaml:3: {NO_ARMS}"],
        ),
        (
            GOOD,
            {"sets": ["seeds={until: told, at most: 100}"]},
            ["--set: seeds.at most: 100 is not allowed; input should be less than or equal to 30"],
        ),
        # what a command line puts over a file
        (
            ARM + "resources: 5\n",
            {"cpus": 2},
            ["study.yaml:3: resources: 5 is not allowed; a mapping"],
        ),
        (
            ARM + "metric: val_acc\n",
            {"sets": ["metric.x=1"]},
            ["--set: metric has no part 'x'; metric=VALUE"],
        ),
        (
            ARM + "seeds: [1, 2]\n",
            {"sets": ["seeds.0=1"]},
            ["--set: seeds has no part '0'; seeds=VALUE"],
        ),
        (ARM, {"sets": ["seed=3"]}, [f"--set: {SEED}"]),
        (
            SEARCH,
            {"sets": ["search.space={alignment.kk: }"]},
            ["--set: unknown dimension 'alignment.kk'; did you mean 'alignment.k'?"],
        ),
        (
            SEARCH,
            {"sets": ["retune=3"]},
            [
                "--set: retune gives every arm a search of its own; arms or an ablation, and "
                "search: {space: ...}"
            ],
        ),
        (
            ARM,
            {"name": "a" * 65},
            [f"--name: '{'a' * 65}' is not a study name; letters, digits, - and _, at most 64"],
        ),
        # nothing to learn
        (
            SEARCH + CEOA_ALONE,
            {"sets": ["alignment.enabled=false"]},
            ["--set: the base has nothing to learn; a loss weight above 0"],
        ),
        (
            ARM + "base: {modality: audio, loss_weights: {event: 0, scene: 0, object: 1}}\n",
            {},
            ["study.yaml:3: the base has nothing to learn; a loss weight above 0"],
        ),
        (
            ARM.replace("name: a", "name: a, set: {alignment.enabled: false}") + CEOA_ALONE,
            {},
            ["study.yaml:2: arm 'a' has nothing to learn; a loss weight above 0"],
        ),
        (
            SEARCH + CEOA_ALONE + "ladder: [{alignment.enabled: false}, {training.epochs: 3}]\n",
            {},
            ["study.yaml:4: rung 1 has nothing to learn; a loss weight above 0"],
        ),
        # itself
        (
            ARM + "best-of: study\n",
            {},
            ["study.yaml:3: best-of names this study itself; another study, or another `name`"],
        ),
        (
            SEARCH.replace("scheduler", "warm_start: study, scheduler"),
            {},
            [
                "study.yaml:2: warm_start names this study itself; its own trials are used anyway; "
                "leave it out"
            ],
        ),
        # names and figures
        (
            ARM.replace("name: a", "name: ' '"),
            {},
            ["study.yaml:2: ' ' is not a name for an arm; text without blanks around it"],
        ),
        (
            ARM + "base: {1: 5}\n",
            {},
            [
                "study.yaml:3: 1 is not a name; YAML takes true, false, null and numbers for "
                "values; put it in quotes"
            ],
        ),
        (
            ARM.replace(
                "name: a", "name: a, published: {table: I, row: 1, acc: 90, logloss: .nan}"
            ),
            {},
            [
                "study.yaml:2: arms.0.published.acc: 90 is not allowed; input should be less "
                "than or equal to 1",
                "study.yaml:2: arms.0.published.logloss: nan is not allowed; input should be a "
                "finite number",
            ],
        ),
        (
            ARM + "published: {Chen 2022: {table: I, row: 1, ac: 0.9}}\n",
            {},
            ["study.yaml:3: unknown key 'ac'; did you mean 'acc'?"],
        ),
    ],
)
def test_golden_faults_between_parts(
    tmp_path: Path, text: str, options: dict[str, object], expected: list[str]
):
    assert faults(tmp_path, text, **options) == expected


def test_an_empty_part_is_filled_by_the_command_line(tmp_path: Path):
    assert read(tmp_path, ARM + "resources:\n", cpus=2).resources.cpus == 2


def test_an_empty_space_and_nothing_to_run(tmp_path: Path):
    assert faults(tmp_path, "question: q\nsearch:\n  space: {}\n") == [
        "study.yaml:3: the search space is empty; dimensions such as contrast, loss_weights, "
        "modules; name at least one"
    ]
    assert faults(tmp_path, "question: q\n") == [
        "study.yaml:1: nothing to run; arms, an ablation, or a search"
    ]


def test_all_faults_at_once(tmp_path: Path):
    text = GOOD.replace("kind: none", "kind: nome").replace("alignment.mode:", "alignment.mood:")
    assert faults(tmp_path, text.replace("trials: 3", "sampler: x")) == [
        "study.yaml:8: fusion.kind: 'nome' is not allowed; input should be 'semantic', 'none', "
        "'intermediate', 'decision' or 'hybrid'",
        "study.yaml:14: unknown sampler 'x'; one of brute_force, cmaes, gp, nsga2, qmc, "
        "random, tpe, tpe_multivariate",
        "study.yaml:13: unknown dimension 'alignment.mood'; did you mean 'alignment.mode'?",
    ]


def test_misspelt_keys_hide_no_other_fault(tmp_path: Path):
    text = GOOD.replace("trials: 3", "trails: 3\n  sampler: tpr").replace("seeds:", "seed:")
    unknown = [
        "study.yaml:14: unknown key 'trails'; did you mean 'trials'?",
        "study.yaml:3: unknown key 'seed'; did you mean 'seeds'?",
    ]
    sampler = "study.yaml:15: unknown sampler 'tpr'; did you mean 'tpe'?"
    assert faults(tmp_path, text) == [*unknown, sampler]

    setting = (
        "--set: unknown key 'alignment.kk'; did you mean 'alignment.k'?; see `avsc-core config`"
    )
    assert faults(tmp_path, text, sets=["alignment.kk=1"]) == [*unknown, setting]


def test_text_of_the_study_is_taken_as_typed(tmp_path: Path):
    study = read(tmp_path, GOOD, sets=["search.warm_start=table #2: lkm"])
    assert study.search
    assert study.search.warm_start == "table #2: lkm"


def test_a_study_keeps_the_lines_of_its_file(tmp_path: Path):
    """Faults that a data set or the record brings to light later name the line, or the flag."""
    study = read(tmp_path, GOOD, trials=9)
    assert study.source_lines.where("search", "space", "alignment.mode").endswith("study.yaml:13")
    assert study.source_lines.where("search", "trials") == "--trials"
