"""The answer of a study in a few sentences, each as sure as its test: what a reader takes away from the tables below.

Arms beat each other, factors' levels beat each other, or they cannot be told apart: a difference is believed when its p
value, corrected as in its table, is below 0.05. All of it by the study's deciding metric.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, groupby

from avsc_core.evaluation.intervals import Estimate
from studies.report.blocks import NAMES, Words, number, p_value, signed, span
from studies.report.compared import (
    ALL_PAIRS,
    compared_arms,
    corrected,
    differences,
    level,
    pairs_of,
)
from studies.report.effects import asked_effects, found_effects
from studies.report.gather import Gathered, Row
from studies.report.searched import agreement, front, importances

BELIEVED = 0.05
SPELLED_OUT = (
    3  # differences that cannot be told apart, with their intervals; of more only the names
)

Told = tuple[
    str, Estimate | None, float
]  # what is compared, how much more it has, and the corrected p


def answer(study: Gathered) -> Words | None:
    """What the study says, or None when it has nothing to compare yet."""
    lines = [*_arms(study), *_factors(study), *_searched(study), *_rungs(study)]
    if lines and study.tags.get("avsc.outcome") != "complete":
        lines.insert(0, "The study is not finished: what follows is of what there is so far.")
    return Words("In short", lines) if lines else None


def _arms(study: Gathered) -> Iterator[str]:
    """The best arm; a few in their order, or each of many against the first, unless factors sum them up."""
    metric, arms = _short(study), compared_arms(study)
    pairs = pairs_of(arms)
    if not pairs:
        return
    ranked = sorted((row for row in arms if len(row.trials) == row.wanted), key=_standing(study))
    lacking = [row.name for row in arms if len(row.trials) < row.wanted]
    if lacking:
        yield f"Not ranked, because some of their seeds are missing: {'; '.join(lacking)}."
    if len(ranked) < 2:
        return
    if min(len(row.trials) for row in ranked) == 1:
        yield "One seed: what follows says nothing about the luck of trainings."
    own = level(study, ranked[0], metric)
    assert own is not None
    best = f"{ranked[0].name}, {number(own.value)} (95 % {span(own.low, own.high)})"
    yield f"Best arm by {NAMES[study.metric]}: {best}; picked by this figure."
    found = differences(study, pairs)[metric]
    names = [(one.name, other.name) for one, other in pairs]
    told = dict(zip(names, zip(found, corrected(found), strict=True), strict=True))
    if len(arms) > ALL_PAIRS and study.about["design"] == "factorial":
        return  # its factors say more
    if len(arms) > ALL_PAIRS:
        each = [(arm.name, *told[arm.name, arms[0].name]) for arm in arms[1:]]
        yield from verdicts(each, arms[0].name, _sign(study))
        return
    for better, worse in combinations(ranked, 2):
        figure, p = told.get((better.name, worse.name)) or _turned(*told[worse.name, better.name])
        if ranked.index(worse) == ranked.index(better) + 1 or p < BELIEVED:
            yield from verdicts([(better.name, figure, p)], worse.name, _sign(study))


def _factors(study: Gathered) -> Iterator[str]:
    """What each factor of a factorial is worth, over all levels of the others."""
    asked = asked_effects(study)
    found = found_effects(study, asked)[_short(study)]
    told = list(zip(asked, found, corrected(found), strict=True))
    main = [each for each in told if each[0].kind == "main"]
    for factor, group in groupby(main, key=lambda each: each[0].factor):
        levels = list(group)
        each = [(effect.level, figure, p) for effect, figure, p in levels]
        for words in verdicts(each, levels[0][0].against, _sign(study)):
            yield f"Factor {factor}: {words}"
    both = [
        (effect.factor, figure, p) for effect, figure, p in told if effect.kind == "interaction"
    ]
    if both:
        sure = [
            f"{name} ({_amount(figure, p)})" for name, figure, p in both if figure and p < BELIEVED
        ]
        yield f"Interactions: {', '.join(sure) or 'none that can be told from 0'}."


def _searched(study: Gathered) -> Iterator[str]:
    """How good the search's best is, what mattered, and how many trials are on the front."""
    if study.best_row is None:
        return
    values = ", ".join(
        f"{NAMES[metric]} {number(study.best_row.mean(metric))}"
        for metric in ("val_acc", "val_logloss")
    )
    yield f"Best of the search by {NAMES[study.metric]}: {values}; picked by these figures, so it flatters itself."
    for metric, found in zip(study.metrics, importances(study), strict=True):
        sure = [
            f"{key} ({share:.0%})" for key, share in found.shares.items() if share > found.chance
        ]
        if found.shares:
            what = ", ".join(sure) or "nothing that can be told from chance"
            yield f"What mattered for {NAMES[metric]} over {len(study.searched)} complete trials: {what}."
    if len(study.metrics) > 1:
        yield f"Beaten by none in both metrics: {len(front(study))} of {len(study.searched)} complete trials."


def _rungs(study: Gathered) -> Iterator[str]:
    """Whether a ladder's rungs agree."""
    if study.about["ladder"]:
        many, found = agreement(study)
        shown = (
            number(found, 2)
            if found == found
            else "not to be told, they are fewer than three or all alike"
        )
        yield f"Rank correlation of the two rungs over {many} configurations: {shown}."


def verdicts(told: Sequence[Told], against: str, sign: int) -> Iterator[str]:
    """Sentences that say who beats `against`, who loses to it, and who cannot be told from it.

    `sign` is 1 where more is better.
    """
    shared = [(name, figure, p) for name, figure, p in told if figure is not None]
    known = [each for each in shared if each[2] == each[2]]
    beats = [each for each in known if each[2] < BELIEVED and sign * each[1].value > 0]
    loses = [each for each in known if each[2] < BELIEVED and each not in beats]
    unsure = [each for each in known if each[2] >= BELIEVED]
    if beats:
        yield f"{_names(beats)} {'beat' if len(beats) > 1 else 'beats'} {against}."
    if loses:
        yield f"{_names(loses)} {'lose' if len(loses) > 1 else 'loses'} to {against}."
    if len(unsure) > SPELLED_OUT:
        names = "; ".join(name for name, _, _ in unsure)
        yield f"{names}: none of them can be told from {against}."
    elif unsure:
        yield f"{_names(unsure)} cannot be told from {against}."
    for name, figure, p in shared:
        if p != p:
            yield f"{name} ({signed(figure.value, 3)}) beside {against}: nothing varies that would say how sure it is."
    for name in [name for name, figure, _ in told if figure is None]:
        yield f"{name} and {against} have no seed in common."


def _names(told: Iterable[tuple[str, Estimate, float]]) -> str:
    return "; ".join(f"{name} ({_amount(figure, p)})" for name, figure, p in told)


def _amount(figure: Estimate, p: float) -> str:
    return f"{signed(figure.value, 3)}, 95 % {span(figure.low, figure.high)}, p {p_value(p)}"


def _turned(figure: Estimate | None, p: float) -> tuple[Estimate | None, float]:
    """The same difference from the other side."""
    return figure and figure._replace(value=-figure.value, low=-figure.high, high=-figure.low), p


def _short(study: Gathered) -> str:
    return study.metric.removeprefix("val_")


def _standing(study: Gathered) -> Callable[[Row], float]:
    """What arms are sorted by, the best first."""
    return lambda row: -_sign(study) * row.mean(study.metric)


def _sign(study: Gathered) -> int:
    return 1 if study.metric == "val_acc" else -1
