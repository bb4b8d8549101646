"""Arms before and after retuning: every arm less the first, with the base's settings and its own.

The first seed has selected each arm's settings, so it is left out of the differences of retuned
arms.
"""

from collections.abc import Set

from studies.report.blocks import (
    INTERVAL_TITLE,
    METRIC_TITLES,
    Table,
    format_number,
    make_cells,
)
from studies.report.estimates import NO_ESTIMATE, estimate_contrast, subtract
from studies.report.study_results import ReportRow, StudyResults


def make_retuning_table(study: StudyResults) -> Table | None:
    """Make the table of arms before and after each was tuned by itself; None without retuning."""
    if not study.retuned_pairs:
        return None

    # Each arm less the first one, before and after.
    first_arm, first_retuned = study.retuned_pairs[0]
    rows = []
    for arm, retuned in study.retuned_pairs:
        cells_before = _compare_with_first(study, arm, first_arm, omitted_seeds=set())
        cells_after = _compare_with_first(study, retuned, first_retuned, {study.seeds[0]})
        rows.append([arm.name, *cells_before, *cells_after])

    # The table has the deciding metric alone.
    metric = METRIC_TITLES[study.metric]
    less = f"less {first_arm.name}"
    before = [metric, less, INTERVAL_TITLE]
    after = [f"{metric} retuned", f"{less} retuned", INTERVAL_TITLE]
    note = (
        "Left: the base's settings. Right: each arm with the best of its own search of"
        f" {study.retuning_trials} trials, selected by the first seed, which is left out of the"
        " differences on the right. The selection has used the same clips, too, which favours the"
        " arm with the most to choose from; so there are no tests here."
    )
    return Table("retuned", "Before and after retuning", ["arm", *before, *after], rows, note)


def _compare_with_first(
    study: StudyResults, row: ReportRow, first: ReportRow, omitted_seeds: Set[int]
) -> list[str]:
    """Make the cells of a row: its figure, and how much more it has than the first row."""
    figure = NO_ESTIMATE
    if row is not first:
        contrast = subtract(row, first)
        figure = estimate_contrast(study, contrast, study.short_metric, omitted_seeds)
    return [format_number(row.mean(study.metric)), *make_cells(figure, "+")]
