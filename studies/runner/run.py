"""One invocation of a study, from the checked file to the end of its last trial.

Data and features are prepared and the record is compared before the first trial: a study that is
in the record already continues when it asks the same question, and is refused with the differences
when it does not.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from avsc_core import __version__
from avsc_core.data.dataset import DataSet
from avsc_core.processes import Progress
from avsc_core.record.address import locate_state
from avsc_core.record.delivery.writer import Writer
from avsc_core.record.lease import hold_lease
from avsc_core.record.recorder import Recorder
from avsc_core.record.study_document import FORMAT
from avsc_core.terminal import err
from studies.cluster.session import Session
from studies.engine.strategy import Strategy, describe_exhausted
from studies.engine.tune import Ending, Expected, run_trials
from studies.runner.cost import Cost, estimate_range, make_cost_table, trim_search
from studies.runner.nodes import fill_own_caches, inspect_nodes
from studies.runner.prepare import (
    define_study,
    make_served_plan,
    prepare_study,
)
from studies.runner.repair import repair_study
from studies.runner.standing import Standing, announce, find_standing
from studies.study.metadata import (
    CLIPS,
    describe_invocation,
    describe_study,
    format_clips,
    list_seed_counts,
)
from studies.study.page import make_page_tags
from studies.study.plan import Plan
from studies.study.schema import Study


def run_study(
    study: Study,
    root: Path | None,  # of the data set; None: the embedded scenes
    uri: str | None,
    session: Session,
    progress: Progress,
    max_hours: float | None = None,
    again: bool = False,  # train also what other studies have trained
) -> Ending:
    """Run what is left of a study.

    Raises UserError when the study in the record asks something else, is running already, or
    takes too long.
    """
    recorder = Recorder(uri)
    with hold_lease(recorder, study.name, str(study.path)), Writer(recorder, study.name) as writer:
        # What an earlier run could not write has come into the record before it is read.
        repair_study(recorder, study.name)
        return _run_locked(study, root, writer, session, progress, max_hours, again)


def _run_locked(
    study: Study,
    root: Path | None,
    writer: Writer,
    session: Session,
    progress: Progress,
    max_hours: float | None,
    again: bool,
) -> Ending:
    # What is asked, of which data, and what the record has of it already.
    recorder = writer.recorder
    standing = find_standing(study, root, recorder, progress, again)
    data, strategy = standing.data, standing.strategy
    run, earlier = standing.run, standing.document
    plan = strategy.plan
    study = plan.study
    tags = run.tags if run else {}
    if standing.is_done and run:
        announce(standing)
        _refresh_finished_study(standing, recorder, run.run_id)
        # The last invocation may have been killed between its last trial and the study's end.
        if tags.get("avsc.outcome") != "complete":
            writer.end(run.run_id, "complete")
        return Ending(recorder)
    _note_other_version(tags.get("avsc.version", __version__))

    # Resources that are missing show before anything is computed for them.
    workers = session.count_workers(study)
    weights = []
    if not strategy.done:
        own_caches = inspect_nodes(plan, data, locate_state(recorder.uri))
        weights = prepare_study(plan, data, progress)
        fill_own_caches(own_caches, plan, data)

    # What it costs, and whether that is too much.
    costs = estimate_range(strategy, data, workers, progress)
    if max_hours is not None:
        trimmed = trim_search(study, costs[-1], max_hours)
        _announce_trimming(study, trimmed)
        plan = make_served_plan(trimmed, data)
        strategy = Strategy(plan, strategy.records, strategy.earlier, strategy.elsewhere)
        costs = estimate_range(strategy, data, workers, progress)  # the probes are not repeated
    announce(replace(standing, strategy=strategy))
    if not strategy.done:
        err.print(make_cost_table("what it costs", costs))

    # The study's run is in the record before its first trial.
    parent = _open_study(plan, data, recorder, earlier, costs[0], weights, strategy.total)
    if again:
        _delete_copies(recorder, study)
    outcome = "interrupted"
    try:
        expected = Expected(costs[-1].longest_epoch, costs[-1].checkpoint)
        ending = run_trials(
            strategy, data, writer, parent, workers, expected, session.folder, session.is_own
        )
        outcome = "interrupted" if ending.signal else "complete"
    finally:
        writer.end(parent, outcome)
    for note in describe_exhausted(strategy):
        err.print(note, soft_wrap=True)
    return ending


def _delete_copies(recorder: Recorder, study: Study) -> None:
    """Delete the trials that were taken over from other studies, which are trained now."""
    for trial in recorder.list_trials(study.name):
        if trial.taken_from:
            recorder.delete_run(trial.run_id)


def _refresh_finished_study(standing: Standing, recorder: Recorder, run_id: str) -> None:
    """Record what the file of a finished study says now: notes and names may have changed."""
    recorder.write_study_document(run_id, {**standing.document, **standing.current})
    plan = standing.strategy.plan
    recorder.log_text(run_id, CLIPS, format_clips(standing.data, plan.study.base))
    recorder.write_page(plan.study.name, make_page_tags(plan))


def _open_study(
    plan: Plan,
    data: DataSet,
    recorder: Recorder,
    earlier: Mapping[str, Any],  # the document of the invocation before
    cost: Cost,
    weights: list[dict[str, object]],
    total: int,  # trials of the study, as far as it is planned
) -> str:
    """Open the study's run and write its document. Returns the run's id."""
    study = plan.study
    document = {
        "format": FORMAT,
        "definition": define_study(plan, data),
        "metadata": describe_study(plan),
        "invocations": [*earlier.get("invocations", []), describe_invocation()],
        "cost": asdict(cost),
        "weights": weights or earlier.get("weights", []),
        "skipped": dict(data.skipped),
        "looks": earlier.get("looks", []),
        "earlier_seed_counts": list_seed_counts(earlier, study),
    }
    tags = {
        "avsc.metric": study.metric,
        "avsc.data": data.title,
        "avsc.embedded": str(data.embedded).lower(),
        "avsc.planned": str(total),
    }
    parent = recorder.open_study_run(study.name, tags, document)
    recorder.log_text(parent, CLIPS, format_clips(data, study.base))
    recorder.write_page(study.name, make_page_tags(plan))
    return parent


def _note_other_version(version: str) -> None:
    """Say so when trials of another version stand in the same study, whose digits may differ."""
    if version != __version__:
        what = f"this study was begun by avsc {version}; trainings of avsc {__version__} differ"
        err.print(f"note: {what}, see CHANGELOG.md; --name begins a new study", soft_wrap=True)


def _announce_trimming(study: Study, trimmed: Study) -> None:
    """Tell how many trials of the search `--max-hours` leaves."""
    if study.search and trimmed.search and trimmed.search.trials < study.search.trials:
        left = f"{trimmed.search.trials} of {study.search.trials} trials"
        err.print(f"note: --max-hours leaves the search {left}", soft_wrap=True)
