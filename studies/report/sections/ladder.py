"""The two rungs of a ladder side by side, and whether they agree.

The search ranks short trainings, on the cheap rung. The best of them and the base are trained in
full, on the full rung. A ladder is worth its while when both rungs rank configurations alike.
"""

from math import nan
from typing import NamedTuple

from studies.report.blocks import Table, format_number
from studies.report.statistics import rank_correlation
from studies.report.study_results import ReportRow, StudyResults, best_value


class RungAgreement(NamedTuple):
    """How alike the two rungs of a ladder rank their configurations."""

    configurations: int  # those with figures at both rungs
    rank_correlation: float  # Spearman's; nan for fewer than three configurations


def make_ladder_table(study: StudyResults) -> Table | None:
    """Make the table of finalists and the base at both rungs; None when there is no ladder."""
    if not study.is_ladder:
        return None
    rows = []
    for row in study.full_rung_rows:
        cheap_value = _find_cheap_value(study, row)
        full_value = row.mean(study.metric)
        cells = [row.name, format_number(cheap_value), format_number(full_value), row.seed_count]
        rows.append(cells)

    # The rank correlation says how well the cheap rung predicts the full one.
    agreement = measure_agreement(study)
    correlation = format_number(agreement.rank_correlation, digits=2)
    note = (
        f"Rank correlation (Spearman) of the two rungs over {agreement.configurations}"
        f" configurations: {correlation}. The cheap rung has one training of each configuration,"
        " the full rung the mean over seeds. The base has none of the search's values."
        " Figures of different rungs are never mixed."
    )
    header = [
        "configuration",
        f"cheap rung, {study.metric}",
        f"full rung, {study.metric}",
        "seeds at the full rung",
    ]
    return Table("ladder", "Both rungs of the ladder", header, rows, note)


def measure_agreement(study: StudyResults) -> RungAgreement:
    """Correlate the ranks of the configurations that both rungs have."""
    cheap_values = []
    full_values = []
    for row in study.full_rung_rows:
        cheap_value = _find_cheap_value(study, row)
        if cheap_value == cheap_value and row.trials:
            cheap_values.append(cheap_value)
            full_values.append(row.mean(study.metric))
    return RungAgreement(len(cheap_values), rank_correlation(cheap_values, full_values))


def _find_cheap_value(study: StudyResults, row: ReportRow) -> float:
    """Find a row's value at the cheap rung; nan when the record has none."""
    if not row.trials:
        return nan
    cheap = study.find_cheap_trial(next(iter(row.trials.values())))
    return best_value(cheap, study.metric) if cheap else nan
