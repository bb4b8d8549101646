"""One sitting of a study, from the checked file to the closing table.

Data and features are prepared and the record is compared before the first trial: a study that is in the record already
continues when it asks the same question and is refused with the differences when it does not.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray
from filelock import FileLock, Timeout

from avsc_core.data.dataset import DataSet
from avsc_core.data.features import open_data
from avsc_core.errors import Fault, UserError
from avsc_core.processes import Progress
from avsc_core.record.recorder import CHECKPOINTS, Recorder
from avsc_core.resolve import find_random_branches
from avsc_core.terminal import err, make_table
from studies.report.status import print_closing
from studies.runner.cost import estimate_cost, trim_search
from studies.runner.prepare import (
    check_warm_start,
    compare_with_record,
    define_study,
    describe_left_out,
    make_served_plan,
    prepare_study,
)
from studies.runner.strategy import Strategy, describe_used_up
from studies.runner.tune import Ending, run_trials, start_ray
from studies.study.metadata import describe_invocation, describe_study, format_clips
from studies.study.plan import Plan
from studies.study.schema import Study


def run_study(
    study: Study,
    root: Path | None,
    uri: str | None,
    address: str | None,
    progress: Progress,
    max_hours: float | None = None,
) -> Ending:
    """Run what is left of a study and print its closing table.

    Raises UserError when the study in the record asks something else, is running already, or takes too long.
    """
    CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    # Ray takes seconds to start, most of them waiting; the record opens and the data are read meanwhile.
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(start_ray, study, address)
        try:
            if address is not None:
                starting.result()  # a cluster that is not there shows before anything is computed for it
            with FileLock(CHECKPOINTS / f"{study.name}.lock", timeout=0):
                return _run_locked(study, root, Recorder(uri), progress, starting.result, max_hours)
        except Timeout:
            what = f"study {study.name} is running in another process"
            raise UserError(
                Fault(str(study.path), what, todo="wait for it, or use --name")
            ) from None
        finally:
            starting.exception()
            ray.shutdown()


def _run_locked(
    study: Study,
    root: Path | None,
    recorder: Recorder,
    progress: Progress,
    started: Callable[[], int],
    max_hours: float | None,
) -> Ending:
    check_warm_start(recorder, study)
    data = open_data(root, progress)
    plan = make_served_plan(study, data)
    strategy = compare_with_record(plan, data, recorder)
    run = recorder.find_study(study.name)
    if strategy.done and run:
        _announce(plan, data, strategy)
        told = recorder.read_json(
            run.info.run_id, "about.json"
        )  # what its file says besides may have changed
        kept = {name: told[name] for name in ("cost", "sittings") if name in told}
        recorder.log_json(run.info.run_id, "about.json", {**describe_study(plan), **kept})
        recorder.log_text(run.info.run_id, "clips_val.tsv", format_clips(data, study.base))
        if (
            run.data.tags.get("avsc.outcome") != "complete"
        ):  # the last sitting was killed after its last trial
            recorder.end_run(run.info.run_id, "complete", {})
        print_closing(recorder, study, finished=True)
        return Ending(failed=0, signal=0)
    workers = started()  # resources that are not there show before anything is computed for them
    accounts = prepare_study(plan, data, progress)
    card = estimate_cost(strategy, data, workers, progress)
    if max_hours is not None:
        asked, study = study, trim_search(study, card, max_hours)
        if asked.search and study.search and study.search.trials < asked.search.trials:
            few = f"{study.search.trials} of {asked.search.trials} trials"
            err.print(f"note: --max-hours leaves the search {few}", soft_wrap=True)
        plan = make_served_plan(study, data)
        strategy = compare_with_record(plan, data, recorder)
        card = estimate_cost(strategy, data, workers, progress)  # the probes are not repeated
    _announce(plan, data, strategy)
    err.print(make_table("what it costs", ["", "about"], card.rows()))
    tags = {
        "avsc.metric": study.metric,
        "avsc.data": data.title,
        "avsc.embedded": str(data.embedded).lower(),
    }
    parent = recorder.open_study(study.name, tags, define_study(plan, data))
    sittings = [
        *recorder.read_json(parent, "about.json").get("sittings", []),
        describe_invocation(),
    ]
    recorder.log_json(
        parent, "about.json", {**describe_study(plan), "cost": card.as_json(), "sittings": sittings}
    )
    recorder.log_text(parent, "clips_val.tsv", format_clips(data, study.base))
    if accounts:
        recorder.log_json(parent, "weights.json", accounts)
    if data.skipped:
        recorder.log_json(parent, "skipped.json", dict(data.skipped))
    outcome = "interrupted"
    try:
        ending = run_trials(plan, data, recorder, parent, strategy, workers)
        outcome = "interrupted" if ending.signal else "complete"
    finally:
        recorder.end_run(parent, outcome, {})
    for note in describe_used_up(strategy):
        err.print(note, soft_wrap=True)
    print_closing(recorder, study, finished=not ending.signal)
    return ending


def _announce(plan: Plan, data: DataSet, strategy: Strategy) -> None:
    study = plan.study
    known = f", {strategy.reused} of them in the record already" if strategy.reused else ""
    if study.search and study.search.warm_start:
        known += f", the sampler told of {strategy.warm} trials of {study.search.warm_start}"
    left = f", {len(data.skipped)} clips left out" if data.skipped else ""
    err.print(f"{study.name} on {data.title}{left}: {strategy.total} trials{known}", soft_wrap=True)
    for note in describe_left_out(plan):
        err.print(note, soft_wrap=True)
    bare = find_random_branches(study.base)
    if bare and not data.embedded:
        what = f"{' and '.join(bare)} backbone{'s' if len(bare) > 1 else ''} from random weights"
        err.print(
            f"note: {what}; the paper's start from published ones (audio.weights, visual.weights)",
            soft_wrap=True,
        )
