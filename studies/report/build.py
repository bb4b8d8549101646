"""A study's record -> its report: the sections in the order in which people read them."""

from collections.abc import Callable

from avsc_core.errors import Fault, UserError
from avsc_core.record.recorder import Recorder
from studies.report import figures, search_figures
from studies.report.blocks import Block, Report
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


def build_report(recorder: Recorder, name: str) -> Report:
    """Build the report of study `name`. Raises UserError when no trial of it is complete."""
    study = StudyResults(recorder, name)
    if not study.completed:
        todo = f"run it: avsc-search run {study.file_name}"
        raise UserError(Fault(name, f"study {name} has no complete trial", todo=todo))

    report = Report(name, f"Study {name}", study.label)
    for make_section in SECTIONS:
        section = make_section(study)
        if section is not None:
            report.blocks.append(section)
    return report


# A section is None when the study has nothing for it.
SECTIONS: tuple[Callable[[StudyResults], Block | None], ...] = (
    overview.describe_question,
    conclusions.write_conclusions,
    results.make_results_table,
    results.make_published_table,
    results.make_settings_table,
    figures.make_rows_picture,
    comparisons.make_comparisons_table,
    looks.make_looks_table,
    effects.make_effects_table,
    figures.make_factors_picture,
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
