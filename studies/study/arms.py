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

from collections.abc import Callable, Iterable, Iterator, Mapping
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
LONGEST_NAME = 500  # characters of the name of an arm
TWO_LEVEL_DESIGNS = ("leave_one_out", "add_one_in")


class Level(NamedTuple):
    """One level of a factor: its name and what it sets."""

    name: str
    overrides: tuple[Override, ...]


Factors = Mapping[str, list[Level]]


class Cell(NamedTuple):
    """An arm of a design."""

    name: str
    levels: dict[str, Level]  # by factor


class ArmRow(NamedTuple):
    """An arm before its settings are put over the base."""

    name: str
    where: str
    overrides: list[Override]
    published: PublishedFigures | None
    levels: Mapping[str, str] = {}  # factor -> level
    note: str = ""


def read_arms(file: StudyFile, base: Settings, located: Located) -> list[Arm]:
    """Resolve the arms of the file, and then those of its ablation, over the base.

    Raises UserError with every fault.
    """
    # The rows: each arm with its settings.
    faults: list[Fault] = []
    rows = list(_list_written_rows(file, located))
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
    where = override.where
    if override.key == "seed":
        why = "every arm runs with the study's"
        return Fault(where, "a seed among the settings", why, "use seeds: [...]")
    why = "all arms are validated on the same clips"
    return Fault(where, f"{override.key} in an arm", why, "in the base")


def find_seeds(overrides: Iterable[Override]) -> Iterator[Fault]:
    """Find settings of the seed, which is the study's and not the configuration's."""
    for override in overrides:
        if override.key == "seed":
            yield make_setting_fault(override)


def _list_written_rows(file: StudyFile, located: Located) -> Iterator[ArmRow]:
    """Yield the arms that the file writes out."""
    for position, part in enumerate(file.arms):
        yield ArmRow(
            name=part.name,
            where=located.where("arms", position, "name"),
            overrides=list_overrides(part.set, located, ("arms", position, "set")),
            published=part.published,
            note=part.note,
        )


def _list_ablation_rows(part: AblationPart, located: Located) -> list[ArmRow]:
    """List the arms that an ablation's design makes, the reference first.

    Raises UserError with every fault.
    """
    faults: list[Fault] = []
    factors = _read_factors(part, located, faults)
    if faults:
        raise UserError(faults)

    rows = []
    for cell in DESIGNS[part.design](factors):
        overrides: list[Override] = []
        for level in cell.levels.values():
            overrides += level.overrides
        row = ArmRow(
            name=cell.name,
            where=located.where("ablation"),
            overrides=overrides,
            published=part.published.get(cell.name),
            levels={factor: level.name for factor, level in cell.levels.items()},
        )
        rows.append(row)

    # Published figures name the arm that they belong to.
    names = [row.name for row in rows]
    for name in part.published:
        if name not in names:
            where = located.where("ablation", "published", name)
            faults.append(Fault(where, f"no arm '{name}'", ", ".join(names)))
    if faults:
        raise UserError(faults)
    return rows


def _check_row_name(row: ArmRow, names_before: set[str]) -> Iterator[Fault]:
    """Check that an arm's name differs from those of other arms and of the searched trials."""
    if row.name in names_before:
        yield Fault(row.where, f"two arms are called '{row.name}'", todo="rename one")
    if row.name == OWN_SEARCH or row.name.startswith(f"{OWN_SEARCH}: "):
        yield Fault(row.where, f"'{row.name}' names the search's trials", todo="rename the arm")
    if row.name != row.name.strip():
        allowed = "text without blanks around it"
        yield Fault(row.where, f"'{row.name}' is not a name for an arm", allowed)
    if len(row.name) > LONGEST_NAME or not row.name.isprintable():
        # The record keeps the name of an arm as a tag of each of its trials.
        allowed = f"one line of at most {LONGEST_NAME} characters"
        yield Fault(row.where, f"'{row.name[:40]}...' is not a name for an arm", allowed)


def _resolve_row(row: ArmRow, base: Settings, faults: list[Fault]) -> Arm:
    """Put an arm's settings over the base. Raises UserError.

    Settings that all arms share are added to `faults` and left out, so that the others are checked.
    """
    overrides = []
    for override in row.overrides:
        if override.key.startswith(SHARED_SETTINGS):
            faults.append(make_setting_fault(override))
        else:
            overrides.append(override)

    return Arm(
        name=row.name,
        config=reset_inactive(resolve_trainable(base.add(overrides), f"arm '{row.name}'")),
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
        for level in levels:
            for key, _, _ in level.overrides:
                if setter.setdefault(key, name) != name:
                    what = f"factors {setter[key]} and {name} both set {key}"
                    faults.append(Fault(where, what, "one factor a setting"))

        # A setting is labelled by its last part, `k` for `alignment.k`.
        label = name if isinstance(spec, dict) else name.rpartition(".")[2]
        if label in factors:
            todo = "give one a name and levels"
            faults.append(Fault(where, f"two factors are called '{label}'", todo=todo))
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
        named = "a name with levels: {LEVEL: {setting: value}}"
        allowed = f"a setting with a list of values, or {named}"
        raise UserError(Fault(where, f"factor {name} is {spec!r}", allowed))

    # With fewer levels a factor has nothing to compare.
    two = design in TWO_LEVEL_DESIGNS
    count = len(levels)
    if not faults and (count < 2 or (two and count > 2)):
        what = f"factor {name} has {count} level{'' if count == 1 else 's'}"
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
            faults.append(Fault(where, f"level {text} of factor {name} is given twice"))
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


def _make_factorial(factors: Factors) -> Iterator[Cell]:
    """Combine every level of every factor."""
    for combination in product(*factors.values()):
        levels = dict(zip(factors, combination, strict=True))
        name = ", ".join(f"{factor} {level.name}" for factor, level in levels.items())
        yield Cell(name, levels)


def _change_one_factor(
    factors: Factors, reference: str, changed: str, start: int = 0
) -> Iterator[Cell]:
    """Begin with the arm `reference`, and change one factor of it at a time.

    The reference has the level at position `start` of each factor. `changed` is what the other arms
    are called, such as `without {factor}`.
    """
    start_levels = {factor: levels[start] for factor, levels in factors.items()}
    yield Cell(reference, start_levels)
    for factor, levels in factors.items():
        for level in levels:
            if level != levels[start]:
                name = changed.format(factor=factor, level=level.name)
                yield Cell(name, {**start_levels, factor: level})


DESIGNS: dict[str, Callable[[Factors], Iterator[Cell]]] = {
    "factorial": _make_factorial,
    "leave_one_out": lambda factors: _change_one_factor(factors, "all", "without {factor}", -1),
    "add_one_in": lambda factors: _change_one_factor(factors, "none", "only {factor}"),
    "one_at_a_time": lambda factors: _change_one_factor(factors, "base", "{factor} {level}"),
}
