"""The two rungs of a ladder side by side, and whether they agree.

The search ranks short trainings, on the cheap rung. The best of them and the base are trained in
full, on the full rung. A ladder is worth its while when both rungs rank configurations alike.
"""

from math import factorial, nan
from typing import NamedTuple

from avsc_core.metrics import sign_of
from studies.report.blocks import Table, format_number, format_p
from studies.report.statistics import correlate_ranks
from studies.report.study_results import ReportRow, StudyResults, best_value

# Of five configurations, one neighbouring pair may be in the wrong order and the exact p value is
# still 5 / 120; of four, only perfect agreement has 1 / 24; of three, nothing is below 5 %.
ENOUGH = 5


class Agreement(NamedTuple):
    """How far the rungs agree, over the configurations with figures at both."""

    configurations: int
    correlation: float  # Spearman's; nan for fewer than three configurations, or when all are alike
    p: float  # one-sided
    best_at_cheap: str  # the name of the best; empty without any configuration
    best_at_full: str


def make_ladder_table(study: StudyResults) -> Table | None:
    """Make the table of finalists and the base at both rungs; None when there is no ladder."""
    if not study.is_ladder:
        return None
    rows = []
    for row in study.full_rung_rows:
        cheap_value = format_number(_find_cheap_value(study, row))
        full_value = format_number(row.mean(study.metric))
        rows.append([row.name, cheap_value, full_value, row.seed_count])

    agreement = measure_agreement(study)
    note = (
        f"{_describe_agreement(agreement)} The cheap rung has one training of each"
        " configuration, the full rung the mean over seeds. The base has none of the search's"
        " values. Figures of different rungs are never mixed."
    )
    header = [
        "configuration",
        f"cheap rung, {study.metric}",
        f"full rung, {study.metric}",
        "seeds at the full rung",
    ]
    return Table("ladder", "Both rungs of the ladder", header, rows, note)


def measure_agreement(study: StudyResults) -> Agreement:
    """Compare both rungs: their best configurations, and the ranks of all (Spearman)."""
    names = []
    cheap_values = []
    full_values = []
    sign = sign_of(study.metric)
    for row in study.full_rung_rows:
        cheap_value = _find_cheap_value(study, row)
        full_value = row.mean(study.metric)
        if cheap_value == cheap_value and full_value == full_value:
            names.append(row.name)
            cheap_values.append(sign * cheap_value)
            full_values.append(sign * full_value)

    correlation, p = correlate_ranks(cheap_values, full_values)
    best_at_cheap = best_at_full = ""
    if names:
        # Of several that are best at the full rung, the one that is best at the cheap rung, too.
        pairs = list(zip(full_values, cheap_values, names, strict=True))
        best_at_full = max(pairs)[2]
        best_at_cheap = max((cheap, full, name) for full, cheap, name in pairs)[2]
    return Agreement(len(names), correlation, p, best_at_cheap, best_at_full)


def describe_best(agreement: Agreement) -> str:
    """Say whether the best at the cheap rung is the best at the full rung."""
    if agreement.best_at_cheap == agreement.best_at_full:
        return (
            f"The best at the cheap rung, {agreement.best_at_cheap}, is the best at the full rung."
        )
    return (
        f"The best at the cheap rung, {agreement.best_at_cheap}, is not the best at the full rung,"
        f" {agreement.best_at_full}."
    )


def _describe_agreement(agreement: Agreement) -> str:
    """Say how far the rungs agree, and what so many configurations can show."""
    count = agreement.configurations
    sentences = [describe_best(agreement)] if agreement.best_at_full else []
    sentences.append(
        f"Rank correlation (Spearman) of the two rungs over {count} configurations:"
        f" {format_number(agreement.correlation, digits=2)}, p {format_p(agreement.p)}"
        " (one-sided, by all their orders)."
    )
    if 2 < count < ENOUGH:
        sentences.append(
            f"Even perfect agreement of {count} has a p of 1/{factorial(count)}: at least {ENOUGH}"
            " are needed to tell agreement that is not perfect from chance at 5 %."
        )
    return " ".join(sentences)


def _find_cheap_value(study: StudyResults, row: ReportRow) -> float:
    """Find a row's value at the cheap rung; nan when the record has none."""
    if not row.trials:
        return nan
    cheap = study.find_cheap_trial(next(iter(row.trials.values())))
    return best_value(cheap, study.metric) if cheap else nan
