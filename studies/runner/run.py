"""One sitting of a study, from the checked file to the closing table.

Data and features are prepared and the record is compared before the first trial: a study that is in the record already
continues when it asks the same question and is refused with the differences when it does not.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout

from avsc_core.config import identity, random_branches, weights_of
from avsc_core.data.cache import Features, build_features, open_data
from avsc_core.data.dataset import DataSet, split_parts
from avsc_core.errors import Fault, UserError, gathered
from avsc_core.processes import Progress
from avsc_core.terminal import err
from avsc_core.trainer.recorder import CHECKPOINTS, Recorder
from search_spaces.domains import Choice
from studies.runner.plan import Plan, differences, make_plan, searched_trial
from studies.runner.results import print_closing
from studies.runner.schema import Study
from studies.runner.strategy import Strategy
from studies.runner.tune import Ending, run_trials, start_ray


def run_study(study: Study, root: Path | None, uri: str | None, address: str | None, progress: Progress) -> Ending:
    """Run what is left of a study and print its closing table.

    Raises UserError when the study in the record asks something else, or is running already.
    """
    plan = make_plan(study)
    CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    # Ray takes seconds to start, most of them waiting; the record opens and the data are read meanwhile.
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(start_ray, study, address)
        try:
            with FileLock(CHECKPOINTS / f"{study.name}.lock", timeout=0):
                return _run_locked(plan, root, Recorder(uri), progress, starting.result)
        except Timeout:
            what = f"study {study.name} is running in another process"
            raise UserError(Fault(str(study.path), what, todo="wait for it, or use --name")) from None
        finally:
            starting.exception()
            ray.shutdown()


def _run_locked(
    plan: Plan, root: Path | None, recorder: Recorder, progress: Progress, started: Callable[[], int]
) -> Ending:
    study = plan.study
    data = open_data(root, progress)
    split_parts(data, study.base.split)  # a fault shows before anything runs
    definition = {**plan.definition, "data": data.fingerprint}
    _check_same(recorder, study, definition)
    features = build_features(data, study.base, progress)
    accounts = _prepare_models(plan, features, progress)
    strategy = Strategy(plan, recorder.trials(study.name))
    _announce(study, data, strategy)
    if strategy.done:
        print_closing(recorder, study)
        return Ending(failed=0, signal=0)
    workers = started()
    parent = recorder.open_study(study.name, {"avsc.metric": study.metric, "avsc.data": data.title}, definition)
    if accounts:
        recorder.document(parent, "weights.json", accounts)
    if data.skipped:
        recorder.document(parent, "skipped.json", dict(data.skipped))
    outcome = "interrupted"
    try:
        ending = run_trials(study, data, recorder, parent, strategy, workers)
        outcome = "interrupted" if ending.signal else "complete"
    finally:
        recorder.end(parent, outcome, {})
    print_closing(recorder, study)
    return ending


def _prepare_models(plan: Plan, features: Features, progress: Progress) -> list[dict[str, Any]]:
    """Check backbones and pretrained weights of all arms, run frozen encoders; returns what became of each tensor.

    Only configurations that ask for any of it cost the driver an import of torch.
    """
    base = plan.study.base
    asked = [trial.config for trial in plan.trials]
    if plan.study.search:
        asked.append(base)
        for key in ("audio.freeze", "visual.freeze"):  # the dimensions whose values a backbone may not have
            domain = plan.study.search.space.dimensions.get(key)
            values = domain.values if isinstance(domain, Choice) else ()
            asked += [searched_trial(plan, {key: value}).config for value in values]
    ours = {"audio": "ast", "visual": "convnext"}
    special = {
        json.dumps([identity(config)[part] for part in ("modality", "audio", "visual", "log_mel", "pictures")]): config
        for config in asked
        if weights_of(config)
        or any(getattr(config, name).backbone != ours[name] or getattr(config, name).freeze != "none" for name in ours)
    }
    if not special:
        return []
    from avsc_core.model.pretrained import check_pretrained
    from avsc_core.trainer.frozen import prepare

    faults, accounts = list[Fault](), list[dict[str, Any]]()
    for config in special.values():
        with gathered(faults):
            accounts += [account._asdict() for account in check_pretrained(config)]
    if faults:
        raise UserError(dict.fromkeys(faults))
    parts = split_parts(features.data, base.split)
    for config in special.values():
        prepare(config, features, parts.train, progress)
    return accounts


def _check_same(recorder: Recorder, study: Study, definition: dict[str, object]) -> None:
    """Refuse to mix trials that answer different questions in one study."""
    run = recorder.find_study(study.name)
    if run is None:
        return
    changed = differences(recorder.definition(run.info.run_id), definition)
    if changed:
        where, todo = str(study.path), "use --name for a new study, or undo the change"
        raise UserError(
            [Fault(where, f"study {study.name} is in the record with {line}", todo=todo) for line in changed]
        )


def _announce(study: Study, data: DataSet, strategy: Strategy) -> None:
    known = f", {strategy.reused} of them in the record already" if strategy.reused else ""
    left = f", {len(data.skipped)} clips left out" if data.skipped else ""
    err.print(f"{study.name} on {data.title}{left}: {strategy.total} trials{known}", soft_wrap=True)
    bare = random_branches(study.base)
    if bare and not data.embedded:
        what = f"{' and '.join(bare)} backbone{'s' if len(bare) > 1 else ''} from random weights"
        err.print(
            f"note: {what}; the paper's start from published ones (audio.weights, visual.weights)", soft_wrap=True
        )
