"""Designs of ablations, their validity, retuning, ladders and starting points: what a study file
turns into."""

from pathlib import Path

import pytest

from avsc_core.errors import UserError
from avsc_core.resolve import Override, resolve
from studies.engine.strategy import Strategy
from studies.study.plan import Plan, make_plan
from studies.study.reading import read_study
from tests.builders.studies import LADDER, MODULES, SEARCH, faults, read
from tests.builders.trials import drain, record, told


def plan(folder: Path, text: str, **options: object) -> Plan:
    return make_plan(read(folder, text, **options))


@pytest.mark.parametrize(
    ("design", "names"),
    [
        (
            "factorial",
            [
                "SF without, CEOA without",
                "SF without, CEOA with",
                "SF with, CEOA without",
                "SF with, CEOA with",
            ],
        ),
        ("leave_one_out", ["all", "without SF", "without CEOA"]),
        ("add_one_in", ["none", "only SF", "only CEOA"]),
        ("one_at_a_time", ["base", "SF with", "CEOA with"]),
    ],
)
def test_every_design(tmp_path: Path, design: str, names: list[str]):
    study = read(tmp_path, MODULES.replace("factorial", design))
    assert [arm.name for arm in study.arms] == names
    settings = {(arm.config.fusion.kind, arm.config.alignment.enabled) for arm in study.arms}
    assert len(settings) == len(names)
    for arm in study.arms:
        assert arm.levels["SF"] == ("with" if arm.config.fusion.kind == "semantic" else "without")
        assert arm.levels["CEOA"] == ("with" if arm.config.alignment.enabled else "without")
        if not arm.config.alignment.enabled:  # no CEOA: no K, no mode, no lambda_3, no lambda_4
            assert (arm.config.alignment.k, arm.config.alignment.mode) == (1, "lkm")
            assert (arm.config.loss_weights.e2o, arm.config.loss_weights.o2e) == (0.0, 0.0)


def test_combinations_that_train_the_same_run_once(tmp_path: Path):
    """Without CEOA there is no K, so three of the six cells are one training."""
    text = MODULES.replace(
        "    SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}\n", ""
    )
    text = text.replace("  factors:\n", "  factors:\n    alignment.k: [3, 4, 6]\n")
    made = plan(tmp_path, text)
    assert len(made.study.arms) == 6
    assert len(made.trials) == 2 * 4
    assert sum(trial.arm.count(" = ") for trial in made.trials) == 2 * 2


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "design: factorial",
            "design: latin",
            "study.yaml:4: ablation.design: 'latin' is not allowed; input should be "
            "'factorial', 'leave_one_out', 'add_one_in' or 'one_at_a_time'",
        ),
        (
            "without: {fusion.kind: none}, ",
            "",
            "study.yaml:6: factor SF has 1 level; at least two levels",
        ),
        (
            "fusion.kind: none",
            "fusion.kind: nome",
            "study.yaml:6: fusion.kind: 'nome' is not allowed; input should be 'semantic', "
            "'none', 'intermediate', 'decision' or 'hybrid'",
        ),
        (
            "fusion.kind: none",
            "split.seed: 3",
            "study.yaml:6: split.seed in an arm; all arms are validated on the same clips; "
            "in the base",
        ),
        (
            "design: factorial\n",
            "design: factorial\n  published: {SF: {table: II, row: 1}}\n",
            "study.yaml:5: no arm 'SF'; SF without, CEOA without, SF without, CEOA with, "
            "SF with, CEOA without, SF with, CEOA with",
        ),
        (
            "design: factorial\n",
            "design: factorial\n  factor: {}\n",
            "study.yaml:5: unknown key 'factor'; did you mean 'factors'?",
        ),
        (
            "seeds: [0, 1]",
            "retune: 5",
            "study.yaml:2: retune gives every arm a search of its own; arms or an "
            "ablation, and search: {space: ...}",
        ),
        (
            "seeds: [0, 1]",
            "ladder: [frozen, paper]\nsearch: {space: {loss_weights: }, scheduler: none}",
            "study.yaml:2: a ladder with arms of its own; it compares what its search "
            "finds; put them into search.first, or into another study",
        ),
        (
            "SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}",
            "alignment.k: []",
            "study.yaml:6: factor alignment.k has 0 levels; at least two levels",
        ),
        (
            "SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}",
            "training.epochs: [2001-01-01, 5]",
            "study.yaml:6: training.epochs: '2001-01-01' is not allowed; input should be a "
            "valid integer, unable to parse string as an integer",
        ),
        (
            "SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}",
            "alignment.k: [1, 1]",
            "study.yaml:6: level 1 of factor alignment.k is given twice",
        ),
        (
            "SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}",
            "alignment.enabled: [false, true]",
            "study.yaml:7: factors alignment.enabled and CEOA both set alignment.enabled; "
            "one factor a setting",
        ),
        (
            "SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}",
            "SF: 5",
            "study.yaml:6: factor SF is 5; a setting with a list of values, or a name with "
            "levels: {LEVEL: {setting: value}}",
        ),
        (
            "SF: {without: {fusion.kind: none}",
            "SF: {false: {fusion.kind: none}",
            "study.yaml:6: False is not a name; YAML takes true, false, null and numbers "
            "for values; put it in quotes",
        ),
        (
            "SF: {without: {fusion.kind: none}",
            "SF: {without: none",
            "study.yaml:6: level without of factor SF is 'none'; {setting: value}",
        ),
        (
            "seeds: [0, 1]",
            "arms: [{name: 'SF with, CEOA with'}]",
            "study.yaml:3: two arms are called 'SF with, CEOA with'; rename one",
        ),
        ("seeds: [0, 1]", "best-of: lambda", "study.yaml:2: study lambda is not in the record"),
    ],
)
def test_golden_faults(tmp_path: Path, old: str, new: str, fault: str):
    assert old in MODULES
    assert faults(tmp_path, MODULES.replace(old, new, 1)) == [fault]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "sampler: brute_force",
            "study.yaml:5: brute_force cannot count the values of loss_weights.scene; give "
            "them a step or a list of values",
        ),
        (
            "scheduler: pbt",
            "study.yaml:5: unknown scheduler 'pbt'; its trials have no configuration to "
            "compare or retrain; asha",
        ),
        (
            "first: [{alignment.k: 5}]",
            "study.yaml:5: 'alignment.k' is not a dimension of this search; one of "
            "loss_weights.scene",
        ),
        (
            "sampler: brute_force\n  space: {training.warmup: {step: 1.0e-6}}",
            "study.yaml:5: brute_force would try 500001 points; at most 100000; larger "
            "steps, or fewer values",
        ),
        (
            f"first: [{{loss_weights.scene: {10**30}}}]",
            f"study.yaml:5: loss_weights.scene {10**30} lies outside the space; 0.01 to 100, log",
        ),
        (
            "first: [{loss_weights.scene: 500}]",
            "study.yaml:5: loss_weights.scene 500 lies outside the space; 0.01 to 100, log",
        ),
    ],
)
def test_golden_faults_of_a_search(tmp_path: Path, line: str, fault: str):
    text = f"question: q\nsearch:\n  trials: 3\n\n  {line}\n"
    text += "" if "space:" in line else "  space: {loss_weights.scene: }\n"
    assert faults(tmp_path, text) == [fault]


def test_a_ladder_needs_a_search(tmp_path: Path):
    told = "study.yaml:2: a ladder without a search; search: {space: ...}"
    assert told in faults(tmp_path, "question: q\nladder: [frozen, paper]\n")


def test_two_metrics_suit_not_every_sampler_or_scheduler(tmp_path: Path):
    text = (
        "question: q\nmetric: [val_acc, val_logloss]\nsearch: {space: {loss_weights: "
        "}, sampler: cmaes}\n"
    )
    assert faults(tmp_path, text) == [
        "study.yaml:3: cmaes takes one metric; tpe, gp or nsga2 take two",
        "study.yaml:3: asha compares trials by one metric; scheduler: none",
    ]
    assert (
        faults(tmp_path, text.replace("val_logloss", "val_acc"))[0]
        == "study.yaml:2: a metric is given twice"
    )


def test_no_arm_and_no_factor_looks_like_a_search(tmp_path: Path):
    text = MODULES.replace("factorial", "one_at_a_time").replace("SF:", "'search: SF':")
    assert faults(tmp_path, text) == [
        "study.yaml:3: 'search: SF with' names the search's trials; rename the arm"
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "ladder: [{training.epochs: 2}, frozen]\n",
            "the full rung: augmentation.flip with visual.freeze all",
        ),
        (
            "retune: 3\narms: [{name: a, set: {visual.freeze: all}}]\n",
            "a: augmentation.flip with visual.freeze all",
        ),
    ],
)
def test_a_space_suits_every_configuration_it_is_laid_around(tmp_path: Path, text: str, fault: str):
    text = f"question: q\nsearch: {{space: {{augmentation.flip: }}, scheduler: none}}\n{text}"
    why = "its encoder runs once, without it; leave out one of them"
    assert faults(tmp_path, text, preset="paper") == [f"study.yaml:2: {fault}; {why}"]


def test_brute_force_tries_all_its_points(tmp_path: Path):
    text = "question: q\nsearch: {space: {alignment.enabled: , contrast: }, sampler: brute_force}\n"
    made = plan(tmp_path, text)
    assert made.study.search.trials == 1 + 32 * 2
    assert len(drain(Strategy(made, []))) == 65


def test_a_whole_number_is_a_choice_of_real_ones(tmp_path: Path):
    text = (
        "question: q\nsearch: {space: {loss_weights.scene: [1, 2]}, first: "
        "[{loss_weights.scene: 2}]}\n"
    )
    assert read(tmp_path, text).search.first == ({"loss_weights.scene": 2.0},)


def test_every_arm_is_retuned_over_what_it_leaves_open(tmp_path: Path):
    made = plan(tmp_path, MODULES + SEARCH + "retune: 3\n")
    assert [search.name for search in made.searches] == [arm.name for arm in made.study.arms]
    dimensions = [set(search.space.dimensions) for search in made.searches]
    assert dimensions == [{"loss_weights.scene"}, {"alignment.k", "loss_weights.scene"}] * 2
    strategy = Strategy(made, [])
    assert strategy.total == 8 + 12
    trials = drain(strategy, lambda trial: trial.config.loss_weights.scene)
    # 4 arms x 2 seeds, 3 trials for each, and the best of each with the other seed
    assert len(trials) == 8 + 12 + 4 == strategy.total
    again = [trial for trial in trials if trial.role == "retuned"]
    for trial in again:
        name = trial.arm
        (arm,) = [arm for arm in made.study.arms if arm.name == name]
        own = [each for each in trials if each.arm == name and each.seed == 0]
        best = max(own, key=lambda each: each.config.loss_weights.scene)
        assert trial.seed == 1
        assert trial.config.model_copy(update={"seed": 0}) == best.config
        assert trial.config.alignment.enabled == arm.config.alignment.enabled


def test_a_retuned_study_goes_on_where_it_was(tmp_path: Path):
    made = plan(tmp_path, MODULES + SEARCH + "retune: 3\n")
    first = drain(Strategy(made, []), lambda trial: trial.config.loss_weights.scene)
    for cut in (5, 9, 15, 21, len(first)):
        records = [
            record(trial, "complete", trial.config.loss_weights.scene) for trial in first[:cut]
        ]
        rest = drain(Strategy(made, records), lambda trial: trial.config.loss_weights.scene)
        assert len(rest) == len(first) - cut
        assert not {trial.key for trial in rest} & {trial.key for trial in first[:cut]}
    assert Strategy(made, records).done


@pytest.mark.parametrize(
    "text", [MODULES + SEARCH + "retune: 4\n", LADDER], ids=["retuned", "ladder"]
)
def test_of_equals_the_same_is_followed_up_whichever_ended_first(tmp_path: Path, text: str):
    made = plan(tmp_path, text)
    trials = drain(Strategy(made, []))  # all equal
    for order in (trials, trials[::-1], sorted(trials)):
        assert Strategy(made, [record(trial, "complete", 0.5) for trial in order]).done


def test_a_ladder_follows_up_the_best_and_what_is_published(tmp_path: Path):
    made = plan(tmp_path, LADDER)
    strategy = Strategy(made, [])
    trials = drain(strategy, lambda trial: trial.config.loss_weights.scene)
    lower = [trial for trial in trials if trial.config.training.epochs == 2]
    upper = [trial for trial in trials if trial.config.training.epochs == 20]
    assert len(lower) == 1 + 4  # the base, which is what is published, and the search
    assert len(upper) == 2 * (1 + 2)
    ranked = sorted((t for t in lower), key=lambda t: -t.config.loss_weights.scene)
    by_key = {trial.key: trial for trial in lower}
    finalists = [trial for trial in upper if trial.arm.startswith("finalist")]
    assert [trial.config.loss_weights.scene for trial in finalists[::2]] == [
        trial.config.loss_weights.scene for trial in ranked[:2]
    ]
    for trial in upper:
        assert by_key[trial.origin].config.loss_weights == trial.config.loss_weights
    assert len({trial.key for trial in trials}) == len(trials) == strategy.total
    records = [record(trial, "complete", trial.config.loss_weights.scene) for trial in trials[:7]]
    assert len(drain(Strategy(made, records), lambda trial: trial.config.loss_weights.scene)) == 4


def test_the_published_configuration_is_not_a_finalist(tmp_path: Path):
    """The base is a point of the space as well; as the best of all it still is trained once at each
    rung."""
    trials = drain(
        Strategy(plan(tmp_path, LADDER), []),
        lambda trial: -abs(trial.config.loss_weights.scene - 1),
    )
    assert len({trial.key for trial in trials}) == len(trials) == 1 + 4 + 2 * 3
    finalists = [trial for trial in trials if trial.arm.startswith("finalist")]
    assert all(trial.config.loss_weights.scene != 1 for trial in finalists)


def test_known_points_start_a_search(tmp_path: Path):
    text = SEARCH.replace(
        "sampler: random", "trials: 3, first: [{alignment.k: 9}, {loss_weights.scene: 7}]"
    )
    made = plan(tmp_path, "question: q\n" + text)
    trials = drain(Strategy(made, []))
    assert [
        (trial.config.alignment.k, trial.config.loss_weights.scene) for trial in trials[:2]
    ] == [(9, 1.0), (5, 7.0)]


def test_a_warm_start_learns_from_an_earlier_study_where_it_fits(tmp_path: Path):
    earlier = plan(
        tmp_path, "question: q\nsearch: {space: {alignment.k: }, trials: 6, sampler: random}\n"
    )
    records = [record(trial, "complete", 0.7) for trial in drain(Strategy(earlier, []))]
    other = resolve("demo", [Override("fusion.hidden", 99, "t")])
    records.append(records[0]._replace(config=other, key="other"))
    text = (
        "question: q\nsearch: {space: {alignment.k: , loss_weights.scene: }, trials: "
        "2, warm_start: earlier}\n"
    )
    strategy = Strategy(plan(tmp_path, text), [], records)
    assert strategy.warm == 6
    told = strategy.searches["search"].sampler.study.trials
    assert len(told) == 6
    assert all(trial.values == [0.7] for trial in told)
    assert len(drain(strategy)) == 2


def test_the_base_may_be_the_best_of_another_study(tmp_path: Path):
    best = resolve("demo", [Override("alignment.k", 9, "t"), Override("training.epochs", 7, "t")])
    asked = []

    def winner_of(own: str, source: str, where: str) -> tuple[str, object]:
        asked.append((own, source, where))
        return "abc", best

    text = "question: q\nbest-of: lambda\nbase: {alignment.k: 8}\narms: [{name: one}]\n"
    (tmp_path / "mine.yaml").write_text(text)
    study = read_study(tmp_path / "mine.yaml", winner_of=winner_of)
    assert asked == [("mine", "lambda", f"{tmp_path}/mine.yaml:2")]
    assert (study.base.alignment.k, study.base.training.epochs) == (8, 7)
    assert make_plan(study).definition["best_of"] == {"study": "lambda", "key": "abc"}
    with pytest.raises(UserError, match="best-of and a preset"):
        read_study(tmp_path / "mine.yaml", preset="demo", winner_of=winner_of)


def test_an_arm_that_is_still_training_is_not_asked_for_again(tmp_path: Path):
    text = SEARCH.replace(
        "sampler: random", "trials: 2, first: [{alignment.k: 5}, {alignment.k: 9}]"
    )
    strategy = Strategy(
        plan(tmp_path, "question: q\narms: [{name: k 5, set: {alignment.k: 5}}]\n" + text), []
    )
    arm, other = strategy.next(), strategy.next()
    assert arm
    assert other
    assert other.config.alignment.k == 9
    strategy.finish(arm, "complete", told(0.9))
    strategy.finish(other, "complete", told(0.8))
    rest = drain(strategy)
    assert len({trial.key for trial in (arm, other, *rest)}) == 2 + len(rest) == strategy.total == 3


def test_a_search_that_switches_a_module_on_finds_its_settings_as_written(tmp_path: Path):
    """The base has CEOA off; its lambda_3 is inactive there and active in the trials that switch it
    on."""
    text = "question: q\nbase: {alignment.enabled: false, loss_weights.e2o: 0.5}\n"
    text += "search: {space: {alignment.enabled: }, trials: 2, sampler: brute_force}\n"
    found = {
        t.config.alignment.enabled: t.config.loss_weights.e2o
        for t in drain(Strategy(plan(tmp_path, text), []))
    }
    assert found == {True: 0.5, False: 0.0}
