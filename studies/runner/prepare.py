"""What must hold before the first trial: the data can serve the plan, the record asks the same
question, and features, pretrained weights and encodings of frozen encoders are ready.

All configurations that a study can ask for are looked at here, so that no trial meets anything for
the first time: what takes long is done once, with progress, and what does not fit is reported
before anything runs.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

from avsc_core.config import Config, PseudoLabels
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.data.features import build_features
from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.labels import check_coarse
from avsc_core.processes import Progress
from avsc_core.record.reading.record import Record
from avsc_core.record.trials import TrialRecord
from avsc_core.resolve import find_weights, identify
from avsc_core.weights.preparation import choose_pictures
from search_spaces.domains import Choice
from studies.engine.strategy import Strategy
from studies.runner.takeover import find_elsewhere
from studies.study.metadata import CLIPS, format_clips
from studies.study.plan import Plan, find_changes, make_plan
from studies.study.schema import Study

# Dimensions whose values need other features, or may not suit a backbone.
INPUT_DIMENSIONS = (
    "log_mel.window",
    "log_mel.normalise",
    "audio.pieces",
    "audio.freeze",
    "visual.freeze",
)

# Parts of a configuration that decide its features, and those that decide whether its encoders
# and their pretrained weights fit.
FEATURE_PARTS = (
    "modality",
    "media",
    "log_mel",
    "pictures",
    "pseudo",
    "audio.encodings",
    "visual.encodings",
)
ENCODER_PARTS = (
    "modality",
    "audio",
    "visual",
    "log_mel",
    "pictures",
    "compute",
    "training.precision",
)

# The paper's backbones; any other is checked against timm before a study runs.
PAPER_BACKBONES = {"audio": "ast", "visual": "convnext"}


def make_served_plan(study: Study, data: DataSet) -> Plan:
    """Plan a study on this data set, without the arms that the data set cannot serve.

    Settings that read teachers' probabilities in another way need labels that come from teachers.
    Raises UserError when a search has such dimensions, or no arm can be served; and when a
    configuration has a head for coarse classes that the scenes do not have.
    """
    if _has_coarse_head(study):
        check_coarse(data.scene_names, data.title)
    if data.scores:
        return make_plan(study)
    why = f"{data.title} has true labels, no teachers' probabilities to read otherwise"

    dimensions = study.search.space.dimensions if study.search else {}
    searched = [key for key in dimensions if key.startswith("pseudo.")]
    if searched:
        where = study.source_lines.where("search", "space", searched[0])
        todo = "leave it out, or run `avsc-core pseudo`"
        raise UserError(Fault(where, f"{', '.join(searched)} cannot be searched", why, todo))

    # With all arms missing nothing would be left; then building features reports the fault.
    missing = {arm.name: why for arm in study.arms if arm.config.pseudo != PseudoLabels()}
    return make_plan(study, missing if len(missing) < len(study.arms) else {})


def _has_coarse_head(study: Study) -> bool:
    """Tell whether a configuration of the study has a coarse head, or its search may."""
    configs = [study.base, *(arm.config for arm in study.arms)]
    if study.final:
        configs.append(study.final)
    searched = study.search.space.dimensions if study.search else {}
    return "losses.coarse" in searched or any(config.losses.coarse for config in configs)


def describe_missing_arms(plan: Plan) -> list[str]:
    """Describe the arms that the data set cannot serve, a line each."""
    return [f"note: arm {name} is left out: {why}" for name, why in plan.missing.items()]


def take_recorded_seeds(study: Study, recorder: Record) -> Study:
    """Return the study with the seeds that were added earlier, if it adds seeds until told."""
    run = recorder.find_study(study.name)
    recorded = recorder.read_definition(run.run_id) if run else {}
    if not study.looks or "until" not in recorded:
        return study
    return study.with_seeds(max(len(study.seeds), len(recorded["seeds"])))


def check_warm_start(recorder: Record, study: Study) -> None:
    """Check that the study for a warm start is in the record, and selects epochs in the same way.

    The figures of a trial are of the epochs that its study selects, by a rule and a metric; those
    of studies that select otherwise are not comparable. Raises UserError.
    """
    if study.search is None or study.search.warm_start is None:
        return
    where = study.source_lines.where("search", "warm_start")
    run = recorder.get_study(study.search.warm_start, where)
    metric = run.tags.get("avsc.metric", study.metric)
    if metric != study.metric:
        what = f"study {study.search.warm_start} is decided by {metric}, this one by {study.metric}"
        todo = "set the same metric, or leave warm_start out"
        raise UserError(Fault(where, what, todo=todo))

    # Studies of versions without rules count with the best epoch, this one too if it is one.
    own_rule = _note_beginning(study, _read_recorded_definition(recorder, study)).rule
    rule = recorder.read_definition(run.run_id).get("select", "best")
    if rule != own_rule:
        what = f"study {study.search.warm_start} selects {rule}, this one {own_rule}"
        todo = f"set select: {rule}, or leave warm_start out"
        raise UserError(Fault(where, what, todo=todo))


def compare_with_record(
    plan: Plan, data: DataSet, recorder: Record, again: bool = False
) -> Strategy:
    """Combine the plan with what the record knows of it, and with what other studies have trained.

    The plan of the strategy is that of the study as it was begun. With `again` nothing is taken
    over, and what was taken over before is planned anew. Raises UserError when the study in the
    record asks something else.
    """
    study = _note_beginning(plan.study, _read_recorded_definition(recorder, plan.study))
    plan = replace(plan, study=study)
    trials = recorder.list_trials(study.name)
    check_same_question(recorder, study, define_study(plan, data), trials)
    check_same_clips(recorder, study, data)
    if again:
        trials = [trial for trial in trials if not trial.taken_from]
    elsewhere = {} if again else find_elsewhere(plan, data, recorder)
    return Strategy(plan, trials, _list_warm_start_trials(recorder, study, data), elsewhere)


def define_study(plan: Plan, data: DataSet) -> dict[str, Any]:
    """Define what a study asks and of which data, as the record keeps it."""
    return {**plan.definition, "data": data.fingerprint}


def check_same_question(
    recorder: Record, study: Study, definition: Mapping[str, Any], trials: list[TrialRecord]
) -> None:
    """Refuse to mix trials that answer different questions in one study. Raises UserError."""
    recorded = _read_recorded_definition(recorder, study)
    if not recorded and not trials:
        return
    # Versions without rules selected the best epoch.
    before = {"select": "best", **recorded} if recorded else {}
    faults = []
    for change in find_changes(before, {**definition, "select": study.rule}):
        what = f"study {study.name} is in the record with {change}"
        todo = "use --name for a new study, or undo the change"
        faults.append(Fault(str(study.path), what, todo=todo))
    if faults:
        raise UserError(faults)


def check_same_clips(recorder: Record, study: Study, data: DataSet) -> None:
    """Refuse to mix trials that were validated on different clips. Raises UserError.

    Earlier versions drew the split of groups that several scenes share in another way.
    """
    run = recorder.find_study(study.name)
    if run is None or not recorder.has_artifact(run.run_id, CLIPS):
        return
    recorded = recorder.read_lines(run.run_id, CLIPS)
    if recorded != format_clips(data, study.base).splitlines():
        what = f"study {study.name} is in the record with other validation clips"
        why = "another version drew its split of these groups"
        raise UserError(Fault(str(study.path), what, why, "use --name for a new study"))


def prepare_study(plan: Plan, data: DataSet, progress: Progress) -> list[dict[str, Any]]:
    """Build features, check backbones, weights and encodings from elsewhere, run frozen encoders.

    Returns what became of each tensor of pretrained weights. Raises UserError with every misfit.
    """
    configs = list(list_configurations(plan))
    for config in configs:
        split_rows(data, config.split)  # a fault shows before anything is computed

    # Features of every clip, once for each way to compute them.
    features = {}
    for key, config in _select_distinct(configs, FEATURE_PARTS).items():
        features[key] = build_features(data, config, progress)

    # Only configurations with pretrained or frozen encoders cost this process an import of torch.
    by_encoder = _select_distinct(filter(_needs_torch, configs), ENCODER_PARTS)
    if not by_encoder:
        return []
    from avsc_core.trainer.frozen import load_given_encodings, prepare_inputs
    from avsc_core.weights.pretrained import check_pretrained

    # Weights and encodings that do not fit are reported all at once.
    faults: list[Fault] = []
    accounts: list[str] = []
    for config in by_encoder.values():
        with collect_faults(faults):
            load_given_encodings(config, data)
            accounts += [json.dumps(account._asdict()) for account in check_pretrained(config)]
    if faults:
        raise UserError(dict.fromkeys(faults))

    # Encodings of frozen encoders, which all trials share.
    for config in by_encoder.values():
        training_rows = split_rows(data, config.split).train
        config_features = features[_dump_parts(config, FEATURE_PARTS)]
        prepare_inputs(config, config_features, training_rows, progress)
    return [json.loads(account) for account in dict.fromkeys(accounts)]


def _read_recorded_definition(recorder: Record, study: Study) -> dict[str, Any]:
    """Read what the study in the record asks; empty when there is none."""
    run = recorder.find_study(study.name)
    return recorder.read_definition(run.run_id) if run else {}


def _note_beginning(study: Study, recorded: Mapping[str, Any]) -> Study:
    """Return the study, marked when a version without rules of selection recorded it."""
    return replace(study, begun_earlier=bool(recorded) and "select" not in recorded)


def _list_warm_start_trials(recorder: Record, study: Study, data: DataSet) -> list[TrialRecord]:
    """List the trials of the study for a warm start that saw the same data."""
    if study.search is None or study.search.warm_start is None:
        return []
    trials = recorder.list_trials(study.search.warm_start)
    return [trial for trial in trials if trial.tags["avsc.data_fingerprint"] == data.fingerprint]


def list_configurations(plan: Plan) -> Iterator[Config]:
    """Yield the configurations of arms and ladder, and of searches those with other inputs."""
    for trial in plan.trials:
        yield trial.config
    yield plan.study.base
    if plan.study.final:
        yield plan.study.final

    for search in plan.searches:
        choices = {}
        for key, domain in search.space.dimensions.items():
            if key in INPUT_DIMENSIONS and isinstance(domain, Choice):
                choices[key] = domain
        for combination in product(*(domain.values for domain in choices.values())):
            values = dict(zip(choices, combination, strict=True))
            # What a rule across settings forbids is never trained (`Strategy`).
            with suppress(ValueError):
                yield search.make_trial(values).config


def _needs_torch(config: Config) -> bool:
    """Tell whether a configuration has encoders that are checked or run before its trials."""
    for branch, backbone in PAPER_BACKBONES.items():
        settings = getattr(config, branch)
        is_papers = settings.backbone == backbone and settings.freeze == "none"
        if not is_papers or settings.encodings:
            return True
    return bool(find_weights(config))


def _select_distinct(configs: Iterable[Config], names: Iterable[str]) -> dict[str, Config]:
    """Select one of the configurations whose parts `names` are equal, by the text of these."""
    return {_dump_parts(config, names): config for config in configs}


def _dump_parts(config: Config, names: Iterable[str]) -> str:
    """Dump some parts of a configuration's identity, pictures as they are prepared, as text."""
    settings = identify(config)
    settings["pictures"] = choose_pictures(config).model_dump()
    settings["compute"] = config.compute.model_dump()
    parts = []
    for name in names:
        section, _, field = name.partition(".")
        # A field that came later and is at its default has no place in the identity.
        parts.append(settings[section].get(field) if field else settings[section])
    return json.dumps(parts)
