"""A study's search space: some dimensions of the catalogue, each with the values it may take.

A *point* of a space is one value for each dimension that is active there: a dimension whose
conditions are not met (inactive.py says what that means) has no value at that point. Spaces are
built from study files by building.py and read back from the record by `Space.from_json`; equal
spaces have equal hashes, whatever order their file had.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from avsc_core.config import Config
from avsc_core.resolve import flatten, list_settings
from search_spaces.catalogue import CONDITIONS
from search_spaces.domains import Domain, as_json, from_json
from search_spaces.inactive import can_be_active, is_active


@dataclass(frozen=True)
class Space:
    """Dimensions in an order in which each comes after those that its conditions look at."""

    dimensions: dict[str, Domain]
    fixed: dict[str, Any]  # the base's values of all settings that conditions look at

    def is_active(self, key: str, values: Mapping[str, Any]) -> bool:
        """Tell whether dimension `key` is active, given the `values` chosen so far."""
        return is_active(key, {**self.fixed, **values})

    def as_json(self) -> dict[str, Any]:
        """Return the dimensions as plain JSON."""
        return {key: as_json(domain) for key, domain in self.dimensions.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], base: Mapping[str, Any]) -> "Space":
        """Return the space that `as_json` wrote; `base` has its other settings, flat or nested."""
        dimensions = {key: from_json(domain) for key, domain in content.items()}
        return cls(dimensions, select_condition_values(dict(flatten(base))))

    def hash(self) -> str:
        """Return sixteen hex digits, equal for equal spaces whatever order their file had."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Tell whether each active dimension has a value in `values` that it may take."""
        for key, domain in self.dimensions.items():
            if self.is_active(key, values) and not (key in values and domain.contains(values[key])):
                return False
        return True

    def present(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of `values` that belong to active dimensions."""
        return {key: values[key] for key in self.dimensions if self.is_active(key, values)}

    def within(self, config: Config, settled: Iterable[str]) -> "Space":
        """Return the space around another configuration.

        It lacks the `settled` dimensions, and those that are never active around `config`.
        """
        # A settled dimension has its value in `config`, where the conditions of others find it.
        settings = list_settings(config)
        open_ones = {key: domain for key, domain in self.dimensions.items() if key not in settled}
        kept = {}
        for key, domain in open_ones.items():
            if can_be_active(key, open_ones, settings):
                kept[key] = domain
        return Space(kept, select_condition_values(settings))

    def iterate_points(self) -> Iterator[dict[str, Any]]:
        """Yield all points, the first dimension changing slowest.

        Every domain must be countable.
        """
        points: Iterator[dict[str, Any]] = iter([{}])
        for key in self.dimensions:
            points = self._extend_points(points, key)  # nothing is computed yet
        return points

    def count(self) -> int:
        """Count the points without making them; every domain must be countable."""
        # Only dimensions that conditions look at (they are in `fixed`) are counted one by one.
        switches = {key: domain for key, domain in self.dimensions.items() if key in self.fixed}
        total = 0
        for point in Space(switches, self.fixed).iterate_points():
            counts = []
            for key, domain in self.dimensions.items():
                if key not in switches and self.is_active(key, point):
                    counts.append(domain.count() or 0)
            total += prod(counts)
        return total

    def _extend_points(
        self, points: Iterator[dict[str, Any]], key: str
    ) -> Iterator[dict[str, Any]]:
        """Yield every point with every value of dimension `key`, which may be inactive there."""
        for point in points:
            if not self.is_active(key, point):
                yield point
                continue
            for value in self.dimensions[key].iterate():
                yield {**point, key: value}


def select_condition_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Select from dotted settings those that the condition of any dimension looks at."""
    return {other: settings[other] for needs in CONDITIONS.values() for other in needs}
