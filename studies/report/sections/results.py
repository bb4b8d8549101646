"""The rows of a study with their figures: results, published figures beside them, and settings.

A row's figures are means over its seeds on validation, at the epochs that the study's rule selects,
with 95 % intervals over locations and seeds.
"""

from math import nan

from avsc_core.record.study_document import is_of_the_paper, name_place_in_paper
from avsc_core.resolve import complete_settings, identify
from search_spaces.inactive import list_inactive
from studies.report.blocks import (
    INTERVAL_TITLE,
    METRIC_TITLES,
    MISSING_CELL,
    Table,
    format_number,
    format_setting,
    make_cells,
)
from studies.report.estimates import CLIP_VALUES, estimate_level
from studies.report.study_results import ReportRow, StudyResults

# Rule -> which epochs the figures are of.
EPOCHS = {
    "crossfit": "each clip at the epoch that is best on the other half of the locations",
    "best": "the best epoch",
    "last": "the last epoch",
    "last 3": "the mean of the last three epochs",
}
# What a reader must know of published figures before comparing ours with them.
OTHER_CLIPS = (
    "Published figures are of other clips than ours, which are of validation: for comparison only."
)
PAPER_SELECTION = (
    "Those of the paper are probably of the best epoch on the test split; ours are chosen on"
    " validation, and the test split is read once, so ours are the stricter ones."
)
MIXED_PROTOCOLS = (
    "Table V mixes decisions on one second (the challenge's, in several rows) with decisions on ten"
    " (the paper's own): the same weights score 8 to 10 points higher by ten seconds."
)


def make_results_table(study: StudyResults) -> Table | None:
    """Make the study's own table: of every row the seeds, Acc and Logloss with intervals."""
    if not study.rows:
        return None

    header = ["arm", "seeds"]
    for metric in CLIP_VALUES:
        header += [METRIC_TITLES[metric], INTERVAL_TITLE]
    shows_best_epoch = study.rule != "best"
    if shows_best_epoch:
        header.append(f"{METRIC_TITLES[study.metric]}, best epoch")

    # A row without trials has the marks of missing figures.
    table_rows = []
    for row in study.rows:
        cells = [row.name, row.seed_count]
        for metric in CLIP_VALUES:
            cells += make_cells(estimate_level(study, row, metric))
        if shows_best_epoch:
            cells.append(format_number(row.mean_of_best_epochs(study.metric)))
        table_rows.append(cells)

    # What readers must know to judge the figures of this table.
    note = f"Means on validation, {EPOCHS[study.rule]}; intervals over locations and seeds."
    if shows_best_epoch:
        note += (
            " The last column is the best epoch on these same clips:"
            " a maximum, which looks better than it is."
        )
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
    for row in study.rows:
        if row.shared_with:
            note += f" {row.name} is the same training as {', '.join(row.shared_with)}."
    return Table("results", "Results", header, table_rows, note)


def make_published_table(study: StudyResults) -> Table | None:
    """Set the published figures, with their table and row in the paper, beside ours.

    The rows are the arms that have published figures, then systems that are no arm of the study.
    Figures of synthetic scenes are not subtracted from figures of real streets.
    """
    # For each metric the published figure, ours, and how much more ours has.
    header = ["arm", "where"]
    for name in ("Acc", "Logloss"):
        header += [f"published {name}", f"our {name}"]
        if not study.label:
            header.append("ours - it")

    table_rows = []
    notes = [OTHER_CLIPS]
    for row in (*study.rows, *study.other_systems):
        if not row.published:
            continue

        # Whose figures they are decides what must be known of them.
        if is_of_the_paper(row.published):
            notes.append(PAPER_SELECTION)
        if row.published["table"] == "V":
            notes.append(MIXED_PROTOCOLS)

        cells = [row.name, name_place_in_paper(row.published)]
        for metric in CLIP_VALUES:
            our_value = row.mean(f"val_{metric}")
            # The paper may leave one of the two metrics out.
            published_value = row.published[metric]
            if published_value is None:
                published_value = nan
            cells += [format_number(published_value), format_number(our_value)]
            if not study.label:
                cells.append(format_number(our_value - published_value, sign="+"))
        table_rows.append(cells)
    if not table_rows:
        return None

    note = " ".join(dict.fromkeys(notes))  # each once, in order
    return Table("published", "Beside what is published", header, table_rows, note)


def make_settings_table(study: StudyResults) -> Table | None:
    """List what each row changes of the base, and the note of its author."""
    if not study.rows:
        return None
    # Without any note, the table ends before the column of notes.
    columns = 3 if any(row.note for row in study.rows) else 2
    header = ["arm", "changes of the base", "note"][:columns]
    table_rows = []
    for row in study.rows:
        cells = [row.name, _describe_changes(study, row), row.note]
        table_rows.append(cells[:columns])
    return Table("settings", "What the rows are", header, table_rows)


def _describe_changes(study: StudyResults, row: ReportRow) -> str:
    """List the settings in which a row differs from the base, without seed and inactive ones."""
    if not row.trials:
        return MISSING_CELL
    config = next(iter(row.trials.values())).config
    ignored = {"seed", *list_inactive(config)}
    base = study.base_settings
    changes = []
    for key, value in complete_settings(identify(config)).items():
        if key not in ignored and value != base[key]:
            changes.append(f"{key} {format_setting(value)}")
    return ", ".join(changes) or "nothing"
