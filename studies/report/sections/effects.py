"""What each factor of a factorial is worth: main effects and interactions.

A main effect is the mean, over all combinations of the other factors, of a level's figure less that
of the factor's first level. An interaction is how much that difference changes with the level of
another factor. Both are contrasts of arms. They need every arm of the factorial.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product
from math import prod
from typing import NamedTuple

from studies.report.blocks import Table, Words
from studies.report.estimates import Contrast
from studies.report.sections.comparisons import (
    DIFFERENCE_HEADER,
    describe_correction,
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
    rows = make_difference_rows(study, names, [effect.contrast for effect in effects])

    correction = describe_correction(study, len(effects), "effect")
    note = f"Averaged over the other factors' levels. {correction}"
    # A factor has a main effect for each level but the first.
    main_effects = Counter(effect.factor for effect in effects if effect.kind == "main")
    if sum(count > 1 for count in main_effects.values()) > 1:
        note += " Interactions of two factors with three levels or more each are left out."
    return Table("effects", TITLE, ["effect", "of", "seeds", *DIFFERENCE_HEADER], rows, note)


def _list_main_effects(arms: list[ReportRow], factors: Factors) -> Iterator[Effect]:
    for factor, (first_level, *levels) in factors.items():
        for level in levels:
            contrast = _contrast_levels(arms, {factor: {level: 1, first_level: -1}})
            yield Effect("main", factor, level, first_level, contrast)


def _list_interactions(arms: list[ReportRow], factors: Factors) -> Iterator[Effect]:
    for one, other in combinations(factors, 2):
        # With three levels or more of both factors, a table would have too many rows.
        if len(factors[one]) > 2 and len(factors[other]) > 2:
            continue
        first_level, *levels = factors[one]
        first_other_level, *other_levels = factors[other]
        for level, other_level in product(levels, other_levels):
            signs = {
                one: {level: 1, first_level: -1},
                other: {other_level: 1, first_other_level: -1},
            }
            name = f"{one} {level} x {other} {other_level}"
            contrast = _contrast_levels(arms, signs)
            yield Effect("interaction", name, level="", against="", contrast=contrast)


def _contrast_levels(arms: list[ReportRow], signs: dict[str, dict[str, int]]) -> Contrast:
    """Contrast two levels of each of some factors, given as factor -> level -> 1 or -1.

    The weight of an arm has the product of its levels' signs. Each combination of these levels
    counts alike, as the mean of its arms.
    """
    chosen = []
    for row in arms:
        sign = prod(levels.get(row.levels[factor], 0) for factor, levels in signs.items())
        if sign:
            chosen.append((row, sign))
    arms_a_cell = len(chosen) // 2 ** len(signs)
    return [(row, sign / arms_a_cell) for row, sign in chosen]
