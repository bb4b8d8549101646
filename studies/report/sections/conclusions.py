"""The conclusions of a study in a few sentences, by its deciding metric: what readers remember.

Arms beat each other, levels of a factor beat each other, or they cannot be told from each other. A
difference is believed when its p value, corrected as in its table, is below 0.05; no sentence says
more than that.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import inf
from typing import NamedTuple

from avsc_core.evaluation.intervals import Estimate
from avsc_core.metrics import sign_of
from avsc_core.record.winner import rank_trials
from studies.report.blocks import (
    METRIC_TITLES,
    Words,
    format_interval,
    format_number,
    format_p,
    format_smallest,
)
from studies.report.estimates import (
    ONE_POINT,
    Power,
    estimate_contrasts,
    estimate_level,
    state_powers,
    subtract,
)
from studies.report.sections.comparisons import (
    MOST_ARMS_FOR_ALL_PAIRS,
    list_compared_arms,
    pair_arms,
)
from studies.report.sections.effects import list_effects
from studies.report.sections.ladder import describe_best, measure_agreement
from studies.report.sections.search_results import find_pareto_front, judge_importance
from studies.report.study_results import ReportRow, StudyResults
from studies.study.schema import BELIEVED_BELOW

# A module whose measure stays below this share in every epoch did nothing: a thousandth of what the
# tokens vary by, or of the rows' norm, is less than bf16 can tell apart.
NOTHING_BELOW = 1e-3
# What is measured of each module (avsc_core/trainer/measures.py), and how a share of it is told.
MODULE_MEASURES = {
    "SF": (
        ("sf_added_events", "sf_added_objects"),
        "SF added {} of what its tokens vary by",
    ),
    "CEOA": (
        ("event_row_moved", "object_row_moved"),
        "the rows that CEOA aligns moved by {} of their norm",
    ),
}
MOST_SPELLED_OUT = 3  # unsure differences with their intervals; of more, the names alone are given


class Finding(NamedTuple):
    """A difference: how much more `name` has than what it is compared with."""

    name: str
    figure: Estimate | None  # None when the two have no seed in common
    p: float  # corrected; nan when nothing varies, or without a figure
    power: Power | None = None

    @property
    def is_believed(self) -> bool:
        """Whether the difference is significant."""
        return self.p < BELIEVED_BELOW

    @property
    def text(self) -> str:
        """The name with the difference, and with interval and p when there is a p."""
        assert self.figure is not None
        difference = format_number(self.figure.value, digits=3, sign="+")
        if self.p != self.p:
            return f"{self.name} ({difference})"
        interval = format_interval(self.figure)
        return f"{self.name} ({difference}, 95 % {interval}, p {format_p(self.p)})"


def write_conclusions(study: StudyResults) -> Words | None:
    """Write what the study says; None while it has nothing to compare."""
    lines = []
    # Of a study with several tables, by table.
    for table in study.tables or [study]:
        prefix = f"{table.table_title}: " if table.table_title else ""
        sentences = [
            *_conclude_on_arms(table),
            *_conclude_on_factors(table),
            *_conclude_on_modules(table),
        ]
        lines += [prefix + sentence for sentence in sentences]
    lines += [*_conclude_on_search(study), *_conclude_on_ladder(study)]
    if not lines:
        return None
    if not study.is_finished:
        lines.insert(0, "The study is not finished: this is about its trials so far.")
    return Words("In short", lines)


def write_verdicts(findings: Sequence[Finding], against: str, sign: int) -> Iterator[str]:
    """Write who beats `against`, who loses to it, and who cannot be told from it.

    `sign` is 1 where more is better, -1 where less is.
    """
    # Sort the findings by what may be said of them.
    beating = []
    losing = []
    unsure = []
    # These two hold sentences, because each such finding has its own.
    without_p = []
    without_figure = []
    for finding in findings:
        if finding.figure is None:
            without_figure.append(f"{finding.name} and {against} have no seed in common.")
        elif finding.p != finding.p:
            reason = "nothing varies that would say how sure it is"
            without_p.append(f"{finding.text} beside {against}: {reason}.")
        elif not finding.is_believed:
            unsure.append(finding)
        elif sign * finding.figure.value > 0:
            beating.append(finding)
        else:
            losing.append(finding)

    # One sentence for each group, and one for each finding that has no test.
    if beating:
        yield f"{_describe(beating)} {'beat' if len(beating) > 1 else 'beats'} {against}."
    if losing:
        yield f"{_describe(losing)} {'lose' if len(losing) > 1 else 'loses'} to {against}."
    if len(unsure) > MOST_SPELLED_OUT:
        names = "; ".join(finding.name for finding in unsure)
        yield f"{names}: none of them can be told from {against}.{_describe_power(unsure)}"
    elif unsure:
        yield f"{_describe(unsure)} cannot be told from {against}.{_describe_power(unsure)}"
    yield from without_p
    yield from without_figure


def _conclude_on_arms(study: StudyResults) -> Iterator[str]:
    """Name the best arm; then put a few arms in order, or compare each of many with the first."""
    arms = list_compared_arms(study)
    pairs = pair_arms(arms)
    if not pairs:
        return

    # Only arms with all their seeds are ranked, the best first.
    incomplete = [row.name for row in arms if not row.is_whole]
    if incomplete:
        yield f"Not ranked, because some of their seeds are missing: {'; '.join(incomplete)}."
    sign = sign_of(study.metric)
    ranked = [row for row in arms if row.is_whole]
    ranked.sort(key=lambda row: rank_row(row, study.metric))
    if len(ranked) < 2:
        return
    if min(len(row.trials) for row in ranked) == 1:
        yield "One seed: what follows says nothing about the luck of trainings."

    best = estimate_level(study, ranked[0], study.short_metric)
    title = METRIC_TITLES[study.metric]
    yield (
        f"Best arm by {title}: {ranked[0].name}, {format_number(best.value)}"
        f" (95 % {format_interval(best)}); selected by this figure."
    )

    # The p values are corrected over all pairs, as in the table of comparisons.
    contrasts = [subtract(*pair) for pair in pairs]
    figures = estimate_contrasts(study, contrasts, study.short_metric)
    powers = state_powers(study, contrasts, study.short_metric)
    findings = {}
    for (one, other), figure, power in zip(pairs, figures, powers, strict=True):
        findings[one.name, other.name] = _make_finding(one.name, figure, power)

    if len(arms) <= MOST_ARMS_FOR_ALL_PAIRS:
        yield from _compare_ranked_arms(study, ranked, findings)
    elif not study.is_factorial:  # the factors of a factorial say more than its arms
        yield from write_verdicts(list(findings.values()), arms[0].name, sign)


def rank_row(row: ReportRow, metric: str) -> tuple[float, float, str]:
    """Return what rows are sorted by, the best first, as winners are ranked."""
    return rank_trials(row.trials.values(), metric)


def _compare_ranked_arms(
    study: StudyResults, ranked: list[ReportRow], findings: dict[tuple[str, str], Finding]
) -> Iterator[str]:
    """Compare neighbours in the ranking, and all other pairs whose difference is believed."""
    for (place, better), (worse_place, worse) in combinations(enumerate(ranked), 2):
        finding = findings.get((better.name, worse.name))
        if finding is None:
            finding = _reverse(findings[worse.name, better.name], better.name)
        if worse_place == place + 1 or finding.is_believed:
            yield from write_verdicts([finding], worse.name, sign_of(study.metric))


def _conclude_on_factors(study: StudyResults) -> Iterator[str]:
    """Say what each factor of a factorial is worth, over all levels of the others."""
    # The p values are corrected over all effects, as in the table of effects.
    effects = list_effects(study)
    contrasts = [effect.contrast for effect in effects]
    figures = estimate_contrasts(study, contrasts, study.short_metric)
    powers = state_powers(study, contrasts, study.short_metric)
    main_effects: dict[tuple[str, str], list[Finding]] = {}  # by factor and its first level
    interactions = []
    for effect, figure, power in zip(effects, figures, powers, strict=True):
        if effect.kind == "main":
            findings = main_effects.setdefault((effect.factor, effect.against), [])
            findings.append(_make_finding(effect.level, figure, power))
        else:
            interactions.append(_make_finding(effect.factor, figure, power))

    for (factor, first_level), findings in main_effects.items():
        for sentence in write_verdicts(findings, first_level, sign_of(study.metric)):
            yield f"Factor {factor}: {sentence}"
    if interactions:
        believed = [finding.text for finding in interactions if finding.is_believed]
        yield f"Interactions: {', '.join(believed) or 'none that can be told from 0'}."


def _conclude_on_search(study: StudyResults) -> Iterator[str]:
    """Say how good the search's best is, what mattered, and how many trials are on the front."""
    if study.best_row is None:
        return
    # The figures of the best configuration, in both metrics.
    figures = []
    for metric in ("val_acc", "val_logloss"):
        value = format_number(study.best_row.mean(metric))
        figures.append(f"{METRIC_TITLES[metric]} {value}")
    title = METRIC_TITLES[study.metric]
    yield (
        f"Best of the search by {title}: {', '.join(figures)}; selected by these figures,"
        " so it looks better than it is."
    )

    # The dimensions that mattered more than chance explains.
    for judgement in judge_importance(study):
        importance = judgement.importance
        mattered = []
        for key, share in importance.shares.items():
            if share > importance.chance:
                mattered.append(f"{key} ({share:.0%})")
        what = ", ".join(mattered) or "nothing that can be told from chance"
        if importance.shares:
            title = METRIC_TITLES[judgement.metric]
            yield f"What mattered for {title} over {judgement.basis}: {what}."

    if len(study.metrics) > 1:
        front = len(find_pareto_front(study))
        yield f"Beaten by none in both metrics: {front} of {len(study.searched)} completed trials."


def _conclude_on_ladder(study: StudyResults) -> Iterator[str]:
    """Say whether the rungs of a ladder have the same best, and rank alike."""
    if not study.is_ladder:
        return
    agreement = measure_agreement(study)
    if agreement.best_at_full:
        yield describe_best(agreement)
    shown = "unknown, they are fewer than three or all alike"
    if agreement.correlation == agreement.correlation:
        shown = f"{agreement.correlation:.2f}, p {format_p(agreement.p)}"
    count = agreement.configurations
    yield f"Rank correlation of the two rungs over {count} configurations: {shown}."


def _conclude_on_modules(study: StudyResults) -> Iterator[str]:
    """Name the rows with a module that never did anything; earlier records do not have measures."""
    for measures, sentence in MODULE_MEASURES.values():
        shares = {row.name: study.find_largest(row, measures) for row in study.rows}
        measured = {name: share for name, share in shares.items() if share is not None}
        idle = {name: share for name, share in measured.items() if share < NOTHING_BELOW}
        if not idle:
            continue
        names = "; ".join(idle)
        if len(idle) > MOST_SPELLED_OUT and len(idle) == len(measured):
            names = f"all {len(idle)} rows that have it"
        what = sentence.format(f"at most {max(idle.values()):.2g}")
        yield f"{names}: {what}, in every epoch: its ablation measures nothing."


def _make_finding(name: str, figure: Estimate, power: Power) -> Finding:
    """Make a finding of an estimate whose p value is corrected."""
    return Finding(name, figure if figure.seeds else None, figure.p, power)


def _describe(findings: Sequence[Finding]) -> str:
    return "; ".join(finding.text for finding in findings)


def _reverse(finding: Finding, name: str) -> Finding:
    """Return the same difference from the other side, where it is `name` that has more or less."""
    figure = finding.figure
    if figure:
        figure = figure._replace(value=-figure.value, low=-figure.high, high=-figure.low)
    return finding._replace(name=name, figure=figure)


def _describe_power(findings: Sequence[Finding]) -> str:
    """Say what differences could have been told, and what it takes to tell one point."""
    powers = [finding.power for finding in findings if finding.power]
    powers = [power for power in powers if power.smallest == power.smallest]
    if not powers:
        return ""

    smallest = sorted(power.smallest for power in powers)
    ends = [format_smallest(value, digits=3) for value in (smallest[0], smallest[-1])]
    what = f"a difference of {' to '.join(dict.fromkeys(ends))}"
    if smallest[0] == inf:
        what = "no difference of Acc, however large"
    text = f" With 80 % power, such a study tells {what} (at level {powers[0].level:.2g}); "
    # Differences over a single seed do not say how many more they would take.
    known = [power.more_seeds for power in powers if power.more_seeds == power.more_seeds]
    if not known:
        return f"{text}one seed does not show how many tell {ONE_POINT}."
    more_seeds = max(known)
    if more_seeds == inf:
        return f"{text}no number of seeds tells {ONE_POINT}: the locations alone vary too much."
    if more_seeds == 0:
        return f"{text}its seeds are enough to tell {ONE_POINT}."
    plural = "s" if more_seeds > 1 else ""
    return f"{text}to tell {ONE_POINT} takes {more_seeds:.0f} more seed{plural}."
