"""The catalogue, spaces and samplers: one contract for every entry of every dict."""

import copy
from pathlib import Path

import pytest

from avsc_core.config import Config, Override, field_types, flatten, resolve
from avsc_core.errors import UserError
from search_spaces.catalogue import CATALOGUE, CONDITIONS, GROUPS
from search_spaces.domains import Choice, Domain, Float, Int
from search_spaces.sampling import SAMPLERS, Sampler
from search_spaces.space import SAMPLER_NAMES, Space, build_space

BASE = resolve("demo")


def where(key: str) -> str:
    return f"study.yaml:{key}"


def ends(domain: Domain) -> list[object]:
    return list(domain.values) if isinstance(domain, Choice) else [domain.low, domain.high]


@pytest.mark.parametrize("key", CATALOGUE)
def test_every_dimension_is_a_field_that_accepts_its_ends(key: str):
    assert key in field_types()
    domain = build_space({key: None}, resolve("paper"), where).dimensions[key]
    for value in ends(domain):
        assert domain.contains(value)
        config = resolve("paper", [Override(key, value, "test")])
        assert dict(flatten(config.model_dump()))[key] == value


def test_groups_and_conditions_name_dimensions():
    assert {key for members in GROUPS.values() for key in members} <= set(CATALOGUE)
    assert set(CONDITIONS) <= set(CATALOGUE)
    assert {other for other, _ in CONDITIONS.values()} <= set(CATALOGUE)


@pytest.mark.parametrize(
    ("spec", "base", "fault"),
    [
        (
            {"loss_weight": None},
            BASE,
            "study.yaml:loss_weight: unknown dimension 'loss_weight'; did you mean 'loss_weights'?",
        ),
        (
            {},
            BASE,
            "study.yaml:: the search space is empty; dimensions such as contrast, loss_weights, modules; "
            "name at least one",
        ),
        (
            {"alignment.k": {"high": 40}},
            BASE,
            "study.yaml:alignment.k: alignment.k: 40 is above half the classes; allowed: 1 to 32",
        ),
        (
            {"alignment.k": {"low": 40}},
            BASE,
            "study.yaml:alignment.k: alignment.k: 40 is above half the classes; allowed: 1 to 32",
        ),
        (
            {"alignment.k": [5, 33]},
            BASE,
            "study.yaml:alignment.k: alignment.k: 33 is above half the classes; allowed: 1 to 32",
        ),
        (
            {"contrast": [1]},
            BASE,
            "study.yaml:contrast: contrast is a group; its bounds cannot be narrowed together; name its members",
        ),
        (
            {"alignment.k": None},
            resolve("demo", [Override("alignment.enabled", False, "t")]),
            "study.yaml:alignment.k: alignment.k only means something when alignment.enabled is True; leave it out",
        ),
    ],
)
def test_space_faults(spec: dict[str, object], base: Config, fault: str):
    with pytest.raises(UserError) as caught:
        build_space(spec, base, where)
    assert str(caught.value) == fault


def test_a_full_k_ends_at_half_the_classes():
    assert build_space({"alignment.k": None}, BASE, where).dimensions["alignment.k"] == Int(1, 32)


@pytest.mark.parametrize(
    ("narrowing", "bounds"), [({"low": 2}, Int(2, 32)), ({"log": True}, Int(1, 32, log=True)), ({}, Int(1, 32))]
)
def test_half_the_classes_is_no_fault_of_a_file_that_names_no_end(narrowing: dict[str, object], bounds: Int):
    assert build_space({"alignment.k": narrowing}, BASE, where).dimensions["alignment.k"] == bounds


def test_a_line_of_its_own_says_more_than_the_group_in_either_order():
    own = {"loss_weights.event": {"high": 10}}
    for spec in ({"loss_weights": None, **own}, {**own, "loss_weights": None}):
        dimensions = build_space(spec, BASE, where).dimensions
        assert len(dimensions) == 5
        assert dimensions["loss_weights.event"] == Float(0.01, 10.0, log=True)
        assert dimensions["loss_weights.scene"] == CATALOGUE["loss_weights.scene"]


def test_choices_of_a_real_number_may_be_written_whole():
    space = build_space({"loss_weights.scene": [1, 10]}, BASE, where)
    assert space.hash() == build_space({"loss_weights.scene": [1.0, 10.0]}, BASE, where).hash()
    assert space.contains({"loss_weights.scene": BASE.loss_weights.scene})


def test_the_hash_knows_bounds_and_not_order():
    one = build_space({"alignment.mode": None, "training.warmup": None}, BASE, where)
    two = build_space({"training.warmup": None, "alignment.mode": None}, BASE, where)
    three = build_space({"training.warmup": {"high": 0.4}, "alignment.mode": None}, BASE, where)
    assert one.hash() == two.hash() != three.hash()


@pytest.fixture(scope="module")
def space() -> Space:
    """Every kind of dimension, with conditions."""
    spec = {
        "alignment.k": None,
        "loss_weights.e2o": None,
        "alignment.enabled": None,
        "training.warmup": {"low": 0.0, "high": 0.2, "step": 0.1},
        "fusion.hidden": {"low": 16, "high": 64},
        "alignment.mode": None,
    }
    return build_space(spec, BASE, where)


def goodness(values: dict[str, object]) -> float:
    return float(values.get("alignment.k", 0))


def trials(space: Space, name: str, count: int, seed: int = 0, skip: int = 0) -> list[dict[str, object]]:
    sampler = Sampler(space, name, seed, "max")
    asked = []
    for turn in range(count + skip):
        number, values = sampler.ask()
        state = ("complete", "complete", "complete", "pruned", "failed")[turn % 5]
        sampler.tell(number, state, goodness(values) if state == "complete" else None)
        asked.append(copy.deepcopy(values))
    return asked[skip:]


def test_names_agree():
    assert tuple(SAMPLERS) == SAMPLER_NAMES


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.filterwarnings("ignore")
class TestEverySampler:
    """What every sampler must do."""

    def test_values_are_legal_and_conditions_respected(self, name: str, space: Space):
        for values in trials(space, name, 30):
            assert space.contains(values)
            present = {key for key in space.dimensions if values["alignment.enabled"] or key not in CONDITIONS}
            assert set(values) == present
            settings = dict(flatten(BASE.model_dump())) | values
            resolve("demo", [Override(key, value, "test") for key, value in settings.items()])

    def test_both_ends_are_reached(self, name: str):
        small = build_space(
            {"alignment.k": [1, 2, 3], "alignment.mode": None, "training.batch_size": [4, 64]}, BASE, where
        )
        asked = trials(small, name, 60)
        for key, domain in small.dimensions.items():
            assert {values[key] for values in asked} == set(ends(domain))

    def test_the_seed_repeats_it(self, name: str, space: Space):
        assert trials(space, name, 14, seed=4) == trials(space, name, 14, seed=4)
        assert trials(space, name, 14, seed=4) != trials(space, name, 14, seed=5)

    def test_a_replayed_study_goes_on(self, name: str, space: Space):
        sampler = Sampler(space, name, 7, "max")
        for values in trials(space, name, 15):
            sampler.replay(values, "complete", goodness(values))
        sampler.replay(trials(space, name, 1)[0], "pruned", None)
        number, values = sampler.ask()
        assert space.contains(values)
        sampler.tell(number, "complete", 1.0)
        assert len(sampler.study.trials) == 17


@pytest.mark.filterwarnings("ignore:The distribution is specified")  # 0.5 is no whole step
def test_whatever_a_stepped_space_contains_can_be_replayed():
    stepped = build_space({"training.warmup": {"low": 0.0, "high": 0.5, "step": 0.2}}, BASE, where)
    warmups = [each / 20 for each in range(11)]
    inside = [value for value in warmups if stepped.contains({"training.warmup": value})]
    assert inside == [0.0, 0.2, 0.4]
    for value in inside:
        Sampler(stepped, "tpe", 0, "max").replay({"training.warmup": value}, "complete", 1.0)


def test_tpe_finds_the_better_side():
    wide = build_space({"alignment.k": None}, BASE, where)
    late = [values["alignment.k"] for values in trials(wide, "tpe", 20, skip=20)]
    early = [values["alignment.k"] for values in trials(wide, "random", 40)]
    assert sum(late) / 20 > sum(early) / 40 + 4


def test_readme_promise_a_dimension_is_one_line():
    text = (Path(__file__).parent.parent / "search_spaces" / "catalogue.py").read_text()
    for key in CATALOGUE:
        assert text.count(f'    "{key}": ') >= 1
