"""What each factor of an ablation is worth: main effects, interactions, and arms before and after retuning.

A main effect is the mean over all combinations of the other factors of a level's figure less that of the factor's first
level; an interaction is how much that difference changes with another factor's level. Both are contrasts of arms, so
their intervals and tests are those of `compared.py`. Only a whole factorial has them.
"""

from collections.abc import Iterator
from itertools import combinations
from math import prod
from typing import NamedTuple

from studies.report.blocks import INTERVAL, MISSING, Table, number, p_value, signed, span
from studies.report.compared import DIFFERENCE_HEADER, VALUES, Found, contrast, corrected, differences_table
from studies.report.gather import Gathered, Row
from studies.runner.plan import RETUNED


class Effect(NamedTuple):
    """A contrast of arms: how much more `level` has than `against`, or what two levels have more together."""

    kind: str  # main or interaction
    factor: str
    level: str
    against: str
    weights: list[tuple[Row, float]]

    @property
    def name(self) -> str:
        return f"{self.factor}: {self.level} less {self.against}" if self.kind == "main" else self.factor


def asked_effects(study: Gathered) -> list[Effect]:
    """Main effects and two-way interactions of a factorial; none when a cell is missing."""
    arms = [row for row in study.arms if row.levels]
    if study.about["design"] != "factorial" or not arms or any(not row.trials for row in arms):
        return []
    factors = {name: list(dict.fromkeys(row.levels[name] for row in arms)) for name in arms[0].levels}
    return [*_main(arms, factors), *_interactions(arms, factors)]


def found_effects(study: Gathered, asked: list[Effect]) -> Found:
    """What each effect comes to, for both metrics."""
    return {metric: [contrast(study, effect.weights, metric) for effect in asked] for metric in VALUES}


def effects(study: Gathered) -> Table | None:
    """Main effects and interactions as a table."""
    asked = asked_effects(study)
    if not asked:
        return None
    rows = differences_table([[effect.kind, effect.name] for effect in asked], found_effects(study, asked))
    note = f"Averaged over the other factors' levels; p corrected for {len(asked)} effects of each metric (Holm)."
    return Table("effects", "Effects of the factors", ["effect", "of", "seeds", *DIFFERENCE_HEADER], rows, note)


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
    tuned = {row.name: row for row in study.retuned}
    pairs = [(arm, tuned[RETUNED.format(arm.name)]) for arm in study.arms if RETUNED.format(arm.name) in tuned]
    first, first_tuned = pairs[0]
    before = [contrast(study, [(arm, 1.0), (first, -1.0)], "acc") for arm, _ in pairs[1:]]
    after = [contrast(study, [(row, 1.0), (first_tuned, -1.0)], "acc") for _, row in pairs[1:]]
    p_values = [corrected(found) for found in (before, after)]
    reference = [[number(row.mean("val_acc")), "", "", ""] for row in (first, first_tuned)]
    rows = [[first.name, *reference[0], *reference[1]]]
    for place, (arm, row) in enumerate(pairs[1:]):
        cells = [arm.name]
        for shown, found, p in ((arm, before, p_values[0]), (row, after, p_values[1])):
            figure = found[place]
            cells.append(number(shown.mean("val_acc")))
            cells += (
                [signed(figure.value), span(figure.low, figure.high), p_value(p[place])] if figure else [MISSING] * 3
            )
        rows.append(cells)
    header = ["arm", "Acc", f"less {first.name}", INTERVAL, "p", "Acc retuned", "less it retuned", INTERVAL, "p"]
    note = (
        f"Left: the base's settings. Right: each arm with the best of its own search of {study.about['retune']} "
        "trials, picked by the first seed and trained with all; what was picked by these clips flatters itself alike."
    )
    return Table("retuned", "Before and after retuning", header, rows, note)
