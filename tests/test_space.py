"""Domains, the catalogue, spaces and samplers: one contract for every entry of every dict."""

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsc_core.config import Config, Override, field_types, flatten, resolve
from avsc_core.errors import UserError
from search_spaces.catalogue import CATALOGUE, CONDITIONS, GROUPS
from search_spaces.domains import Choice, Domain, DomainFault, Float, Int, narrow
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
    ("domain", "spec", "narrowed"),
    [
        (Float(0, 1), None, Float(0, 1)),
        (Float(0, 1), {"low": 0.5}, Float(0.5, 1)),
        (Float(0.1, 1, log=True), {"log": False, "step": 0.1}, Float(0.1, 1, False, 0.1)),
        (Float(0, 1), [0.0, 0.5], Choice((0.0, 0.5))),
        (Int(1, 30), {"low": 5, "high": 30, "step": 5}, Int(5, 30, False, 5)),
        (Int(1, 30), [1, 5, 10], Choice((1, 5, 10))),
        (Choice(("a", "b", "c")), ["c", "a"], Choice(("c", "a"))),
    ],
)
def test_narrowing(domain: Domain, spec: object, narrowed: Domain):
    assert narrow(domain, spec) == narrowed


@pytest.mark.parametrize(
    ("domain", "spec", "fault"),
    [
        (Float(0, 1), {"high": 2}, "0 to 2 reaches outside 0 to 1"),
        (Float(0, 1), {"low": 0.6, "high": 0.5}, "low 0.6 is above high 0.5; the space is empty"),
        (Float(0, 1), {"lo": 0.6}, "unknown lo; low, high, log, step"),
        (Float(0, 1), {"low": "a"}, "low 'a' is no number"),
        (Float(0, 1), {"log": True}, "a log scale starts above 0"),
        (Float(0.1, 1, log=True), {"step": 0.1}, "log and step together; one of them"),
        (Int(1, 9), {"low": 1.5}, "low 1.5 is no whole number"),
        (Int(1, 9), [0, 1], "0 not allowed; 1 to 9"),
        (Int(1, 9), [], "no values to choose from; 1 to 9"),
        (Int(1, 9), [2, 2], "a value stands twice"),
        (Choice(("a", "b")), {"low": 1}, "is a choice; a list of values out of a, b"),
        (Choice(("a", "b")), ["z"], "z not allowed; a, b"),
        (Int(1, 9), 4, "4 is no domain; a list of values or {low, high, log, step}"),
    ],
)
def test_narrowing_faults(domain: Domain, spec: object, fault: str):
    with pytest.raises(DomainFault) as caught:
        narrow(domain, spec)
    assert str(caught.value) == fault


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


def test_tpe_finds_the_better_side():
    wide = build_space({"alignment.k": None}, BASE, where)
    late = [values["alignment.k"] for values in trials(wide, "tpe", 20, skip=20)]
    early = [values["alignment.k"] for values in trials(wide, "random", 40)]
    assert sum(late) / 20 > sum(early) / 40 + 4


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_narrowed_float_contains_exactly_its_range(one: float, two: float):
    low, high = sorted((one, two))
    domain = narrow(CATALOGUE["loss_weights.event"], {"low": low, "high": high})
    assert domain.contains(low)
    assert domain.contains(high)
    assert not domain.contains(high * 1.01)
    assert not domain.contains(True)


def test_readme_promise_a_dimension_is_one_line():
    text = (Path(__file__).parent.parent / "search_spaces" / "catalogue.py").read_text()
    for key in CATALOGUE:
        assert text.count(f'    "{key}": ') >= 1
