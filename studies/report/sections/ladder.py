"""The two rungs of a ladder side by side, and whether they agree.

The search ranks short trainings, on the cheap rung. The best of them and the base are trained in
full, on the full rung. A ladder is worth its while when both rungs rank configurations alike.
"""

from math import nan

from studies.report.blocks import Table, format_number
from studies.report.statistics import correlate_ranks
from studies.report.study_results import ReportRow, StudyResults, best_value


def make_ladder_table(study: StudyResults) -> Table | None:
    """Make the table of finalists and the base at both rungs; None when there is no ladder."""
    if not study.is_ladder:
        return None
    rows = []
    for row in study.full_rung_rows:
        cheap_value = format_number(_find_cheap_value(study, row))
        full_value = format_number(row.mean(study.metric))
        rows.append([row.name, cheap_value, full_value, row.seed_count])

    # The rank correlation says how well the cheap rung predicts the full one.
    count, correlation = measure_agreement(study)
    note = (
        f"Rank correlation (Spearman) of the two rungs over {count} configurations:"
        f" {format_number(correlation, digits=2)}. The cheap rung has one training of each"
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


def measure_agreement(study: StudyResults) -> tuple[int, float]:
    """Count the configurations with figures at both rungs, and correlate their ranks (Spearman).

    The correlation is nan for fewer than three configurations.
    """
    cheap_values = []
    full_values = []
    for row in study.full_rung_rows:
        cheap_value = _find_cheap_value(study, row)
        if cheap_value == cheap_value:
            cheap_values.append(cheap_value)
            full_values.append(row.mean(study.metric))
    return len(cheap_values), correlate_ranks(cheap_values, full_values)


def _find_cheap_value(study: StudyResults, row: ReportRow) -> float:
    """Find a row's value at the cheap rung; nan when the record has none."""
    if not row.trials:
        return nan
    cheap = study.find_cheap_trial(next(iter(row.trials.values())))
    return best_value(cheap, study.metric) if cheap else nan
