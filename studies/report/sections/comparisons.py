"""How the arms differ: pairs of arms with the difference of their figures.

Differences pair the same clips, locations and seeds of two arms. Their p values are corrected for
being several (Holm). Rows that were selected by their figures are not tested: the selection has
used the same clips.
"""

from collections.abc import Sequence
from itertools import combinations

from studies.report.blocks import (
    INTERVAL_TITLE,
    MISSING_CELL,
    Table,
    format_p,
    make_difference_cells,
)
from studies.report.estimates import (
    ContrastEstimates,
    correct_p_values,
    estimate_contrasts,
    subtract,
)
from studies.report.study_results import ReportRow, StudyResults

MOST_ARMS_FOR_ALL_PAIRS = 5  # of more arms, each is compared with the first
DIFFERENCE_HEADER = ["Acc", INTERVAL_TITLE, "p", "Logloss", INTERVAL_TITLE, "p"]
CORRECTION_NOTE = "p is corrected for {} of each metric (Holm); intervals are not corrected."

Pair = tuple[ReportRow, ReportRow]


def make_comparisons_table(study: StudyResults) -> Table | None:
    """Make the table of differences between arms; None with fewer than two arms to compare."""
    pairs = pair_arms(list_compared_arms(study))
    if not pairs:
        return None

    names = [[one.name, other.name] for one, other in pairs]
    header = ["arm", "against", "seeds", *DIFFERENCE_HEADER]
    cells = make_difference_rows(names, estimate_differences(study, pairs))

    correction = CORRECTION_NOTE.format(f"{len(pairs)} comparisons")
    note = f"Paired by clip, location and seed. {correction}"
    if any(len(row.trials) == 1 for row in list_compared_arms(study)):
        note += " Where there is one seed, the luck of trainings is unknown."
    for first, *others in _group_equal_arms(study):
        if others:
            names_of_others = ", ".join(row.name for row in others)
            note += f" {names_of_others}: the same training as {first.name}."
    return Table("comparisons", "Differences between arms", header, cells, note)


def list_compared_arms(study: StudyResults) -> list[ReportRow]:
    """List the arms to compare: those with trials, not selected by figures, equal ones once."""
    return [equal_arms[0] for equal_arms in _group_equal_arms(study)]


def pair_arms(arms: Sequence[ReportRow]) -> list[Pair]:
    """Make all pairs of a few arms, the later arm first; of many, pair each with the first."""
    if len(arms) <= MOST_ARMS_FOR_ALL_PAIRS:
        return list(combinations(arms[::-1], 2))
    return [(arm, arms[0]) for arm in arms[1:]]


def estimate_differences(study: StudyResults, pairs: Sequence[Pair]) -> ContrastEstimates:
    """Estimate how much more the first of each pair has than the second, for both metrics."""
    return estimate_contrasts(study, [subtract(one, other) for one, other in pairs])


def make_difference_rows(
    names: Sequence[Sequence[str]], estimates: ContrastEstimates
) -> list[list[str]]:
    """Make a table's rows of contrasts: names, seeds, then DIFFERENCE_HEADER.

    `names` holds the first cells of each contrast, in the order of its estimates.
    """
    corrected = {metric: correct_p_values(figures) for metric, figures in estimates.items()}
    first_metric = next(iter(estimates))
    rows = []
    for index, first_cells in enumerate(names):
        figure = estimates[first_metric][index]
        cells = [*first_cells, str(figure.seeds) if figure else "0"]
        for metric, figures in estimates.items():
            figure = figures[index]
            cells += make_difference_cells(figure)
            cells.append(format_p(corrected[metric][index]) if figure else MISSING_CELL)
        rows.append(cells)
    return rows


def _group_equal_arms(study: StudyResults) -> list[list[ReportRow]]:
    """Group the rows that may be compared by their trainings, in the order of the rows."""
    groups: dict[frozenset[str], list[ReportRow]] = {}
    for row in study.rows:
        if row.trials and not row.selected:
            trainings = frozenset(trial.run_id for trial in row.trials.values())
            groups.setdefault(trainings, []).append(row)
    return list(groups.values())
