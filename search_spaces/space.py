"""A study's search space: some of the catalogue's dimensions, narrowed, with an exact name.

`build_space`: what a study file says under `space:` -> Space, or every fault in it with its line.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from avsc_core.config import Config, flatten
from avsc_core.errors import Fault, UserError, near
from search_spaces.catalogue import CATALOGUE, CONDITIONS, GROUPS
from search_spaces.domains import Choice, Domain, DomainFault, Int, as_json, narrow

SAMPLER_NAMES = ("tpe", "tpe_multivariate", "gp", "cmaes", "nsga2", "qmc", "random")


@dataclass(frozen=True)
class Space:
    """Dimensions in the order of the file; a condition's key comes before what depends on it."""

    dimensions: dict[str, Domain]
    fixed: dict[str, Any]  # what conditions look up when they do not look at a dimension

    def active(self, key: str, values: Mapping[str, Any]) -> bool:
        """Whether `key` exists, given the `values` chosen so far."""
        if key not in CONDITIONS:
            return True
        other, wanted = CONDITIONS[key]
        return bool(values.get(other, self.fixed.get(other)) == wanted)

    def as_json(self) -> dict[str, Any]:
        """The dimensions as plain JSON."""
        return {key: as_json(domain) for key, domain in self.dimensions.items()}

    def hash(self) -> str:
        """Sixteen hex digits; equal for equal spaces, whatever order their file had."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:16]

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether every dimension that exists has a legal value in `values`."""
        present = [key for key in self.dimensions if self.active(key, values)]
        return all(key in values and self.dimensions[key].contains(values[key]) for key in present)


def build_space(spec: Any, base: Config, where: Callable[[str], str]) -> Space:
    """The space of `spec`: a mapping of dimensions or groups to nothing, a list of choices, or {low, high, log, step}.

    `where(key)` names the line of a key. Raises UserError with every fault.
    """
    if not isinstance(spec, Mapping) or not spec:
        names = [*GROUPS, *CATALOGUE]
        what = "the search space is empty" if not spec else "the search space is no mapping"
        raise UserError(Fault(where(""), what, f"dimensions such as {', '.join(names[:3])}", "name at least one"))
    faults: list[Fault] = []
    chosen: dict[str, Domain] = {}
    for key, narrowing in spec.items():
        if key not in CATALOGUE and key not in GROUPS:
            faults.append(Fault(where(key), f"unknown dimension '{key}'", near(key, [*CATALOGUE, *GROUPS])))
            continue
        if key in GROUPS and narrowing not in (None, {}):
            faults.append(
                Fault(where(key), f"{key} is a group", "its bounds cannot be narrowed together", "name its members")
            )
            continue
        for member in GROUPS.get(key, (key,)):
            if member != key and member in spec:
                continue  # its own line says more than its group's
            try:
                chosen[member] = _narrowed(member, narrowing, base)
            except DomainFault as error:
                faults.append(Fault(where(key), f"{member}: {error}"))
    fixed = dict(flatten(base.model_dump()))
    faults += _conditions(chosen, fixed, where)
    if faults:
        raise UserError(faults)
    conditions = {other for other, _ in CONDITIONS.values()}
    ordered = dict(sorted(chosen.items(), key=lambda item: item[0] not in conditions))
    return Space(ordered, {other: fixed[other] for other in conditions})


def _narrowed(key: str, narrowing: Any, base: Config) -> Domain:
    """A dimension as the file narrows it.

    K also ends at half of the smaller label set; the catalogue's end gives way to that, a number of the file does not.
    """
    domain = narrow(CATALOGUE[key], narrowing)
    if key != "alignment.k":
        return domain
    own = domain.values if isinstance(domain, Choice) else [(narrowing or {}).get(end, 1) for end in ("low", "high")]
    if max(own) > base.k_max:
        raise DomainFault(f"{max(own)} is above half the classes; allowed: 1 to {base.k_max}")
    return replace(domain, high=min(domain.high, base.k_max)) if isinstance(domain, Int) else domain


def _conditions(chosen: Mapping[str, Domain], fixed: Mapping[str, Any], where: Callable[[str], str]) -> list[Fault]:
    """Dimensions that could never exist."""
    faults = []
    for key in chosen:
        other, wanted = CONDITIONS.get(key, (None, None))
        if other is None:
            continue
        possible = chosen[other].contains(wanted) if other in chosen else fixed[other] == wanted
        if not possible:
            faults.append(
                Fault(where(key), f"{key} only means something when {other} is {wanted}", todo="leave it out")
            )
    return faults
