"""What each factor of a factorial is worth: main effects and interactions.

A main effect is the mean, over all combinations of the other factors, of a level's figure less that
of the factor's first level. An interaction is how much that difference changes with the level of
another factor. Both are contrasts of arms. They need every arm of the factorial.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product
from typing import NamedTuple

from studies.report.blocks import Table, Words
from studies.report.estimates import Contrast, ContrastEstimates, estimate_contrasts
from studies.report.sections.comparisons import (
    CORRECTION_NOTE,
    DIFFERENCE_HEADER,
    make_difference_rows,
)
from studies.report.study_results import ReportRow, StudyResults

TITLE = "Effects of the factors"

Factors = dict[str, list[str]]  # factor -> its levels, in the order of the study file


class Effect(NamedTuple):
    """A contrast of arms: how much more `level` has than `against`, or an interaction of two."""

    kind: str  # main or interaction
    factor: str  # of an interaction: both factors with their levels
    level: str  # empty for an interaction, as `against`
    against: str
    contrast: Contrast

    @property
    def name(self) -> str:
        """What the table calls the effect."""
        if self.kind == "main":
            return f"{self.factor}: {self.level} less {self.against}"
        return self.factor


def list_effects(study: StudyResults) -> list[Effect]:
    """List main effects and two-way interactions of a factorial; none when an arm is missing."""
    arms = [row for row in study.arms if row.levels]
    if not study.is_factorial or not arms or any(not row.trials for row in arms):
        return []
    factors = {}
    for name in arms[0].levels:
        factors[name] = list_levels(arms, name)
    return [*_list_main_effects(arms, factors), *_list_interactions(arms, factors)]


def list_levels(arms: list[ReportRow], factor: str) -> list[str]:
    """List the levels of a factor in the order of the arms."""
    return list(dict.fromkeys(row.levels[factor] for row in arms))


def estimate_effects(study: StudyResults, effects: list[Effect]) -> ContrastEstimates:
    """Estimate every effect, for both metrics."""
    return estimate_contrasts(study, [effect.contrast for effect in effects])


def make_effects_table(study: StudyResults) -> Table | Words | None:
    """Make the table of effects, or say why there is none; None when the study is not factorial."""
    if not study.is_factorial:
        return None
    effects = list_effects(study)
    if not effects:
        reason = (
            "Arms are missing, so no effect can be averaged over the levels of the other factors."
        )
        return Words(TITLE, [reason])

    names = [[effect.kind, effect.name] for effect in effects]
    rows = make_difference_rows(names, estimate_effects(study, effects))

    correction = CORRECTION_NOTE.format(f"{len(effects)} effects")
    note = f"Averaged over the other factors' levels. {correction}"
    # A factor has a main effect for each level but the first.
    main_effects = Counter(effect.factor for effect in effects if effect.kind == "main")
    if sum(count > 1 for count in main_effects.values()) > 1:
        note += " Interactions of two factors with three levels or more each are left out."
    return Table("effects", TITLE, ["effect", "of", "seeds", *DIFFERENCE_HEADER], rows, note)


def _list_main_effects(arms: list[ReportRow], factors: Factors) -> Iterator[Effect]:
    for factor, levels in factors.items():
        first_level = levels[0]
        arms_a_level = len(arms) // len(levels)
        for level in levels[1:]:
            weights = {level: 1 / arms_a_level, first_level: -1 / arms_a_level}
            contrast = []
            for row in arms:
                if row.levels[factor] in weights:
                    contrast.append((row, weights[row.levels[factor]]))
            yield Effect("main", factor, level, first_level, contrast)


def _list_interactions(arms: list[ReportRow], factors: Factors) -> Iterator[Effect]:
    for one, other in combinations(factors, 2):
        # With three levels or more of both factors, a table would have too many rows.
        if len(factors[one]) > 2 and len(factors[other]) > 2:
            continue
        arms_a_cell = len(arms) // (len(factors[one]) * len(factors[other]))
        for level, other_level in product(factors[one][1:], factors[other][1:]):
            signs = {level: 1, factors[one][0]: -1}
            other_signs = {other_level: 1, factors[other][0]: -1}
            contrast = []
            for row in arms:
                if row.levels[one] in signs and row.levels[other] in other_signs:
                    sign = signs[row.levels[one]] * other_signs[row.levels[other]]
                    contrast.append((row, sign / arms_a_cell))
            name = f"{one} {level} x {other} {other_level}"
            yield Effect("interaction", name, level="", against="", contrast=contrast)
