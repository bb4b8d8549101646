"""What `avsc-search plan` shows: the trials of a study, how many are left, and what they cost."""

from pathlib import Path

from avsc_core.data.dataset import DataSet
from avsc_core.data.features import open_data
from avsc_core.record.address import find_missing_file
from avsc_core.record.reading.record import open_record
from avsc_core.terminal import err, make_table, out, progress
from avsc_core.trainer.device import find_gpu_fault
from studies.engine.strategy import Strategy
from studies.runner import prepare
from studies.runner.cost import (
    count_local_places,
    estimate_range,
    make_cost_table,
    trim_search,
)
from studies.runner.takeover import announce_takeover
from studies.study.plan import describe_plan, describe_searches, make_plan
from studies.study.schema import Study


def preview_study(
    study: Study,
    root: Path | None,
    tracking_uri: str | None,
    max_hours: float | None = None,
    again: bool = False,
) -> None:
    """Print what a study would run on the data set at `root`, and what it would cost.

    A record that does not exist is not created. Raises UserError.
    """
    # What would run; shown first, because reading record and data takes a moment.
    header, *rows = describe_plan(make_plan(study))
    out.print(make_table(f"{study.name}: {study.question}", header, rows))
    epochs = f"{study.base.training.epochs} epochs a trial"
    out.print(f"preset {study.preset}, {epochs}{describe_searches(study)}", soft_wrap=True)

    # What the record has is not run again.
    recorder = None if find_missing_file(tracking_uri) else open_record(tracking_uri)
    if recorder:
        prepare.check_warm_start(recorder, study)
        study = prepare.take_recorded_seeds(study, recorder)
    with progress() as show:
        data = open_data(root, show)
        plan = prepare.make_served_plan(study, data)
        strategy = Strategy(plan, [])
        if recorder:
            strategy = prepare.compare_with_record(plan, data, recorder, again)

    for note in prepare.describe_missing_arms(plan):
        err.print(note, soft_wrap=True)
    if strategy.reused:
        counts = f"{strategy.reused} of {strategy.total} trials"
        out.print(f"{counts} are in the record already", soft_wrap=True)
    announce_takeover(strategy)
    if not strategy.done:
        _print_cost(strategy, data, max_hours)


def _print_cost(strategy: Strategy, data: DataSet, max_hours: float | None) -> None:
    """Measure by a few training steps what is left of a study, and print what it costs.

    With `max_hours`, print too how many trials of the search fit. Raises UserError when none do.
    """
    study = strategy.plan.study
    if study.resources.gpus and (fault := find_gpu_fault("--gpus")):
        err.print(f"note: {fault}; these are costs on the CPU", soft_wrap=True)
    with progress() as show:
        costs = estimate_range(strategy, data, count_local_places(study.resources), show)
    title = "what is left costs" if strategy.reused else "what it costs"
    out.print(make_cost_table(f"{title} on {data.title}", costs))

    if max_hours is not None:
        search = trim_search(study, costs[-1], max_hours).search
        trials = f": {search.trials} trials of the search" if search else ""
        out.print(f"within {max_hours:g} h{trials}")
