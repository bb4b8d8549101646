"""The arms that a table compares: those of the file, and those that a design makes of factors with
levels.

    factorial       every combination of levels
    leave_one_out   everything in, then each factor out
    add_one_in      nothing in, then each factor in
    one_at_a_time   the first levels, then each other level of each factor alone

A factor's levels are written from out to in (or from the usual one on). The first arm of a design
is what the others are compared with.

A factor is a setting with a list of its values, or a name with levels, each of which sets several
settings:

    alignment.k: [3, 5, 10]
    SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple

from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.record.trials import OWN_SEARCH
from avsc_core.resolve import Override, format_value
from avsc_core.yaml_file import Located
from search_spaces.inactive import reset_inactive
from studies.study.parsing import Settings, list_overrides, make_name_fault, resolve_trainable
from studies.study.schema import AblationPart, Arm, PublishedFigures, StudyFile

# No arm may set these: all arms are trained and validated on the same clips.
SHARED_SETTINGS = ("seed", "split.")

# Of these designs each factor has two levels, out and in.
TWO_LEVEL_DESIGNS = ("leave_one_out", "add_one_in")


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
    """Resolve the arms of the file, and then those of its ablation, over the base.

    Raises UserError with every fault.
    """
    # The rows: each arm with its settings.
    faults: list[Fault] = []
    rows = _list_written_rows(file, located)
    if file.ablation:
        with collect_faults(faults):
            rows += _list_ablation_rows(file.ablation, located)

    # The arms: each with its configuration.
    arms: list[Arm] = []
    names: set[str] = set()
    for row in rows:
        faults += _check_row_name(row, names)
        names.add(row.name)
        with collect_faults(faults):
            arms.append(_resolve_row(row, base, faults))
    if faults:
        raise UserError(faults)
    return arms


def make_setting_fault(override: Override) -> Fault:
    """Return the fault of a setting that one arm cannot have alone."""
    if override.key == "seed":
        what = "a seed among the settings"
        return Fault(override.where, what, "every arm runs with the study's", "use seeds: [...]")
    what = f"{override.key} in an arm"
    return Fault(override.where, what, "all arms are validated on the same clips", "in the base")


def make_cells(part: AblationPart, located: Located) -> list[Cell]:
    """Make the arms of an ablation, the reference first. Raises UserError with every fault."""
    faults: list[Fault] = []
    factors = _read_factors(part, located, faults)
    if faults:
        raise UserError(faults)

    cells = DESIGNS[part.design](factors)
    # Published figures name the arm that they belong to.
    names = [cell.name for cell in cells]
    for name in part.published:
        if name not in names:
            where = located.where("ablation", "published", name)
            faults.append(Fault(where, f"no arm '{name}'", ", ".join(names)))
    if faults:
        raise UserError(faults)
    return cells


def _list_written_rows(file: StudyFile, located: Located) -> list[ArmRow]:
    """List the arms that the file writes out."""
    rows = []
    for position, part in enumerate(file.arms):
        row = ArmRow(
            name=part.name,
            where=located.where("arms", position, "name"),
            overrides=list_overrides(part.set, located, ("arms", position, "set")),
            published=part.published,
            note=part.note,
        )
        rows.append(row)
    return rows


def _list_ablation_rows(part: AblationPart, located: Located) -> list[ArmRow]:
    """List the arms that an ablation's design makes. Raises UserError with every fault."""
    rows = []
    for cell in make_cells(part, located):
        row = ArmRow(
            name=cell.name,
            where=located.where("ablation"),
            overrides=cell.overrides,
            published=part.published.get(cell.name),
            levels=cell.levels,
        )
        rows.append(row)
    return rows


def _check_row_name(row: ArmRow, names_before: set[str]) -> list[Fault]:
    """Check that an arm's name is its own, and no search's."""
    faults = []
    if row.name in names_before:
        faults.append(Fault(row.where, f"two arms are called '{row.name}'", todo="rename one"))
    if row.name == OWN_SEARCH or row.name.startswith(f"{OWN_SEARCH}: "):
        what = f"'{row.name}' names the search's trials"
        faults.append(Fault(row.where, what, todo="rename the arm"))
    if row.name != row.name.strip():
        what = f"'{row.name}' is not a name for an arm"
        faults.append(Fault(row.where, what, "text without blanks around it"))
    return faults


def _resolve_row(row: ArmRow, base: Settings, faults: list[Fault]) -> Arm:
    """Put an arm's settings over the base. Raises UserError.

    Settings that all arms share are added to `faults` and left out, so that the others are checked.
    """
    own = []
    for override in row.overrides:
        if override.key.startswith(SHARED_SETTINGS):
            faults.append(make_setting_fault(override))
        else:
            own.append(override)

    config = resolve_trainable(base.add(own), f"arm '{row.name}'")
    return Arm(
        name=row.name,
        config=reset_inactive(config),
        published=row.published,
        levels=row.levels,
        settled=tuple(override.key for override in row.overrides),
        note=row.note,
    )


def _read_factors(
    part: AblationPart, located: Located, faults: list[Fault]
) -> dict[str, list[Level]]:
    """Read an ablation's factors, label -> levels; their faults are added to `faults`."""
    factors: dict[str, list[Level]] = {}
    setter: dict[str, str] = {}  # setting -> the factor that sets it
    for name, spec in part.factors.items():
        where = located.where("ablation", "factors", name)
        levels: list[Level] = []
        with collect_faults(faults):
            levels = _read_levels(name, spec, part.design, located)

        # Two factors that set the same setting could not be told apart.
        keys: dict[str, None] = {}
        for level in levels:
            keys |= dict.fromkeys(override.key for override in level.overrides)
        for key in keys:
            if setter.setdefault(key, name) != name:
                what = f"factors {setter[key]} and {name} both set {key}"
                faults.append(Fault(where, what, "one factor a setting"))

        # A setting is labelled by its last part, `k` for `alignment.k`.
        label = name if isinstance(spec, dict) else name.rpartition(".")[2]
        if label in factors:
            what = f"two factors are called '{label}'"
            faults.append(Fault(where, what, todo="give one a name and levels"))
        factors[label] = levels
    return factors


def _read_levels(name: str, spec: Any, design: str, located: Located) -> list[Level]:
    """Read the levels of factor `name`, and check how many they are. Raises UserError."""
    where = located.where("ablation", "factors", name)
    faults: list[Fault] = []
    if isinstance(spec, list):
        levels = _read_values(name, spec, located, faults)
    elif isinstance(spec, dict):
        levels = _read_named_levels(name, spec, located, faults)
    else:
        what = f"factor {name} is {spec!r}"
        setting = "a setting with a list of values"
        named = "a name with levels: {LEVEL: {setting: value}}"
        raise UserError(Fault(where, what, f"{setting}, or {named}"))

    # With fewer levels a factor has nothing to compare.
    two = design in TWO_LEVEL_DESIGNS
    if not faults and (len(levels) < 2 or (two and len(levels) > 2)):
        what = f"factor {name} has {len(levels)} level{'' if len(levels) == 1 else 's'}"
        allowed = f"{design} has out and in: two" if two else "at least two levels"
        faults.append(Fault(where, what, allowed))
    if faults:
        raise UserError(faults)
    return levels


def _read_values(
    name: str, values: list[Any], located: Located, faults: list[Fault]
) -> list[Level]:
    """Read the values of setting `name` as levels; their faults are added to `faults`."""
    levels: dict[str, Level] = {}
    for position, value in enumerate(values):
        where = located.where("ablation", "factors", name, position)
        text = format_value(value)
        if text in levels:
            faults.append(Fault(where, f"level {text} of factor {name} stands twice"))
        levels[text] = Level(text, (Override(name, value, where),))
    return list(levels.values())


def _read_named_levels(
    name: str, levels: Mapping[Any, Any], located: Located, faults: list[Fault]
) -> list[Level]:
    """Read levels that have names and settings; their faults are added to `faults`."""
    result = []
    for level, settings in levels.items():
        trail = ("ablation", "factors", name, level)
        where = located.where(*trail)
        if not isinstance(level, str):
            faults.append(make_name_fault(where, level))
        elif not isinstance(settings, dict):
            what = f"level {level} of factor {name} is {settings!r}"
            faults.append(Fault(where, what, "{setting: value}"))
        else:
            result.append(Level(level, tuple(list_overrides(settings, located, trail))))
    return result


def _make_cell(name: str, chosen: Mapping[str, Level]) -> Cell:
    """Make the arm that has the `chosen` level of each factor."""
    levels = {}
    overrides: list[Override] = []
    for factor, level in chosen.items():
        levels[factor] = level.name
        overrides += level.overrides
    return Cell(name, levels, overrides)


def _make_factorial(factors: Factors) -> list[Cell]:
    cells = []
    for combination in product(*factors.values()):
        chosen = dict(zip(factors, combination, strict=True))
        name = ", ".join(f"{factor} {level.name}" for factor, level in chosen.items())
        cells.append(_make_cell(name, chosen))
    return cells


def _make_leave_one_out(factors: Factors) -> list[Cell]:
    all_in = {factor: levels[-1] for factor, levels in factors.items()}
    cells = [_make_cell("all", all_in)]
    for factor, levels in factors.items():
        cells.append(_make_cell(f"without {factor}", {**all_in, factor: levels[0]}))
    return cells


def _make_add_one_in(factors: Factors) -> list[Cell]:
    all_out = {factor: levels[0] for factor, levels in factors.items()}
    cells = [_make_cell("none", all_out)]
    for factor, levels in factors.items():
        cells.append(_make_cell(f"only {factor}", {**all_out, factor: levels[-1]}))
    return cells


def _make_one_at_a_time(factors: Factors) -> list[Cell]:
    usual = {factor: levels[0] for factor, levels in factors.items()}
    cells = [_make_cell("base", usual)]
    for factor, levels in factors.items():
        for level in levels[1:]:
            cells.append(_make_cell(f"{factor} {level.name}", {**usual, factor: level}))
    return cells


DESIGNS: dict[str, Callable[[Factors], list[Cell]]] = {
    "factorial": _make_factorial,
    "leave_one_out": _make_leave_one_out,
    "add_one_in": _make_add_one_in,
    "one_at_a_time": _make_one_at_a_time,
}
