"""Designs of ablations: factors with levels -> the arms that a table compares.

    factorial       every combination of levels
    leave_one_out   everything in, then each factor out
    add_one_in      nothing in, then each factor in
    one_at_a_time   the first levels, then each other level of each factor alone

A factor's levels are written from out to in (or from the usual one on). The first arm of a design is what the others
are compared with.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple

from avsc_core.config import Override, as_text
from avsc_core.errors import Fault, UserError
from avsc_core.yaml_file import Located
from studies.runner.schema import AblationPart
from studies.runner.typed import overrides_of


class Level(NamedTuple):
    """One level of a factor: its name and what it sets."""

    name: str
    overrides: tuple[Override, ...]


Factors = Mapping[str, list[Level]]


class Cell(NamedTuple):
    """An arm of a design."""

    name: str
    levels: dict[str, str]  # factor -> level
    overrides: list[Override]


def cells(part: AblationPart, located: Located) -> list[Cell]:
    """The arms of an ablation, the reference first. Raises UserError with every fault."""
    faults: list[Fault] = []
    factors: dict[str, list[Level]] = {}
    for name, spec in part.factors.items():
        where = located.where("ablation", "factors", name)
        levels = _levels(name, spec, located)
        if len(levels) < 2:
            faults.append(Fault(where, f"factor {name} has {len(levels)} level", "at least two levels"))
        elif part.design in ("leave_one_out", "add_one_in") and len(levels) > 2:
            faults.append(Fault(where, f"factor {name} has {len(levels)} levels", f"{part.design} has out and in: two"))
        label = name if isinstance(spec, dict) else name.rpartition(".")[2]
        if label in factors:
            faults.append(Fault(where, f"two factors are called '{label}'", todo="give one a name and levels"))
        factors[label] = levels
    made = DESIGNS[part.design](factors)
    for name in part.published:
        if name not in {cell.name for cell in made}:
            names = ", ".join(cell.name for cell in made)
            faults.append(Fault(located.where("ablation", "published", name), f"no arm '{name}'", names))
    if faults:
        raise UserError(faults)
    return made


def _levels(name: str, spec: list[Any] | dict[str, dict[str, Any]], located: Located) -> list[Level]:
    """A factor's levels: the values of a setting, or named sets of settings."""
    trail = ("ablation", "factors", name)
    if isinstance(spec, list):
        return [
            Level(as_text(value), (Override(name, value, located.where(*trail, position)),))
            for position, value in enumerate(spec)
        ]
    return [Level(level, tuple(overrides_of(settings, located, (*trail, level)))) for level, settings in spec.items()]


def _cell(name: str, chosen: Mapping[str, Level]) -> Cell:
    levels = {factor: level.name for factor, level in chosen.items()}
    return Cell(name, levels, [override for level in chosen.values() for override in level.overrides])


def _factorial(factors: Factors) -> list[Cell]:
    made = []
    for combination in product(*factors.values()):
        chosen = dict(zip(factors, combination, strict=True))
        made.append(_cell(", ".join(f"{factor} {level.name}" for factor, level in chosen.items()), chosen))
    return made


def _leave_one_out(factors: Factors) -> list[Cell]:
    whole = {factor: levels[-1] for factor, levels in factors.items()}
    return [
        _cell("all", whole),
        *(_cell(f"without {name}", {**whole, name: levels[0]}) for name, levels in factors.items()),
    ]


def _add_one_in(factors: Factors) -> list[Cell]:
    bare = {factor: levels[0] for factor, levels in factors.items()}
    return [
        _cell("none", bare),
        *(_cell(f"only {name}", {**bare, name: levels[-1]}) for name, levels in factors.items()),
    ]


def _one_at_a_time(factors: Factors) -> list[Cell]:
    usual = {factor: levels[0] for factor, levels in factors.items()}
    made = [_cell("base", usual)]
    for name, levels in factors.items():
        made += [_cell(f"{name} {level.name}", {**usual, name: level}) for level in levels[1:]]
    return made


DESIGNS: dict[str, Callable[[Factors], list[Cell]]] = {
    "factorial": _factorial,
    "leave_one_out": _leave_one_out,
    "add_one_in": _add_one_in,
    "one_at_a_time": _one_at_a_time,
}
