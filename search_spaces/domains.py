"""The values a dimension can take: typed, with both ends included.

A domain can be narrowed by a study file but never widened: the catalogue's bounds are what the code is known to accept.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


class DomainFault(ValueError):
    """A narrowing that makes no sense; the message is one line for the person who wrote it."""


@dataclass(frozen=True)
class Float:
    """Real numbers from `low` to `high`, sampled on a log scale or in steps when told so."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def contains(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high

    def describe(self) -> str:
        return (
            f"{self.low:g} to {self.high:g}{', log' if self.log else ''}{f', step {self.step:g}' if self.step else ''}"
        )


@dataclass(frozen=True)
class Int:
    """Whole numbers from `low` to `high`, sampled on a log scale or in steps when told so."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def contains(self, value: Any) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and self.low <= value <= self.high and (value - self.low) % self.step == 0

    def describe(self) -> str:
        return f"{self.low} to {self.high}{', log' if self.log else ''}{f', step {self.step}' if self.step > 1 else ''}"


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def contains(self, value: Any) -> bool:
        return any(value == own and type(value) is type(own) for own in self.values)

    def describe(self) -> str:
        return ", ".join(map(str, self.values))


Domain = Float | Int | Choice


def as_json(domain: Domain) -> dict[str, Any]:
    """A domain as plain JSON, its kind included."""
    return {"kind": type(domain).__name__.lower(), **asdict(domain)}


def narrow(domain: Domain, spec: Any) -> Domain:
    """`domain` narrowed by what a study file says: nothing, a list of choices, or {low, high, log, step}.

    Raises DomainFault when the result would be empty, wider than `domain`, or makes no sense.
    """
    if spec is None or spec == {}:
        return domain
    if isinstance(spec, (list, tuple)):
        return _choices(domain, spec)
    if not isinstance(spec, Mapping):
        raise DomainFault(f"{spec!r} is no domain; a list of values or {{low, high, log, step}}")
    if isinstance(domain, Choice):
        raise DomainFault(f"is a choice; a list of values out of {domain.describe()}")
    unknown = sorted(set(spec) - {"low", "high", "log", "step"})
    if unknown:
        raise DomainFault(f"unknown {', '.join(map(str, unknown))}; low, high, log, step")
    return _range(domain, spec)


def _choices(domain: Domain, values: list[Any] | tuple[Any, ...]) -> Domain:
    if not values:
        raise DomainFault(f"no values to choose from; {domain.describe()}")
    outside = [value for value in values if not domain.contains(value)]
    if outside:
        raise DomainFault(f"{', '.join(map(str, outside))} not allowed; {domain.describe()}")
    if len({repr(value) for value in values}) < len(values):
        raise DomainFault("a value stands twice")
    return Choice(tuple(values))


def _range(domain: Float | Int, spec: Mapping[str, Any]) -> Domain:
    bounds = {"low": domain.low, "high": domain.high, "log": domain.log, "step": domain.step, **spec}
    for end in ("low", "high"):
        number = bounds[end]
        right = isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
        if not right or (isinstance(domain, Int) and number != int(number)):
            raise DomainFault(f"{end} {number!r} is no {'whole ' if isinstance(domain, Int) else ''}number")
    if bounds["low"] > bounds["high"]:
        raise DomainFault(f"low {bounds['low']:g} is above high {bounds['high']:g}; the space is empty")
    if bounds["low"] < domain.low or bounds["high"] > domain.high:
        raise DomainFault(f"{bounds['low']:g} to {bounds['high']:g} reaches outside {domain.low:g} to {domain.high:g}")
    if not isinstance(bounds["log"], bool):
        raise DomainFault(f"log {bounds['log']!r} is neither true nor false")
    step = bounds["step"]
    stepped = step is not None and (isinstance(domain, Float) or step != 1)
    if stepped and (isinstance(step, bool) or not isinstance(step, (int, float)) or step <= 0):
        raise DomainFault(f"step {step!r} is not above 0")
    if stepped and bounds["log"]:
        raise DomainFault("log and step together; one of them")
    if bounds["log"] and bounds["low"] <= 0:
        raise DomainFault("a log scale starts above 0")
    if isinstance(domain, Int):
        return Int(int(bounds["low"]), int(bounds["high"]), bounds["log"], int(step))
    return Float(float(bounds["low"]), float(bounds["high"]), bounds["log"], None if step is None else float(step))
