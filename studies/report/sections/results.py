"""The rows of a study with their figures: results, published figures beside them, and settings.

A row's figures are means over its seeds of the best epoch on validation, with 95 % intervals over
locations and seeds.
"""

from collections.abc import Mapping
from math import nan
from typing import Any

from avsc_core.resolve import flatten, identify
from search_spaces.inactive import list_inactive
from studies.report.blocks import (
    INTERVAL_TITLE,
    METRIC_TITLES,
    MISSING_CELL,
    Table,
    format_difference,
    format_number,
    format_setting,
    make_level_cells,
)
from studies.report.estimates import CLIP_VALUES, estimate_level
from studies.report.study_results import ReportRow, StudyResults


def make_results_table(study: StudyResults) -> Table | None:
    """Make the study's own table: of every row the seeds, Acc and Logloss with intervals."""
    if not study.rows:
        return None

    header = ["arm", "seeds"]
    for metric in CLIP_VALUES:
        header += [METRIC_TITLES[metric], INTERVAL_TITLE]

    # A row without trials has the marks of missing figures.
    table_rows = []
    for row in study.rows:
        cells = [row.name, row.seed_count]
        for metric in CLIP_VALUES:
            cells += make_level_cells(estimate_level(study, row, metric))
        table_rows.append(cells)

    # What readers must know to judge the figures of this table.
    note = "Means of the best epoch on validation; intervals over locations and seeds."
    if any(len(row.trials) == 1 for row in study.rows):
        note += (
            " One seed says nothing about the luck of a training:"
            " its interval is over locations alone."
        )
    if any(row.selected for row in study.rows):
        note += (
            " Rows that were selected as the best of several on these same clips"
            " look better than they are."
        )
    return Table("results", "Results", header, table_rows, note)


def make_published_table(study: StudyResults) -> Table | None:
    """Set the published figures, with their table and row in the paper, beside ours.

    Figures of synthetic scenes are not subtracted from figures of real streets.
    """
    rows = [row for row in study.rows if row.published]
    if not rows:
        return None

    # For each metric the published figure, ours, and how much more ours has.
    header = ["arm", "where"]
    for name in ("Acc", "Logloss"):
        header += [f"published {name}", f"our {name}"]
        if not study.is_embedded:
            header.append("ours - it")

    table_rows = []
    for row in rows:
        # The paper may leave one of the two metrics out.
        published = row.published or {}
        cells = [row.name, _name_place_in_paper(published)]
        for metric in CLIP_VALUES:
            our_value = row.mean(f"val_{metric}")
            published_value = nan if published[metric] is None else published[metric]
            cells += [format_number(published_value), format_number(our_value)]
            if not study.is_embedded:
                cells.append(format_difference(our_value - published_value))
        table_rows.append(cells)

    note = (
        "Published figures are of other clips than ours, which are of validation:"
        " for comparison only."
    )
    return Table("published", "Beside what is published", header, table_rows, note)


def make_settings_table(study: StudyResults) -> Table | None:
    """List what each row changes of the base, and the note of its author."""
    if not study.rows:
        return None
    has_notes = any(row.note for row in study.rows)
    header = ["arm", "changes of the base"]
    if has_notes:
        header.append("note")

    table_rows = []
    for row in study.rows:
        cells = [row.name, _describe_changes(study, row)]
        if has_notes:
            cells.append(row.note)
        table_rows.append(cells)
    return Table("settings", "What the rows are", header, table_rows)


def _describe_changes(study: StudyResults, row: ReportRow) -> str:
    """List the settings in which a row differs from the base, without seed and inactive ones."""
    if not row.trials:
        return MISSING_CELL
    config = next(iter(row.trials.values())).config
    ignored = {"seed", *list_inactive(config)}
    base = study.base_settings
    changes = []
    for key, value in dict(flatten(identify(config))).items():
        if key not in ignored and value != base[key]:
            changes.append(f"{key} {format_setting(value)}")
    return ", ".join(changes) or "nothing"


def _name_place_in_paper(published: Mapping[str, Any]) -> str:
    """Name the table and row of a published figure: "Table II, row 1"."""
    table = str(published["table"])
    is_numeral = set(table) <= set("IVX")
    return f"{'Table ' if is_numeral else ''}{table}, row {published['row']}"
