"""The arms that a table compares: those of the file, and those that a design makes of factors with levels.

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

from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.record.trials import OWN_SEARCH
from avsc_core.resolve import Override, format_value
from avsc_core.yaml_file import Located
from search_spaces.space import reset_inactive
from studies.study.parsing import Settings, list_overrides, make_name_fault, resolve_trainable
from studies.study.schema import AblationPart, Arm, PublishedFigures, StudyFile

SAME_CLIPS = (
    "seed",
    "split.",
)  # settings no arm may have: all are trained and validated on the same clips


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


class ArmRow(NamedTuple):
    """An arm before its settings are put over the base."""

    name: str
    where: str
    overrides: list[Override]
    published: PublishedFigures | None
    levels: Mapping[str, str] = {}
    note: str = ""


def read_arms(file: StudyFile, base: Settings, located: Located) -> list[Arm]:
    """The rows of the file and those of its ablation, resolved over the base. Raises UserError with every fault."""
    faults: list[Fault] = []
    rows = []
    for position, part in enumerate(file.arms):
        where, own = (
            located.where("arms", position, "name"),
            list_overrides(part.set, located, ("arms", position, "set")),
        )
        rows.append(ArmRow(part.name, where, own, part.published, note=part.note))
    if file.ablation:
        where, published = located.where("ablation"), file.ablation.published
        with collect_faults(faults):
            made = make_cells(file.ablation, located)
            rows += [
                ArmRow(cell.name, where, cell.overrides, published.get(cell.name), cell.levels)
                for cell in made
            ]
    arms: list[Arm] = []
    names = [row.name for row in rows]
    for position, row in enumerate(rows):
        if row.name in names[:position]:
            faults.append(Fault(row.where, f"two arms are called '{row.name}'", todo="rename one"))
        if row.name == OWN_SEARCH or row.name.startswith(f"{OWN_SEARCH}: "):
            faults.append(
                Fault(row.where, f"'{row.name}' names the search's trials", todo="rename the arm")
            )
        if row.name != row.name.strip():
            faults.append(
                Fault(
                    row.where, f"'{row.name}' is no name of an arm", "text without blanks around it"
                )
            )
        common = [override for override in row.overrides if override.key.startswith(SAME_CLIPS)]
        faults += map(make_setting_fault, common)
        with collect_faults(faults):
            own = [override for override in row.overrides if override not in common]
            config = resolve_trainable((base[0], [*base[1], *own]), f"arm '{row.name}'")
            settled = tuple(override.key for override in row.overrides)
            arms.append(
                Arm(row.name, reset_inactive(config), row.published, row.levels, settled, row.note)
            )
    if faults:
        raise UserError(faults)
    return arms


def make_setting_fault(override: Override) -> Fault:
    """Of a setting that one arm cannot have alone."""
    if override.key == "seed":
        return Fault(
            override.where,
            "a seed among the settings",
            "every arm runs with the study's",
            "use seeds: [...]",
        )
    return Fault(
        override.where,
        f"{override.key} in an arm",
        "all arms are validated on the same clips",
        "in the base",
    )


def make_cells(part: AblationPart, located: Located) -> list[Cell]:
    """The arms of an ablation, the reference first. Raises UserError with every fault."""
    faults: list[Fault] = []
    factors: dict[str, list[Level]] = {}
    setter: dict[str, str] = {}  # setting -> the factor that sets it
    for name, spec in part.factors.items():
        where = located.where("ablation", "factors", name)
        levels = list[Level]()
        with collect_faults(faults):
            levels = _levels(name, spec, part.design, located)
        for key in dict.fromkeys(override.key for level in levels for override in level.overrides):
            if setter.setdefault(key, name) != name:
                faults.append(
                    Fault(
                        where,
                        f"factors {setter[key]} and {name} both set {key}",
                        "one factor a setting",
                    )
                )
        label = name if isinstance(spec, dict) else name.rpartition(".")[2]
        if label in factors:
            faults.append(
                Fault(where, f"two factors are called '{label}'", todo="give one a name and levels")
            )
        factors[label] = levels
    if faults:
        raise UserError(faults)
    made = DESIGNS[part.design](factors)
    for name in part.published:
        if name not in {cell.name for cell in made}:
            names = ", ".join(cell.name for cell in made)
            faults.append(
                Fault(located.where("ablation", "published", name), f"no arm '{name}'", names)
            )
    if faults:
        raise UserError(faults)
    return made


def _levels(name: str, spec: Any, design: str, located: Located) -> list[Level]:
    """A factor's levels: the values of a setting, or named sets of settings. Raises UserError."""
    trail, faults, levels = ("ablation", "factors", name), list[Fault](), list[Level]()
    if isinstance(spec, list):
        for position, value in enumerate(spec):
            where = located.where(*trail, position)
            if format_value(value) in [level.name for level in levels]:
                faults.append(
                    Fault(where, f"level {format_value(value)} of factor {name} stands twice")
                )
            levels.append(Level(format_value(value), (Override(name, value, where),)))
    elif isinstance(spec, dict):
        for level, settings in spec.items():
            where = located.where(*trail, level)
            if not isinstance(level, str):
                faults.append(make_name_fault(where, level))
            elif not isinstance(settings, dict):
                faults.append(
                    Fault(
                        where, f"level {level} of factor {name} is {settings!r}", "{setting: value}"
                    )
                )
            else:
                levels.append(
                    Level(level, tuple(list_overrides(settings, located, (*trail, level))))
                )
    else:
        allowed = (
            "a setting with a list of values, or a name with levels: {LEVEL: {setting: value}}"
        )
        faults.append(Fault(located.where(*trail), f"factor {name} is {spec!r}", allowed))
    few = design in ("leave_one_out", "add_one_in")
    if not faults and (len(levels) < 2 or (few and len(levels) > 2)):
        has = f"factor {name} has {len(levels)} level{'' if len(levels) == 1 else 's'}"
        faults.append(
            Fault(
                located.where(*trail),
                has,
                f"{design} has out and in: two" if few else "at least two levels",
            )
        )
    if faults:
        raise UserError(faults)
    return levels


def _cell(name: str, chosen: Mapping[str, Level]) -> Cell:
    levels = {factor: level.name for factor, level in chosen.items()}
    return Cell(
        name, levels, [override for level in chosen.values() for override in level.overrides]
    )


def _factorial(factors: Factors) -> list[Cell]:
    made = []
    for combination in product(*factors.values()):
        chosen = dict(zip(factors, combination, strict=True))
        made.append(
            _cell(", ".join(f"{factor} {level.name}" for factor, level in chosen.items()), chosen)
        )
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
