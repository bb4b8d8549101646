"""Domains: what they contain, how a study file narrows them, how the record holds them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.catalogue import CATALOGUE
from search_spaces.domains import Choice, Domain, DomainFault, Float, Int, as_json, narrow


@pytest.mark.parametrize(
    ("domain", "spec", "narrowed"),
    [
        (Float(0, 1), None, Float(0, 1)),
        (Float(0, 1), {"low": 0.5}, Float(0.5, 1)),
        (Float(0.1, 1, log=True), {"log": False, "step": 0.1}, Float(0.1, 1, False, 0.1)),
        (Float(0, 1), [0, 0.5], Choice((0.0, 0.5))),
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
        (Float(0, 1), {"low": "a"}, "low 'a' is not a number"),
        (Float(0, 1), {"log": True}, "a log scale starts above 0"),
        (Float(0.1, 1, log=True), {"step": 0.1}, "a log scale has no steps; log: false"),
        (Float(0.1, 1), {"step": 0.1, "log": True}, "log and step together; one of them"),
        (Float(0, 1), {"step": 1e-320}, "step 9.99989e-321 is too fine to count"),
        (Int(1, 9), {"low": 1.5}, "low 1.5 is not a whole number"),
        (Int(1, 9), {"step": 1.5}, "step 1.5 is not a whole number above 0"),
        (Int(1, 9), {"step": None}, "step None is not a whole number above 0"),
        (Int(1, 9), {"step": True}, "step True is not a whole number above 0"),
        (Float(0, 1), {"step": float("nan")}, "step nan is not a number above 0"),
        (Float(0, 1), {"step": 0}, "step 0 is not a number above 0"),
        (Float(0, 1), {"high": float("inf")}, "high inf is not a number"),
        (Float(0, 1), [1, 1.0], "a value is given twice"),
        (Int(1, 9), [0, 1], "0 not allowed; 1 to 9"),
        (Int(1, 9), [], "no values to choose from; 1 to 9"),
        (Int(1, 9), [2, 2], "a value is given twice"),
        (Choice(("a", "b")), {"low": 1}, "is a choice; a list of values out of a, b"),
        (Choice(("a", "b")), ["z"], "z not allowed; a, b"),
        (Int(1, 9), 4, "4 is not a domain; a list of values or {low, high, log, step}"),
    ],
)
def test_narrowing_faults(domain: Domain, spec: object, fault: str):
    with pytest.raises(DomainFault) as caught:
        narrow(domain, spec)
    assert str(caught.value) == fault


@pytest.mark.parametrize(
    "domain",
    [*CATALOGUE.values(), Float(0, 1, step=0.1), Int(1, 9, step=2)],
    ids=lambda domain: domain.describe(),
)
def test_the_record_gives_back_what_it_was_given(domain: Domain):
    assert json.loads(json.dumps(as_json(domain))) == as_json(domain)


@given(st.integers(0, 5))
def test_steps_are_counted_in_spite_of_rounding(steps: int):
    domain = Float(0, 0.5, step=0.1)
    assert domain.contains(steps * 0.1)
    assert not domain.contains(steps * 0.1 + 0.05)


@given(
    st.dictionaries(
        st.sampled_from(["low", "high", "log", "step"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "1"]),
    ),
    st.sampled_from([Float(0, 1), Float(0.01, 100, log=True), Int(1, 30), Int(16, 4096, log=True)]),
)
def test_whatever_a_file_says_is_a_fault_or_lies_inside(spec: dict[str, object], domain: Domain):
    try:
        result = narrow(domain, spec)
    except DomainFault:
        return
    assert domain.low <= result.low <= result.high <= domain.high
    assert result.contains(result.low)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_narrowed_float_contains_exactly_its_range(one: float, two: float):
    low, high = sorted((one, two))
    domain = narrow(CATALOGUE["loss_weights.event"], {"low": low, "high": high})
    assert domain.contains(low)
    assert domain.contains(high)
    assert not domain.contains(high * 1.01)
    assert not domain.contains(True)
