"""The values a dimension can take: typed, with both ends included.

A domain can be narrowed by a study file but never widened: the catalogue's bounds are what the code is known to accept.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

ON_GRID = 1e-8  # in steps; Optuna refuses to learn from a value that is further off its grid
MOST_STEPS = 2**53  # beyond it floats cannot tell one step from the next


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
        if not _is_number(value, whole=False) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return bool(abs(steps - round(steps)) < ON_GRID)

    def count(self) -> int | None:
        """How many values there are, or None when they cannot be counted."""
        if self.step is None:
            return 1 if self.low == self.high else None
        return int((self.high - self.low) / self.step + ON_GRID) + 1

    def every(self) -> Iterator[float]:
        """All values in order, when they can be counted."""
        return (self.low + number * (self.step or 0.0) for number in range(self.count() or 0))

    def describe(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}{f', step {self.step:g}' if self.step else ''}"


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

    def count(self) -> int:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    def every(self) -> Iterator[int]:
        """All values in order."""
        return iter(range(self.low, self.high + 1, self.step))

    def describe(self) -> str:
        return f"{self.low} to {self.high}{', log' if self.log else ''}{f', step {self.step}' if self.step > 1 else ''}"


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def contains(self, value: Any) -> bool:
        return any(value == own and type(value) is type(own) for own in self.values)

    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    def every(self) -> Iterator[Any]:
        """All values in order."""
        return iter(self.values)

    def describe(self) -> str:
        return ", ".join(map(str, self.values))


Domain = Float | Int | Choice


def as_json(domain: Domain) -> dict[str, Any]:
    """A domain as JSON gives it back (lists, no tuples), its kind included; the record compares it."""
    fields = {"values": list(domain.values)} if isinstance(domain, Choice) else asdict(domain)
    return {"kind": type(domain).__name__.lower(), **fields}


def from_json(content: Mapping[str, Any]) -> Domain:
    """The inverse of `as_json`."""
    fields = {name: value for name, value in content.items() if name != "kind"}
    if content["kind"] == "choice":
        return Choice(tuple(fields["values"]))
    return Float(**fields) if content["kind"] == "float" else Int(**fields)


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
    if isinstance(domain, Float):  # a file's 1 is the configuration's 1.0
        values = [float(value) for value in values]
    if len({repr(value) for value in values}) < len(values):
        raise DomainFault("a value stands twice")
    return Choice(tuple(values))


def _range(domain: Float | Int, spec: Mapping[str, Any]) -> Domain:
    bounds = {
        "low": domain.low,
        "high": domain.high,
        "log": domain.log,
        "step": domain.step,
        **spec,
    }
    whole = isinstance(domain, Int)
    kind = "whole number" if whole else "number"
    for end in ("low", "high"):
        if not _is_number(bounds[end], whole):
            raise DomainFault(f"{end} {bounds[end]!r} is no {kind}")
    if bounds["low"] > bounds["high"]:
        raise DomainFault(
            f"low {bounds['low']:g} is above high {bounds['high']:g}; the space is empty"
        )
    if bounds["low"] < domain.low or bounds["high"] > domain.high:
        raise DomainFault(
            f"{bounds['low']:g} to {bounds['high']:g} reaches outside {domain.low:g} to {domain.high:g}"
        )
    if not isinstance(bounds["log"], bool):
        raise DomainFault(f"log {bounds['log']!r} is neither true nor false")
    step = bounds["step"]
    if (whole or step is not None) and not (_is_number(step, whole) and step > 0):
        raise DomainFault(f"step {step!r} is no {kind} above 0")
    if bounds["log"] and step is not None and not (whole and step == 1):
        raise DomainFault(
            "log and step together; one of them"
            if "log" in spec
            else "a log scale has no steps; log: false"
        )
    if step is not None and (bounds["high"] - bounds["low"]) / step > MOST_STEPS:
        raise DomainFault(f"step {step:g} is too fine to count")
    if bounds["log"] and bounds["low"] <= 0:
        raise DomainFault("a log scale starts above 0")
    if isinstance(domain, Int):
        return Int(int(bounds["low"]), int(bounds["high"]), bounds["log"], int(step))
    return Float(
        float(bounds["low"]),
        float(bounds["high"]),
        bounds["log"],
        None if step is None else float(step),
    )


def _is_number(value: Any, whole: bool) -> bool:
    """A finite number that a float can hold; `whole` ones may be written 5.0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max and (not whole or value == int(value))
