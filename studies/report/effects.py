"""What each factor of an ablation is worth: main effects, interactions, and arms before and after retuning.

A main effect is the mean over all combinations of the other factors of a level's figure less that of the factor's first
level; an interaction is how much that difference changes with another factor's level. Both are contrasts of arms, so
their intervals and tests are those of `compared.py`. Only a whole factorial has them.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from math import prod
from typing import NamedTuple

from studies.report.blocks import INTERVAL, MISSING, NAMES, Table, Words, number, signed, span
from studies.report.compared import (
    CORRECTED,
    DIFFERENCE_HEADER,
    VALUES,
    Found,
    contrast,
    differences_table,
)
from studies.report.gather import Gathered, Row
from studies.study.plan import RETUNED


class Effect(NamedTuple):
    """A contrast of arms: how much more `level` has than `against`, or what two levels have more together."""

    kind: str  # main or interaction
    factor: str
    level: str
    against: str
    weights: list[tuple[Row, float]]

    @property
    def name(self) -> str:
        return (
            f"{self.factor}: {self.level} less {self.against}"
            if self.kind == "main"
            else self.factor
        )


def asked_effects(study: Gathered) -> list[Effect]:
    """Main effects and two-way interactions of a factorial; none when a cell is missing."""
    arms = [row for row in study.arms if row.levels]
    if study.about["design"] != "factorial" or not arms or any(not row.trials for row in arms):
        return []
    factors = {
        name: list(dict.fromkeys(row.levels[name] for row in arms)) for name in arms[0].levels
    }
    return [*_main(arms, factors), *_interactions(arms, factors)]


def found_effects(study: Gathered, asked: list[Effect]) -> Found:
    """What each effect comes to, for both metrics."""
    return {
        metric: [contrast(study, effect.weights, metric) for effect in asked] for metric in VALUES
    }


def effects(study: Gathered) -> Table | Words | None:
    """Main effects and interactions as a table, or why there are none."""
    title = "Effects of the factors"
    if study.about["design"] != "factorial":
        return None
    asked = asked_effects(study)
    if not asked:
        return Words(
            title,
            [
                "Arms are missing, so no effect can be averaged over the levels of the other factors."
            ],
        )
    rows = differences_table(
        [[effect.kind, effect.name] for effect in asked], found_effects(study, asked)
    )
    note = "Averaged over the other factors' levels. " + CORRECTED.format(f"{len(asked)} effects")
    main = Counter(
        effect.factor for effect in asked if effect.kind == "main"
    )  # one for each level but the first
    if sum(levels > 1 for levels in main.values()) > 1:
        note += " Interactions of two factors with three levels or more each are left out."
    return Table("effects", title, ["effect", "of", "seeds", *DIFFERENCE_HEADER], rows, note)


def _main(arms: list[Row], factors: dict[str, list[str]]) -> Iterator[Effect]:
    for name, levels in factors.items():
        others = len(arms) // len(levels)
        for level in levels[1:]:
            sign = {level: 1 / others, levels[0]: -1 / others}
            weights = [(row, sign[row.levels[name]]) for row in arms if row.levels[name] in sign]
            yield Effect("main", name, level, levels[0], weights)


def _interactions(arms: list[Row], factors: dict[str, list[str]]) -> Iterator[Effect]:
    for one, other in combinations(factors, 2):
        if len(factors[one]) > 2 and len(factors[other]) > 2:
            continue  # too many differences of differences for a table
        rest = prod(len(levels) for name, levels in factors.items() if name not in (one, other))
        for level in factors[one][1:]:
            for second in factors[other][1:]:
                signs = ({level: 1, factors[one][0]: -1}, {second: 1, factors[other][0]: -1})
                weights = [
                    (row, signs[0][row.levels[one]] * signs[1][row.levels[other]] / rest)
                    for row in arms
                    if row.levels[one] in signs[0] and row.levels[other] in signs[1]
                ]
                yield Effect("interaction", f"{one} {level} x {other} {second}", "", "", weights)


def retuning(study: Gathered) -> Table | None:
    """Every arm less the first, with the base's settings and after each arm was tuned by itself."""
    if not study.retuned:
        return None
    metric, title = study.metric.removeprefix("val_"), NAMES[study.metric]
    tuned = {row.name: row for row in study.retuned}
    pairs = [
        (arm, tuned[RETUNED.format(arm.name)])
        for arm in study.arms
        if RETUNED.format(arm.name) in tuned
    ]
    rows = []
    for arm, row in pairs:
        cells = [arm.name]
        for shown, first, picked_by in (
            (arm, pairs[0][0], set[int]()),
            (row, pairs[0][1], {study.seeds[0]}),
        ):
            own = shown is not first and shown.trials and first.trials
            found = (
                contrast(study, [(shown, 1.0), (first, -1.0)], metric, picked_by) if own else None
            )
            cells.append(number(shown.mean(study.metric)))
            cells += (
                [signed(found.value), span(found.low, found.high)] if found else [MISSING, MISSING]
            )
        rows.append(cells)
    less = f"less {pairs[0][0].name}"
    header = ["arm", title, less, INTERVAL, f"{title} retuned", f"{less} retuned", INTERVAL]
    note = (
        f"Left: the base's settings. Right: each arm with the best of its own search of {study.about['retune']} "
        "trials, picked by the first seed, which is left out of the differences on the right. The clips have picked, "
        "too, which flatters the arm with the most to choose from; so there are no tests here."
    )
    return Table("retuned", "Before and after retuning", header, rows, note)
