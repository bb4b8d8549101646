"""Plans: equal arms once, keys, what may change between two starts of a study."""

import json
from pathlib import Path

import pytest

from avsc_core.data.dataset import DataSet
from avsc_core.errors import UserError
from avsc_core.resolve import trial_key
from studies.runner.prepare import describe_missing_arms, make_served_plan
from studies.study.plan import describe_plan, find_changes, make_plan, reseed
from tests.builders.studies import GOOD, read


def test_arms_of_equal_configuration_run_once(tmp_path: Path):
    twin = "  - {name: twin, set: {fusion.kind: none}}\n"
    plan = make_plan(read(tmp_path, GOOD.replace("search:\n", twin + "search:\n", 1)))
    assert [(trial.arm, trial.seed) for trial in plan.trials] == [
        ("all", 0),
        ("all", 1),
        ("no SF = twin", 0),
        ("no SF = twin", 1),
    ]
    assert all(trial.key == trial_key(trial.config) for trial in plan.trials)
    assert len({trial.key for trial in plan.trials}) == 4


def test_more_trials_and_arms_are_welcome_anything_else_is_told(tmp_path: Path):
    old = make_plan(read(tmp_path, GOOD)).definition
    more = GOOD.replace("trials: 3", "trials: 30").replace(
        "search:\n", "  - {name: new, set: {alignment.k: 3}}\nsearch:\n", 1
    )
    assert find_changes(old, make_plan(read(tmp_path, more, cpus=2)).definition) == []
    changed = make_plan(
        read(tmp_path, GOOD.replace("high: 10", "high: 20"), sets=["metric=val_logloss"])
    ).definition
    told = find_changes(old, changed)
    assert told[0] == "metric: val_acc, now val_logloss"
    assert "search.space.loss_weights.scene.high: 10.0, now 20.0" in told
    last = make_plan(read(tmp_path, GOOD, sets=["select=last 3"])).definition
    assert find_changes(old, last) == ["select: crossfit, now last 3"]
    dropped = make_plan(read(tmp_path, GOOD.replace("name: all", "name: base"))).definition
    assert [line.split(":")[0] for line in find_changes(old, dropped)] == ["arms.all"]


def test_seeds_may_be_added(tmp_path: Path):
    old = json.loads(json.dumps(make_plan(read(tmp_path, GOOD)).definition))

    def ask(seeds: str, text: str = GOOD) -> list[str]:
        return find_changes(
            old, make_plan(read(tmp_path, text, sets=[f"seeds={seeds}"])).definition
        )

    new_arm = "  - {name: new, set: {alignment.k: 3}}\nsearch:\n"
    assert ask("[0, 1, 2]") == ask("[0, 7, 1]") == []
    assert ask("[0, 1, 2]", GOOD.replace("search:\n", new_arm, 1)) == []
    assert ask("[0]") == ["seeds: [0, 1], now [0]"]
    assert ask("[0, 2]") == ["seeds: [0, 1], now [0, 2]"]
    assert ask("[1, 0, 2]") == ["seeds: [0, 1], now [1, 0, 2]"]  # searches use the first
    # A changed arm is told beside seeds that are dropped, and beside seeds that are added.
    changed = GOOD.replace("fusion: {kind: none}", "fusion: {kind: decision}")
    lines = [ask("[0]", changed), ask("[0, 1, 2]", changed)]
    assert [[line.split(":")[0] for line in found] for found in lines] == [
        ["seeds", "arms.no SF"],
        ["arms.no SF"],
    ]


def test_a_rule_for_seeds_is_part_of_the_question(tmp_path: Path):
    def define(seeds: str) -> dict[str, object]:
        study = read(tmp_path, GOOD, sets=[f"seeds={seeds}"])
        definition = make_plan(study).definition
        longer = make_plan(study.with_seeds(5)).definition
        assert find_changes(definition, longer) == []
        return definition

    listed = define("[0, 1]")
    ten = define("{until: told, at most: 10}")
    twelve = define("{until: told, at most: 12}")
    assert ten["seeds"] == [0, 1, 2]
    rule = "told at level 0.05, at most {} seeds"
    assert find_changes(listed, ten) == [f"until: nothing, now {rule.format(10)}"]
    assert find_changes(ten, twelve) == [f"until: {rule.format(10)}, now {rule.format(12)}"]
    assert find_changes(ten, listed) == [f"until: {rule.format(10)}, now nothing"]


def test_the_record_gives_back_the_same_question(tmp_path: Path):
    names = ("contrast", "readings", "training", "modules")
    groups = "".join(f"    {name}:\n" for name in names) + "    loss_weights.event: [1, 10]\n"
    text = GOOD.replace("    alignment.mode:\n", groups)
    definition = make_plan(read(tmp_path, text)).definition
    assert "alignment.mode" in definition["search"]["space"]
    assert (
        find_changes(json.loads(json.dumps(definition)), make_plan(read(tmp_path, text)).definition)
        == []
    )


def test_keys_do_not_change_with_device_or_the_way_of_writing(tmp_path: Path):
    keys = [trial.key for trial in make_plan(read(tmp_path, GOOD)).trials]
    same = GOOD.replace("fusion: {kind: none}", "fusion.kind: none").replace(
        "{alignment.k: 4}", "{alignment: {k: 4}}"
    )
    assert [
        trial.key for trial in make_plan(read(tmp_path, same, sets=["device=cpu"])).trials
    ] == keys
    assert [
        trial.key for trial in make_plan(read(tmp_path, GOOD, sets=["alignment.k=5"])).trials
    ] != keys


def test_a_searched_trial_and_its_values(tmp_path: Path):
    plan = make_plan(read(tmp_path, GOOD))
    values = {"loss_weights.scene": 3.5, "alignment.mode": "rkm"}
    (search,) = plan.searches
    trial = search.make_trial(values)
    assert (trial.arm, trial.seed, trial.config.loss_weights.scene) == ("search", 0, 3.5)
    assert search.find_point(trial.config) == values
    assert search.find_point(reseed(trial.config, 1)) is None  # another seed is another training
    assert search.find_point(trial.config.model_copy(update={"modality": "audio"})) is None
    outside = trial.config.model_copy(
        update={"loss_weights": trial.config.loss_weights.model_copy(update={"scene": 0.5})}
    )
    assert search.find_point(outside) is None


def test_the_plan_says_what_differs(tmp_path: Path):
    rows = list(describe_plan(make_plan(read(tmp_path, GOOD))))
    assert rows[1][2] == "nothing"
    assert rows[3][::2] == ["no SF", "fusion.kind none"]
    assert rows[5] == ["search", "", "loss_weights.scene: 1 to 10, log"]


def test_readings_of_teachers_need_teachers(tmp_path: Path, data: DataSet):
    arms = (
        "question: q\narms:\n  - {name: one}\n  - {name: two, set: {pseudo.event_threshold: 0.1}}\n"
    )
    why = f"{data.title} has true labels, no teachers' probabilities to read otherwise"
    plan = make_served_plan(read(tmp_path, arms), data)
    assert [trial.arm for trial in plan.trials] == ["one"]
    assert describe_missing_arms(plan) == [f"note: arm two is left out: {why}"]
    study = read(
        tmp_path, arms + "search:\n  space:\n    alignment.k:\n    pseudo.object_threshold:\n"
    )
    with pytest.raises(UserError) as caught:
        make_served_plan(study, data)
    told = (
        f"pseudo.object_threshold cannot be searched; {why}; "
        "leave it out, or run `avsc-core pseudo`"
    )
    assert str(caught.value) == f"{study.path}:8: {told}"
    labelled = data._replace(scores={"events": data.events})
    assert make_served_plan(study, labelled).searches


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("{alignment.k: 4}", "{losses.coarse: 1}"),
        GOOD.replace("fusion: {kind: none}", "losses: {coarse: 1}"),
        GOOD.replace("    alignment.mode:\n", "    losses.coarse: [0, 1]\n"),
    ],
)
def test_a_coarse_head_needs_the_scenes_of_tau(tmp_path: Path, data: DataSet, text: str):
    """One line names the scenes without a coarse class, before anything runs."""
    study = read(tmp_path, text)
    assert make_served_plan(study, data).trials
    foreign = data._replace(scene_names=("beach", *data.scene_names[1:]))
    with pytest.raises(UserError) as caught:
        make_served_plan(study, foreign)
    assert len(caught.value.faults) == 1
    assert str(caught.value).startswith(
        f"losses.coarse: {data.title} has scenes without a coarse class: beach; all ten of airport,"
    )
    make_served_plan(read(tmp_path, GOOD), foreign)
