"""A study's record -> its report: the question, the rows and their differences, what a search found, the costs."""

from avsc_core.data.dataset import LABEL
from avsc_core.errors import Fault, UserError
from avsc_core.record.recorder import Recorder
from studies.report.accounts import cost, missing, question, reproduce, retrained
from studies.report.answer import answer
from studies.report.blocks import Block, Report
from studies.report.compared import comparisons, published, results, settings
from studies.report.effects import effects, retuning
from studies.report.figures import pictures
from studies.report.gather import Gathered
from studies.report.searched import best_trials, importance, ladder, pareto


def build_report(recorder: Recorder, name: str) -> Report:
    """The report of study `name`. Raises UserError when no trial of it is complete."""
    study = Gathered(recorder, name)
    if not study.complete:
        todo = f"run it: avsc-search run {study.about['file']}"
        raise UserError(Fault(name, f"study {name} has no complete trial", todo=todo))
    label = LABEL if study.embedded else ""
    drawn = {picture.key: picture for picture in pictures(study, label)}
    blocks: list[Block | None] = [
        question(study),
        answer(study),
        results(study) if study.rows else None,
        published(study),
        settings(study),
        drawn.get("rows"),
        comparisons(study),
        effects(study),
        drawn.get("factors"),
        retuning(study),
        ladder(study),
        retrained(study),
        best_trials(study),
        importance(study),
        drawn.get("importance"),
        drawn.get("slices"),
        pareto(study),
        drawn.get("pareto"),
        drawn.get("curves"),
        drawn.get("confusion"),
        missing(study),
        cost(study),
        reproduce(study),
    ]
    return Report(name, f"Study {name}", label, [block for block in blocks if block])
