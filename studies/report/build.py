"""A study's record -> its report: the sections in the order in which people read them."""

from avsc_core.errors import Fault, UserError
from avsc_core.record.recorder import Recorder
from studies.report.blocks import Block, Report
from studies.report.figures import (
    make_confusion_picture,
    make_curves_picture,
    make_factors_picture,
    make_rows_picture,
)
from studies.report.search_figures import (
    make_importance_picture,
    make_pareto_picture,
    make_slices_picture,
)
from studies.report.sections.comparisons import make_comparisons_table
from studies.report.sections.conclusions import write_conclusions
from studies.report.sections.effects import make_effects_table
from studies.report.sections.ladder import make_ladder_table
from studies.report.sections.overview import describe_question, list_missing
from studies.report.sections.reproduction import (
    make_cost_table,
    make_reproduction_table,
    make_test_table,
)
from studies.report.sections.results import (
    make_published_table,
    make_results_table,
    make_settings_table,
)
from studies.report.sections.retuning import make_retuning_table
from studies.report.sections.search_results import (
    make_best_trials_table,
    make_importance_table,
    make_pareto_table,
)
from studies.report.study_results import StudyResults


def build_report(recorder: Recorder, name: str) -> Report:
    """Build the report of study `name`. Raises UserError when no trial of it is complete."""
    study = StudyResults(recorder, name)
    if not study.completed:
        todo = f"run it: avsc-search run {study.file_name}"
        raise UserError(Fault(name, f"study {name} has no complete trial", todo=todo))

    # A section is None when the study has nothing for it.
    sections: list[Block | None] = [
        describe_question(study),
        write_conclusions(study),
        make_results_table(study),
        make_published_table(study),
        make_settings_table(study),
        make_rows_picture(study),
        make_comparisons_table(study),
        make_effects_table(study),
        make_factors_picture(study),
        make_retuning_table(study),
        make_ladder_table(study),
        make_test_table(study),
        make_best_trials_table(study),
        make_importance_table(study),
        make_importance_picture(study),
        make_slices_picture(study),
        make_pareto_table(study),
        make_pareto_picture(study),
        make_curves_picture(study),
        make_confusion_picture(study),
        list_missing(study),
        make_cost_table(study),
        make_reproduction_table(study),
    ]
    blocks = [section for section in sections if section is not None]
    return Report(name, f"Study {name}", study.label, blocks)
