"""What must be there before the first trial: a plan that the data can serve and the record does not contradict,
features of every clip, backbones and weights that fit, frozen encoders.

All configurations a study can ask for are looked at, so that no trial meets anything for the first time: what takes
long is done once here, with progress, and what does not fit is told before anything runs.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

from avsc_core.config import Config, PseudoLabels
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.data.features import Features, build_features
from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.processes import Progress
from avsc_core.record.recorder import Recorder, TrialRecord
from avsc_core.resolve import find_weights, identify
from search_spaces.domains import Choice
from studies.runner.strategy import Strategy
from studies.study.plan import Plan, find_changes, make_plan
from studies.study.schema import Study

# dimensions whose values ask for other features, or may not suit a backbone
OF_INPUTS = ("log_mel.window", "log_mel.normalise", "audio.freeze", "visual.freeze")
OF_FEATURES = ("media", "log_mel", "pictures", "pseudo")
OURS = {"audio": "ast", "visual": "convnext"}


def make_served_plan(study: Study, data: DataSet) -> Plan:
    """The plan of a study on this data set: what varies a reading of teachers needs labels from teachers.

    Arms that cannot be served are left out. Raises UserError when a search has such dimensions.
    """
    why = f"{data.title} has true labels, no teachers' probabilities to read otherwise"
    searched = (
        [key for key in study.search.space.dimensions if key.startswith("pseudo.")]
        if study.search
        else []
    )
    if searched and not data.scores:
        where = study.source_lines.where("search", "space", searched[0])
        what = f"{', '.join(searched)} cannot be searched"
        raise UserError(Fault(where, what, why, "leave it out, or run `avsc-core pseudo`"))
    needing = [arm for arm in study.arms if arm.config.pseudo != PseudoLabels() and not data.scores]
    return make_plan(
        study, {arm.name: why for arm in needing} if len(needing) < len(study.arms) else {}
    )


def describe_left_out(plan: Plan) -> list[str]:
    """What people are told of the arms that the data cannot serve."""
    return [f"note: arm {name} is left out: {why}" for name, why in plan.missing.items()]


def check_warm_start(recorder: Recorder, study: Study) -> None:
    """The study that a search starts warm from is in the record. Raises UserError."""
    if study.search and study.search.warm_start:
        recorder.get_study(
            study.search.warm_start, study.source_lines.where("search", "warm_start")
        )


def compare_with_record(plan: Plan, data: DataSet, recorder: Recorder) -> Strategy:
    """The plan with what the record knows of it. Raises UserError when the study there asks something else."""
    study = plan.study
    check_same(recorder, study, define_study(plan, data))
    return Strategy(plan, recorder.list_trials(study.name), _earlier(recorder, study, data))


def define_study(plan: Plan, data: DataSet) -> dict[str, Any]:
    """What a study asks, and of which data: the record keeps it to know the question again."""
    return {**plan.definition, "data": data.fingerprint}


def check_same(recorder: Recorder, study: Study, definition: dict[str, Any]) -> None:
    """Refuse to mix trials that answer different questions in one study."""
    run = recorder.find_study(study.name)
    asked = recorder.read_definition(run.info.run_id) if run else {}
    changed = find_changes(asked, definition) if asked or recorder.list_trials(study.name) else []
    if changed:
        where, todo = str(study.path), "use --name for a new study, or undo the change"
        raise UserError(
            [
                Fault(where, f"study {study.name} is in the record with {line}", todo=todo)
                for line in changed
            ]
        )


def prepare_study(plan: Plan, data: DataSet, progress: Progress) -> list[dict[str, Any]]:
    """Build features, check backbones and weights, run frozen encoders. Returns what became of each tensor.

    Raises UserError with every misfit. Only configurations that ask for it cost the driver an import of torch.
    """
    asked = list(_configurations(plan))
    for config in asked:
        split_rows(data, config.split)  # a fault shows before anything runs
    made: dict[str, Features] = {}
    for key, config in _distinct(asked, lambda config: _parts(config, *OF_FEATURES)).items():
        made[key] = build_features(data, config, progress)
    special = [config for config in asked if _needs_torch(config)]
    needs = ("modality", "audio", "visual", "log_mel", "pictures", "training.precision")
    distinct = _distinct(special, lambda config: _parts(config, *needs)).values()
    if not distinct:
        return []
    from avsc_core.trainer.frozen import prepare_inputs
    from avsc_core.weights.pretrained import check_pretrained

    faults, accounts = list[Fault](), list[dict[str, Any]]()
    for config in distinct:
        with collect_faults(faults):
            accounts += [account._asdict() for account in check_pretrained(config)]
    if faults:
        raise UserError(dict.fromkeys(faults))
    for config in distinct:
        features = made[_parts(config, *OF_FEATURES)]
        prepare_inputs(config, features, split_rows(data, config.split).train, progress)
    return [json.loads(account) for account in dict.fromkeys(map(json.dumps, accounts))]


def _earlier(recorder: Recorder, study: Study, data: DataSet) -> list[TrialRecord]:
    """The trials of the study that the search starts warm from, as far as they saw the same data."""
    name = study.search.warm_start if study.search else None
    trials = recorder.list_trials(name) if name else []
    return [trial for trial in trials if trial.tags["avsc.data_fingerprint"] == data.fingerprint]


def _configurations(plan: Plan) -> Iterator[Config]:
    """Every configuration of the arms and the ladder, and those of the searches that have inputs of their own."""
    yield from (trial.config for trial in plan.trials)
    yield plan.study.base
    if plan.study.final:
        yield plan.study.final
    for search in plan.searches:
        choices = {
            key: domain for key, domain in search.space.dimensions.items() if key in OF_INPUTS
        }
        values = [domain.values for domain in choices.values() if isinstance(domain, Choice)]
        for combination in product(*values):
            yield search.trial(dict(zip(choices, combination, strict=True))).config


def _needs_torch(config: Config) -> bool:
    own = any(
        getattr(config, name).backbone != OURS[name] or getattr(config, name).freeze != "none"
        for name in OURS
    )
    return own or bool(find_weights(config))


def _distinct(configs: Iterable[Config], key: Callable[[Config], str]) -> dict[str, Config]:
    """One configuration of each kind."""
    return {key(config): config for config in configs}


def _parts(config: Config, *names: str) -> str:
    """Some of a configuration's identity, as text."""
    own = identify(config)
    picked = []
    for name in names:
        section, _, field = name.partition(".")
        picked.append(own[section][field] if field else own[section])
    return json.dumps(picked)
