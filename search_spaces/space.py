"""A study's search space: some of the catalogue's dimensions, narrowed, with an exact name.

`build_space`: what a study file says under `space:` -> Space, or every fault in it with its line. `canonical`: a
configuration in which whatever means nothing stands at rest, so that equal trainings are equal configurations.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from avsc_core.config import Augmentation, Config
from avsc_core.errors import Fault, UserError, suggest
from avsc_core.resolve import flatten, nest
from search_spaces.catalogue import CATALOGUE, CONDITIONS, GROUPS, INACTIVE_VALUES
from search_spaces.domains import Choice, Domain, DomainFault, Int, as_json, from_json, narrow

SAMPLER_NAMES = ("tpe", "tpe_multivariate", "gp", "cmaes", "nsga2", "qmc", "random", "brute_force")


@dataclass(frozen=True)
class Space:
    """Dimensions in the order of the file; a condition's key comes before what depends on it."""

    dimensions: dict[str, Domain]
    fixed: dict[str, Any]  # what conditions look up when they do not look at a dimension

    def active(self, key: str, values: Mapping[str, Any]) -> bool:
        """Whether `key` exists, given the `values` chosen so far."""
        return _means_something(key, {**self.fixed, **values})

    def as_json(self) -> dict[str, Any]:
        """The dimensions as plain JSON."""
        return {key: as_json(domain) for key, domain in self.dimensions.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], base: Mapping[str, Any]) -> "Space":
        """The space that `as_json` wrote; `base` are the settings it lies in, flat or nested."""
        settings = dict(flatten(base))
        fixed = {other: settings[other] for needs in CONDITIONS.values() for other in needs}
        return cls({key: from_json(domain) for key, domain in content.items()}, fixed)

    def hash(self) -> str:
        """Sixteen hex digits; equal for equal spaces, whatever order their file had."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:16]

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether every dimension that exists has a legal value in `values`."""
        present = [key for key in self.dimensions if self.active(key, values)]
        return all(key in values and self.dimensions[key].contains(values[key]) for key in present)

    def present(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `values` whose dimension exists."""
        return {key: values[key] for key in self.dimensions if self.active(key, values)}

    def within(self, config: Config, settled: Iterable[str]) -> "Space":
        """The space around another configuration, without what is `settled` there or means nothing there."""
        fixed = dict(flatten(config.model_dump()))
        kept = {key: domain for key, domain in self.dimensions.items() if key not in settled}
        kept = {key: domain for key, domain in kept.items() if _possible(key, kept, fixed)}
        return Space(kept, {other: fixed[other] for other in self.fixed})

    def every(self) -> Iterator[dict[str, Any]]:
        """All points, the first dimension changing slowest. Only of domains that can be counted."""
        return self._points(list(self.dimensions), {})

    def count(self) -> int:
        """How many points there are, without making them. Only of domains that can be counted."""
        return self._count(list(self.dimensions), {})

    def _points(self, keys: list[str], point: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not keys:
            yield point
        elif self.active(keys[0], point):
            for value in self.dimensions[keys[0]].every():
                yield from self._points(keys[1:], {**point, keys[0]: value})
        else:
            yield from self._points(keys[1:], point)

    def _count(self, keys: list[str], point: dict[str, Any]) -> int:
        if not keys:
            return 1
        key, *others = keys
        if not self.active(key, point):
            return self._count(others, point)
        domain = self.dimensions[key]
        if any(key in CONDITIONS.get(other, {}) for other in others):
            return sum(self._count(others, {**point, key: value}) for value in domain.every())
        return (domain.count() or 0) * self._count(others, point)


def list_inactive(config: Config) -> list[str]:
    """The settings that mean nothing in a configuration."""
    settings = dict(flatten(config.model_dump()))
    return [key for key in CONDITIONS if not _means_something(key, settings)]


def list_active(config: Config) -> dict[str, Any]:
    """The settings of a configuration, dotted, as JSON has them, without those that mean nothing in it."""
    idle = list_inactive(config)
    return {key: value for key, value in flatten(config.model_dump(mode="json")) if key not in idle}


def reset_inactive(config: Config) -> Config:
    """The configuration with every setting that means nothing in it put at rest (without CEOA: K, mode, lambda_3, 4).

    Raises ValueError when nothing is left to learn.
    """
    settings, default = dict(flatten(config.model_dump())), dict(flatten(Config().model_dump()))
    if not _learns(settings):
        raise ValueError("every loss weight that means something is 0")
    idle = list_inactive(config)
    if not idle:
        return config
    return Config.model_validate(
        nest(settings | {key: INACTIVE_VALUES.get(key, default[key]) for key in idle})
    )


def build_space(spec: Any, base: Config, where: Callable[[str], str]) -> Space:
    """The space of `spec`: a mapping of dimensions or groups to nothing, a list of choices, or {low, high, log, step}.

    `where(key)` names the line of a key. Raises UserError with every fault.
    """
    if not isinstance(spec, Mapping) or not spec:
        names = [*GROUPS, *CATALOGUE]
        what = "the search space is empty" if not spec else "the search space is no mapping"
        raise UserError(
            Fault(
                where(""), what, f"dimensions such as {', '.join(names[:3])}", "name at least one"
            )
        )
    faults: list[Fault] = []
    chosen: dict[str, Domain] = {}
    for key, narrowing in spec.items():
        if key not in CATALOGUE and key not in GROUPS:
            faults.append(
                Fault(where(key), f"unknown dimension '{key}'", suggest(key, [*CATALOGUE, *GROUPS]))
            )
            continue
        if key in GROUPS and narrowing not in (None, {}):
            faults.append(
                Fault(
                    where(key),
                    f"{key} is a group",
                    "its bounds cannot be narrowed together",
                    "name its members",
                )
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
    faults += find_impossible(chosen, base, where)
    if faults:
        raise UserError(faults)
    ordered = dict(sorted(chosen.items(), key=lambda item: _depth(item[0], chosen)))
    return Space(ordered, {other: fixed[other] for needs in CONDITIONS.values() for other in needs})


def _narrowed(key: str, narrowing: Any, base: Config) -> Domain:
    """A dimension as the file narrows it.

    K also ends at half of the smaller label set; the catalogue's end gives way to that, a number of the file does not.
    """
    domain = narrow(CATALOGUE[key], narrowing)
    if key != "alignment.k":
        return domain
    own = (
        domain.values
        if isinstance(domain, Choice)
        else [(narrowing or {}).get(end, 1) for end in ("low", "high")]
    )
    if max(own) > base.k_max:
        raise DomainFault(f"{max(own)} is above half the classes; allowed: 1 to {base.k_max}")
    return replace(domain, high=min(domain.high, base.k_max)) if isinstance(domain, Int) else domain


def _conditions(
    chosen: Mapping[str, Domain], fixed: Mapping[str, Any], where: Callable[[str], str]
) -> list[Fault]:
    """Dimensions that could never exist."""
    faults = []
    for key in chosen:
        if not _possible(key, chosen, fixed):
            needs = " and ".join(
                f"{other} is {' or '.join(map(str, w))}" for other, w in CONDITIONS[key].items()
            )
            faults.append(
                Fault(where(key), f"{key} only means something when {needs}", todo="leave it out")
            )
    return faults


def find_impossible(
    chosen: Mapping[str, Domain], base: Config, where: Callable[[str], str]
) -> list[Fault]:
    """Dimensions some of whose combinations around `base` are no configuration: rules that look at several settings."""
    faults, fixed = list[Fault](), dict(flatten(base.model_dump()))

    def values(key: str) -> list[Any]:
        return list(chosen[key].every()) if key in chosen else [fixed[key]]

    frozen = [key for key in ("audio.freeze", "visual.freeze") if "all" in values(key)]
    changed = [key for key in chosen if key.startswith("augmentation.")]
    if frozen and (changed or base.augmentation != Augmentation()):
        what, why = (
            f"{(changed or ['augmentation'])[0]} with {frozen[0]} all",
            "a frozen encoder runs once, without it",
        )
        faults.append(Fault(where((changed or frozen)[0]), what, why, "leave out one of them"))
    weights = {
        key: 1.0 for key in GROUPS["loss_weights"] if key in chosen
    }  # of a dimension all are above 0
    switches = ("alignment.enabled", "modality")
    for point in (
        dict(zip(switches, each, strict=True)) for each in product(*map(values, switches))
    ):
        if not _learns(fixed | weights | point):
            own = [key for key in switches if key in chosen]
            what = f"nothing to learn when {' and '.join(f'{key} is {point[key]}' for key in own)}"
            return [
                *faults,
                Fault(where(own[0]), what, "a loss weight above 0 that means something then"),
            ]
    return faults


def _learns(settings: Mapping[str, Any]) -> bool:
    """Whether a loss that exists counts."""
    return any(settings[key] for key in GROUPS["loss_weights"] if _means_something(key, settings))


def _possible(key: str, chosen: Mapping[str, Domain], fixed: Mapping[str, Any]) -> bool:
    """Whether some point of the dimensions `chosen` has `key`."""
    for other, wanted in CONDITIONS.get(key, {}).items():
        if not (
            any(map(chosen[other].contains, wanted)) if other in chosen else fixed[other] in wanted
        ):
            return False
    return True


def _means_something(key: str, settings: Mapping[str, Any]) -> bool:
    return all(settings[other] in wanted for other, wanted in CONDITIONS.get(key, {}).items())


def _depth(key: str, chosen: Mapping[str, Domain]) -> int:
    """How many of the dimensions `chosen` must have a value before this one, one after another."""
    return 1 + max(
        (_depth(other, chosen) for other in CONDITIONS.get(key, {}) if other in chosen), default=-1
    )
