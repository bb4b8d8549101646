"""A study's record -> its report: the sections in the order in which people read them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from avsc_core.errors import Fault, UserError
from avsc_core.record.reading.record import Record
from studies.report import figures, search_figures
from studies.report.blocks import Block, Report, Words
from studies.report.sections import (
    comparisons,
    conclusions,
    effects,
    ladder,
    looks,
    overview,
    reproduction,
    results,
    retuning,
    search_results,
)
from studies.report.study_results import StudyResults

# A section is None when the study has nothing for it.
Section = Callable[[StudyResults], Block | None]


def build_report(recorder: Record, name: str) -> Report:
    """Build the report of study `name`. Raises UserError when no trial of it is complete."""
    study = StudyResults(recorder, name)
    if not study.completed:
        todo = f"run it: avsc-search run {study.file_name}"
        raise UserError(Fault(name, f"study {name} has no complete trial", todo=todo))

    report = Report(name, f"Study {name}", study.label)
    report.blocks.extend(_make_blocks(OPENING, study))
    # Of a study with several tables, one table after another.
    for table in study.tables or [study]:
        report.blocks.extend(_make_blocks(OF_THE_ROWS, table))
    report.blocks.extend(_make_blocks(CLOSING, study))
    return report


def _make_blocks(sections: Sequence[Section], study: StudyResults) -> Iterator[Block]:
    """Yield the sections for which the study has something, under the title of its table."""
    for make_section in sections:
        block = make_section(study)
        if block is None:
            continue
        if title := study.table_title:
            block = replace(block, title=f"{title}: {block.title}")
            if not isinstance(block, Words):
                slug = re.sub(r"\W+", "-", title.lower())
                block = replace(block, key=f"{slug}-{block.key}")
        yield block


OPENING: tuple[Section, ...] = (
    overview.describe_question,
    conclusions.write_conclusions,
)

OF_THE_ROWS: tuple[Section, ...] = (
    results.make_results_table,
    results.make_published_table,
    results.make_settings_table,
    figures.make_rows_picture,
    comparisons.make_comparisons_table,
    looks.make_looks_table,
    effects.make_effects_table,
    figures.make_factors_picture,
)

CLOSING: tuple[Section, ...] = (
    retuning.make_retuning_table,
    ladder.make_ladder_table,
    reproduction.make_test_table,
    search_results.make_best_trials_table,
    search_results.make_importance_table,
    search_figures.make_importance_picture,
    search_figures.make_slices_picture,
    search_results.make_pareto_table,
    search_figures.make_pareto_picture,
    figures.make_curves_picture,
    figures.make_confusion_picture,
    overview.list_missing,
    reproduction.make_cost_table,
    reproduction.make_reproduction_table,
)
