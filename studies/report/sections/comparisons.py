"""How the arms differ: pairs of arms with the difference of their figures.

Differences pair the same clips, locations and seeds of two arms. Their p values are corrected for
being several (Holm). Rows that were selected by their figures are not tested: the selection has
used the same clips.
"""

from collections.abc import Sequence
from itertools import combinations

from studies.report.blocks import (
    INTERVAL_TITLE,
    POWER_TITLE,
    Table,
    format_p,
    format_smallest,
    make_cells,
)
from studies.report.estimates import (
    CLIP_VALUES,
    Contrast,
    estimate_contrasts,
    find_level,
    state_powers,
    subtract,
)
from studies.report.sections.looks import describe_added_seeds
from studies.report.study_results import ReportRow, StudyResults

MOST_ARMS_FOR_ALL_PAIRS = 5  # of more arms, each is compared with the first
DIFFERENCE_HEADER = [
    *("Acc", INTERVAL_TITLE, "p", POWER_TITLE),
    *("Logloss", INTERVAL_TITLE, "p", POWER_TITLE),
]
CORRECTION_NOTE = (
    "p is corrected for {} of each metric (Holm); intervals are not corrected."
    f" {POWER_TITLE}: the smallest true difference that such a study tells with a power of 80 %,"
    " at the level that Holm's correction asks of the smallest p{}, {:.2g}."
)


def make_comparisons_table(study: StudyResults) -> Table | None:
    """Make the table of differences between arms; None with fewer than two arms to compare."""
    arms = list_compared_arms(study)
    pairs = pair_arms(arms)
    if not pairs:
        return None

    names = [[one.name, other.name] for one, other in pairs]
    rows = make_difference_rows(study, names, [subtract(*pair) for pair in pairs])

    correction = describe_correction(study, len(pairs), "comparison")
    note = f"Paired by clip, location and seed. {correction}"
    if study.table_title:
        note += " It is corrected within this table, not over all tables of the study."
    if any(len(row.trials) == 1 for row in arms):
        note += " Where there is one seed, the luck of trainings is unknown."
    for first, *others in _group_equal_arms(study):
        if others:
            names_of_equals = ", ".join(row.name for row in others)
            note += f" {names_of_equals}: the same training as {first.name}."
    header = ["arm", "against", "seeds", *DIFFERENCE_HEADER]
    return Table("comparisons", "Differences between arms", header, rows, note)


def list_compared_arms(study: StudyResults) -> list[ReportRow]:
    """List the arms to compare: those with trials, not selected by figures, equal ones once."""
    return [equal_arms[0] for equal_arms in _group_equal_arms(study)]


def pair_arms(arms: Sequence[ReportRow]) -> list[tuple[ReportRow, ReportRow]]:
    """Make all pairs of a few arms, the later arm first; of many, pair each with the first."""
    if len(arms) <= MOST_ARMS_FOR_ALL_PAIRS:
        return list(combinations(arms[::-1], 2))
    return [(arm, arms[0]) for arm in arms[1:]]


def make_difference_rows(
    study: StudyResults, names: Sequence[Sequence[str]], contrasts: Sequence[Contrast]
) -> list[list[str]]:
    """Make a table's rows of contrasts: names, seeds, then DIFFERENCE_HEADER.

    `names` holds the first cells of each contrast.
    """
    estimates = [estimate_contrasts(study, contrasts, metric) for metric in CLIP_VALUES]
    powers = [state_powers(study, contrasts, metric) for metric in CLIP_VALUES]
    rows = []
    for number, first_cells in enumerate(names):
        cells = [*first_cells, str(estimates[0][number].seeds)]
        for of_figures, of_powers in zip(estimates, powers, strict=True):
            figure = of_figures[number]
            smallest = format_smallest(of_powers[number].smallest)
            cells += [*make_cells(figure, "+"), format_p(figure.p), smallest]
        rows.append(cells)
    return rows


def describe_correction(study: StudyResults, count: int, noun: str) -> str:
    """Describe how the p values of a table are corrected, and the level that this leaves.

    The table has `count` of what the `noun` names.
    """
    place = " at the last look" if study.looks else ""
    level = find_level(study, count)
    tests = f"{count} {noun}" if count == 1 else f"{count} {noun}s"
    note = CORRECTION_NOTE.format(tests, place, level)
    return note + describe_added_seeds(study)


def _group_equal_arms(study: StudyResults) -> list[list[ReportRow]]:
    """Group the rows that may be compared by their trainings, in the order of the rows."""
    groups: dict[frozenset[str], list[ReportRow]] = {}
    for row in study.rows:
        if row.trials and not row.selected:
            trainings = frozenset(trial.run_id for trial in row.trials.values())
            groups.setdefault(trainings, []).append(row)
    return list(groups.values())
