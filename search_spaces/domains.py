"""The values that a dimension can take: real numbers, whole numbers, or a choice of named values.

Both ends of a range belong to it. A study file may narrow a domain (`narrow`) but never widen it:
the catalogue's bounds are what the code is known to accept.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

ON_GRID = 1e-8  # in steps; Optuna refuses to learn from a value that is further off its grid
MOST_STEPS = 2**53  # beyond it floats cannot tell one step from the next
RANGE_KEYS = ("low", "high", "log", "step")


class DomainFault(ValueError):
    """A narrowing that is not possible; the message is one line for the person who wrote it."""


@dataclass(frozen=True)
class Float:
    """Real numbers from `low` to `high`, sampled evenly, on a log scale, or in steps."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def contains(self, value: Any) -> bool:
        """Tell whether `value` is a number in the range and, with steps, on the grid."""
        if not _is_number(value, whole=False) or not self.low <= value <= self.high:
            return False
        if not self.step:
            return True
        # Rounding may move a value a little off its step: 3 * 0.1 is not 0.3.
        steps = (value - self.low) / self.step
        return bool(abs(steps - round(steps)) < ON_GRID)

    def count(self) -> int | None:
        """Return how many values there are, or None when they cannot be counted."""
        if self.step is None:
            return 1 if self.low == self.high else None
        # Rounding may put the last step just above `high`.
        return int((self.high - self.low) / self.step + ON_GRID) + 1

    def iterate(self) -> Iterator[float]:
        """Yield all values in order; none when they cannot be counted."""
        for number in range(self.count() or 0):
            yield self.low + number * (self.step or 0.0)

    def describe(self) -> str:
        """Return the domain in words, such as `0.01 to 100, log`."""
        scale = ", log" if self.log else ""
        step = f", step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{scale}{step}"


@dataclass(frozen=True)
class Int:
    """Whole numbers from `low` to `high`, sampled on a log scale or in steps."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def contains(self, value: Any) -> bool:
        """Tell whether `value` is a whole number in the range and on the grid of steps."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and self.low <= value <= self.high and (value - self.low) % self.step == 0

    def count(self) -> int:
        """Return how many values there are."""
        return (self.high - self.low) // self.step + 1

    def iterate(self) -> Iterator[int]:
        """Yield all values in order."""
        return iter(range(self.low, self.high + 1, self.step))

    def describe(self) -> str:
        """Return the domain in words, such as `1 to 30, step 5`."""
        scale = ", log" if self.log else ""
        step = f", step {self.step}" if self.step > 1 else ""
        return f"{self.low} to {self.high}{scale}{step}"


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def contains(self, value: Any) -> bool:
        """Tell whether `value` is one of the values, of the same type (1 is not True)."""
        return any(value == option and type(value) is type(option) for option in self.values)

    def count(self) -> int:
        """Return how many values there are."""
        return len(self.values)

    def iterate(self) -> Iterator[Any]:
        """Yield all values in order."""
        return iter(self.values)

    def describe(self) -> str:
        """Return the values, separated by commas."""
        return ", ".join(map(str, self.values))


Domain = Float | Int | Choice


def as_json(domain: Domain) -> dict[str, Any]:
    """Return a domain and its kind as JSON gives them back (lists, no tuples).

    The record compares them with those of an earlier start.
    """
    kind = type(domain).__name__.lower()
    if isinstance(domain, Choice):
        return {"kind": kind, "values": list(domain.values)}
    return {"kind": kind, **asdict(domain)}


def from_json(content: Mapping[str, Any]) -> Domain:
    """Return the domain that `as_json` wrote."""
    fields = dict(content)
    kind = fields.pop("kind")
    if kind == "choice":
        return Choice(tuple(fields["values"]))
    return Float(**fields) if kind == "float" else Int(**fields)


def narrow(domain: Domain, spec: Any) -> Domain:
    """Return `domain` narrowed by `spec`: nothing, a list of choices, or {low, high, log, step}.

    Raises DomainFault when the result would be empty or wider than `domain`, or when `spec`
    contradicts itself.
    """
    if spec is None or spec == {}:
        return domain
    if isinstance(spec, (list, tuple)):
        return _narrow_to_choices(domain, spec)
    if not isinstance(spec, Mapping):
        raise DomainFault(f"{spec!r} is not a domain; a list of values or {{low, high, log, step}}")
    if isinstance(domain, Choice):
        raise DomainFault(f"is a choice; a list of values out of {domain.describe()}")

    unknown = sorted(set(spec) - set(RANGE_KEYS))
    if unknown:
        raise DomainFault(f"unknown {', '.join(map(str, unknown))}; {', '.join(RANGE_KEYS)}")
    return _narrow_range(domain, spec)


def _narrow_to_choices(domain: Domain, values: list[Any] | tuple[Any, ...]) -> Choice:
    """Return the choice of `values`, each of which `domain` contains."""
    if not values:
        raise DomainFault(f"no values to choose from; {domain.describe()}")

    outside = [str(value) for value in values if not domain.contains(value)]
    if outside:
        raise DomainFault(f"{', '.join(outside)} not allowed; {domain.describe()}")

    # A person may write 1 where the configuration has 1.0.
    if isinstance(domain, Float):
        values = [float(value) for value in values]
    if len(set(map(repr, values))) < len(values):
        raise DomainFault("a value is given twice")
    return Choice(tuple(values))


def _narrow_range(domain: Float | Int, spec: Mapping[str, Any]) -> Domain:
    """Return the range of `domain` with the bounds, scale and step of `spec`."""
    fields = {**asdict(domain), **spec}
    _check_bounds(domain, fields["low"], fields["high"])
    _check_scale(domain, fields, "log" in spec)

    # A person may write 1 where the configuration has 1.0, and 5.0 for a whole number.
    number = int if isinstance(domain, Int) else float
    for name in ("low", "high", "step"):
        if fields[name] is not None:
            fields[name] = number(fields[name])
    return replace(domain, **fields)


def _check_bounds(domain: Float | Int, low: Any, high: Any) -> None:
    """Raise DomainFault unless `low` to `high` is a range that lies inside `domain`."""
    for name, end in (("low", low), ("high", high)):
        if not _is_number(end, whole=isinstance(domain, Int)):
            raise DomainFault(f"{name} {end!r} is not {_name_number(domain)}")
    if low > high:
        raise DomainFault(f"low {low:g} is above high {high:g}; the space is empty")
    if low < domain.low or high > domain.high:
        allowed = f"{domain.low:g} to {domain.high:g}"
        raise DomainFault(f"{low:g} to {high:g} reaches outside {allowed}")


def _check_scale(domain: Float | Int, fields: Mapping[str, Any], log_given: bool) -> None:
    """Raise DomainFault unless log and step are what they should be, and fit each other."""
    log = fields["log"]
    step = fields["step"]
    whole = isinstance(domain, Int)

    if not isinstance(log, bool):
        raise DomainFault(f"log {log!r} is neither true nor false")
    if (whole or step is not None) and not (_is_number(step, whole) and step > 0):
        raise DomainFault(f"step {step!r} is not {_name_number(domain)} above 0")

    # Whole numbers have a step of 1 on a log scale too.
    if log and step is not None and not (whole and step == 1):
        if log_given:
            raise DomainFault("log and step together; one of them")
        raise DomainFault("a log scale has no steps; log: false")

    if step is not None and (fields["high"] - fields["low"]) / step > MOST_STEPS:
        raise DomainFault(f"step {step:g} is too fine to count")
    if log and fields["low"] <= 0:
        raise DomainFault("a log scale starts above 0")


def _name_number(domain: Float | Int) -> str:
    """Name the kind of number that the bounds of `domain` are."""
    return "a whole number" if isinstance(domain, Int) else "a number"


def _is_number(value: Any, whole: bool) -> bool:
    """Tell whether `value` is a finite number that a float can hold; 5.0 counts as whole."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max and (not whole or value == int(value))
