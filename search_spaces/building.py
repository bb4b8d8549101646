"""From the `space:` part of a study file to a `Space`, or to every fault in it with its line.

The file names dimensions or groups of the catalogue, each with nothing (its whole domain), a list
of choices, or {low, high, log, step}. Three kinds of mistakes are found: a dimension that does not
exist or is narrowed wrongly, one that would be inactive at every point, and combinations of
dimensions that make no configuration.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from avsc_core.config import CHANGES_OF, Config
from avsc_core.errors import Fault, UserError, suggest
from avsc_core.resolve import list_settings
from search_spaces.catalogue import CATALOGUE, CONDITIONS, GROUPS
from search_spaces.domains import Choice, Domain, DomainFault, Int, narrow
from search_spaces.inactive import can_be_active, has_active_loss
from search_spaces.space import Space, select_condition_values

LineOf = Callable[[str], str]  # a dimension -> the place where the study file names it

# The values of these settings decide which losses are active.
LOSS_SWITCHES = ("alignment.enabled", "modality")


def build_space(spec: Any, base: Config, where: LineOf) -> Space:
    """Build the space of `spec` around the configuration `base`.

    Raises UserError with every fault.
    """
    if not isinstance(spec, Mapping) or not spec:
        what = f"the search space is {'not a mapping' if spec else 'empty'}"
        examples = f"dimensions such as {', '.join([*GROUPS, *CATALOGUE][:3])}"
        raise UserError(Fault(where(""), what, examples, "name at least one"))

    # Each key is a dimension, or a group that stands for its members.
    faults = []
    dimensions = {}
    for key, narrowing in spec.items():
        fault = _check_name(key, narrowing, where)
        if fault:
            faults.append(fault)
            continue
        for member in GROUPS.get(key, (key,)):
            # A member that the file also names alone is narrowed there.
            if member != key and member in spec:
                continue
            try:
                dimensions[member] = _narrow_dimension(member, narrowing, base)
            except DomainFault as error:
                faults.append(Fault(where(key), f"{member}: {error}"))

    # Rules that look at several settings.
    settings = list_settings(base)
    faults += _find_never_active(dimensions, settings, where)
    faults += find_impossible(dimensions, base, where)
    if faults:
        raise UserError(faults)

    # A dimension comes after those that its condition looks at.
    ordered = sorted(dimensions, key=lambda key: _depth(key, dimensions))
    return Space({key: dimensions[key] for key in ordered}, select_condition_values(settings))


def find_impossible(
    dimensions: Mapping[str, Domain], base: Config, where: LineOf
) -> Iterator[Fault]:
    """Find dimensions some of whose combinations around `base` make no configuration.

    These are the rules that look at several settings at once; a single dimension's bounds are
    checked where it is narrowed.
    """
    yield from _find_frozen_augmentation(dimensions, base, where)
    yield from _find_nothing_to_learn(dimensions, base, where)


def _check_name(key: Any, narrowing: Any, where: LineOf) -> Fault | None:
    """Return the fault of a key that names nothing, or of a group with bounds."""
    if key not in CATALOGUE and key not in GROUPS:
        allowed = suggest(key, [*CATALOGUE, *GROUPS])
        return Fault(where(key), f"unknown dimension '{key}'", allowed)
    if key in GROUPS and narrowing not in (None, {}):
        why = "its bounds cannot be narrowed together"
        return Fault(where(key), f"{key} is a group", why, "name its members")
    return None


def _narrow_dimension(key: str, narrowing: Any, base: Config) -> Domain:
    """Return a dimension of the catalogue as the file narrows it.

    K has a further limit, half of the smaller label set. An end that comes from the catalogue is
    lowered to it; a number in the file that is above it is a fault.
    """
    domain = narrow(CATALOGUE[key], narrowing)
    if key != "alignment.k":
        return domain

    # What the file itself says; an end that it leaves out can never be too large.
    if isinstance(domain, Choice):
        written = list(domain.values)
    else:
        ends = narrowing or {}
        written = [ends.get("low", 1), ends.get("high", 1)]
    if max(written) > base.k_max:
        raise DomainFault(f"{max(written)} is above half the classes; allowed: 1 to {base.k_max}")

    if isinstance(domain, Int):
        return replace(domain, high=min(domain.high, base.k_max))
    return domain


def _find_never_active(
    dimensions: Mapping[str, Domain], settings: Mapping[str, Any], where: LineOf
) -> Iterator[Fault]:
    """Find dimensions that are inactive at every point, so that searching them changes nothing."""
    for key in dimensions:
        if can_be_active(key, dimensions, settings):
            continue
        needs = []
        for other, wanted in CONDITIONS[key].items():
            needs.append(f"{other} is {_describe_values(wanted)}")
        what = f"{key} has an effect only when {' and '.join(needs)}"
        yield Fault(where(key), what, todo="leave it out")


def _describe_values(values: Sequence[Any]) -> str:
    """Write the values that a condition allows, as a person writes them in a study file."""
    if isinstance(values, range):
        return f"{values[0]} to {values[-1]}"
    return " or ".join("null" if value is None else str(value) for value in values)


def _find_frozen_augmentation(
    dimensions: Mapping[str, Domain], base: Config, where: LineOf
) -> Iterator[Fault]:
    """Find a branch whose clips change while its encoder may be frozen, or encodings are given.

    Its encodings are computed once, of clips as they are.
    """
    for branch, names in CHANGES_OF.items():
        reasons = []
        if "all" in _list_values(f"{branch}.freeze", dimensions, base):
            reasons.append(f"{branch}.freeze all")
        if getattr(base, branch).encodings:
            reasons.append(f"{branch}.encodings")

        # What is searched has a line of its own; what the base changes has none here.
        searched = [
            f"augmentation.{name}" for name in names if f"augmentation.{name}" in dimensions
        ]
        changed = [f"augmentation.{name}" for name in names if getattr(base.augmentation, name)]
        if reasons and (searched or changed):
            what = f"{[*searched, *changed][0]} with {reasons[0]}"
            why = "its encoder runs once, without it"
            place = searched[0] if searched else reasons[0].removesuffix(" all")
            yield Fault(where(place), what, why, "leave out one of them")


def _find_nothing_to_learn(
    dimensions: Mapping[str, Domain], base: Config, where: LineOf
) -> Iterator[Fault]:
    """Find the first combination of LOSS_SWITCHES that leaves no active loss weight above 0."""
    settings = list_settings(base)
    for key in GROUPS["loss_weights"]:
        if key in dimensions:
            settings[key] = 1.0  # a stand-in: all values of such a dimension are above 0

    searched = [key for key in LOSS_SWITCHES if key in dimensions]
    values = [_list_values(key, dimensions, base) for key in LOSS_SWITCHES]
    for combination in product(*values):
        settings |= zip(LOSS_SWITCHES, combination, strict=True)
        if not has_active_loss(settings):
            case = " and ".join(f"{key} is {settings[key]}" for key in searched)
            need = "a loss weight above 0 that has an effect then"
            yield Fault(where(searched[0]), f"nothing to learn when {case}", need)
            return


def _list_values(key: str, dimensions: Mapping[str, Domain], base: Config) -> list[Any]:
    """List the values that a setting takes in a space around `base`."""
    if key in dimensions:
        return list(dimensions[key].iterate())
    return [list_settings(base)[key]]


def _depth(key: str, dimensions: Mapping[str, Domain]) -> int:
    """Count how many of `dimensions` need a value before this one, one after another."""
    before = [other for other in CONDITIONS.get(key, {}) if other in dimensions]
    return 1 + max((_depth(other, dimensions) for other in before), default=-1)
