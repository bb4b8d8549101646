"""A checked study -> the trials it will run, each with its resolved configuration and its key.

Arms whose resolved configurations are equal are trained once and share the result. Searches come
after the arms: the study's own, then one for every arm when arms are retuned. `plan_follow_ups`
says what is trained once a search is over. The plan's definition is what the record keeps to
recognise, at the next start, whether the same question is being asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from avsc_core.config import Config
from avsc_core.metrics import rank_key
from avsc_core.record.trials import (
    ARM,
    BASE,
    FINALIST,
    OWN_SEARCH,
    REPEATED,
    RETUNED,
    SEARCH,
    name_row,
)
from avsc_core.resolve import flatten, identify, list_settings, nest, share_sections, trial_key
from search_spaces.inactive import list_active, reset_inactive, reset_inactive_settings
from search_spaces.space import Space
from studies.study.schema import BELIEVED_BELOW, Arm, Search, Study

# A completed trial: its configuration, and what the record has of it.
Completed = tuple[Config, Mapping[str, float]]


class PlannedTrial(NamedTuple):
    """One training."""

    key: str  # avsc_core.resolve.trial_key
    role: str  # why it is trained: avsc_core/record/trials.py
    arm: str  # for which row; rows that are the same training are joined by " = "
    seed: int
    config: Config
    origin: str = ""  # the key of the cheap trial of a ladder that this one repeats in full

    @property
    def search(self) -> str:
        """The name of the search that suggested it, else an empty text."""
        return self.arm if self.role == SEARCH else ""

    @property
    def label(self) -> str:
        """The name that people see, with the beginning of the key."""
        seed = f" seed {self.seed}" if self.seed else ""
        return f"{name_row(self.role, self.arm)} {self.key[:6]}{seed}"


@dataclass(frozen=True)
class PlannedSearch:
    """A sampler's search around one configuration."""

    name: str  # OWN_SEARCH, or the arm that is retuned
    base: Config
    space: Space
    trials: int
    seed: int  # of its trainings
    first: tuple[Mapping[str, Any], ...] = ()  # points to begin with

    @property
    def title(self) -> str:
        """The name that people see."""
        return name_row(SEARCH, self.name)

    @property
    def base_key(self) -> str:
        """The key of the configuration that it searches around."""
        return trial_key(reset_inactive(reseed(self.base, self.seed)))

    def make_trial(self, values: Mapping[str, Any]) -> PlannedTrial:
        """Make the training with these values of the dimensions.

        Raises ValueError when they are no valid configuration.
        """
        config = Config.model_validate(nest({**list_settings(self.base), **values}))
        return _make_trial(SEARCH, self.name, config, self.seed)

    def read_values(self, config: Config) -> dict[str, Any]:
        """Return a configuration's values of all dimensions."""
        settings = list_settings(config)
        return {key: settings[key] for key in self.space.dimensions}

    def find_point(self, config: Config) -> dict[str, Any] | None:
        """Return a configuration's values of the dimensions, or None when it lies elsewhere.

        It lies in the search when nothing but the dimensions differs from the base.
        """
        settings = list_settings(config)
        values = {key: settings[key] for key in self.space.dimensions}
        if not self.space.contains(values):
            return None
        point = self.space.present(values)

        # Equal settings have equal keys, which take longer: a search's own trials end here.
        expected = {**list_settings(self.base), **point, "seed": self.seed}
        if settings == reset_inactive_settings(expected):
            return point
        return point if trial_key(config) == self.make_trial(point).key else None


@dataclass(frozen=True)
class Plan:
    """The trials of the arms, and the searches that follow."""

    study: Study
    trials: tuple[PlannedTrial, ...]
    searches: tuple[PlannedSearch, ...] = ()
    # Arms that the data set cannot serve, each with the reason.
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def sharing(self) -> str:
        """How many trainings the rows ask for, where rows share some; else an empty text."""
        rows = len(self.study.arms) - len(self.missing)
        seeds = len(self.study.seeds)
        if rows * seeds <= len(self.trials):
            return ""
        with_seeds = f" with {seeds} seeds" if seeds > 1 else ""
        return f"{rows} rows{with_seeds} ask for {len(self.trials)} trainings"

    @property
    def definition(self) -> dict[str, Any]:
        """What the study asks, as JSON. The number of trials is left out: more are welcome."""
        study = self.study
        limit = {"until": describe_limit(study)} if study.looks else {}
        definition = {
            **limit,
            "metric": ", ".join(study.metrics),
            "seeds": list(study.seeds),
            "base": identify(study.base),
            "best_of": study.best_of and dict(zip(("study", "key"), study.best_of, strict=True)),
            "final": study.final and identify(study.final),
            "arms": {arm.name: _list_keys(arm, study.seeds) for arm in study.arms},
            "search": study.search and _define_search(study.search),
        }
        # Studies of versions without rules stay recognisable by this.
        if not study.begun_earlier:
            definition["select"] = study.rule
        return definition


def make_plan(study: Study, missing: Mapping[str, str] | None = None) -> Plan:
    """Plan a study: every arm with every seed, equal trainings once, then its searches.

    Arms that are `missing` are not run.
    """
    missing = missing or {}
    arms = [arm for arm in study.arms if arm.name not in missing]
    trials: dict[str, PlannedTrial] = {}
    for arm in arms:
        for seed in study.seeds:
            trial = _make_trial(ARM, arm.name, arm.config, seed)
            if trial.key in trials:
                trial = trial._replace(arm=f"{trials[trial.key].arm} = {arm.name}")
            trials[trial.key] = trial

    # A ladder compares its base at both rungs; this is the cheap one.
    if study.final:
        base = _make_trial(BASE, "base", study.base, study.seeds[0])
        trials.setdefault(base.key, base)

    return Plan(study, tuple(trials.values()), tuple(_plan_searches(study, arms)), missing)


def plan_follow_ups(
    plan: Plan, search: PlannedSearch, completed: Sequence[Completed]
) -> list[PlannedTrial]:
    """Plan what is trained once a search is over, given its completed trials.

    After the search of a ladder: the best few and the base, at the full rung, with every seed.
    After any other, of the study or of an arm: its best configuration with the study's other seeds,
    so that it is compared with arms that have them all.
    """
    study = plan.study
    if not completed:
        return []
    ranked = sorted(
        completed, key=lambda trial: rank_key(study.metric, trial[1], trial_key(trial[0]))
    )
    configs = [config for config, _ in ranked]
    if study.final:
        return _plan_full_rung(study, search, configs)
    if search.name == OWN_SEARCH and study.begun_earlier:
        return []
    role = REPEATED if search.name == OWN_SEARCH else RETUNED
    other_seeds = [seed for seed in study.seeds if seed != search.seed]
    return [_make_trial(role, search.name, configs[0], seed) for seed in other_seeds]


def _plan_full_rung(
    study: Study, search: PlannedSearch, ranked: Sequence[Config]
) -> list[PlannedTrial]:
    """Plan the full rung of a ladder from the ranked configurations of its cheap one."""
    if study.final is None or study.search is None:
        return []
    base_key = search.base_key
    trials = [_make_trial(BASE, "base", study.final, seed, base_key) for seed in study.seeds]

    full_settings = list_settings(study.final)
    finalists = [config for config in ranked if trial_key(config) != base_key]
    for place, config in enumerate(finalists[: study.search.finalists], start=1):
        full = Config.model_validate(nest(full_settings | search.read_values(config)))
        origin = trial_key(config)
        for seed in study.seeds:
            trials.append(_make_trial(FINALIST, f"finalist {place}", full, seed, origin))
    return trials


def reseed(config: Config, seed: int) -> Config:
    """Return `config` with another seed."""
    return config.model_copy(update={"seed": seed})


def find_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List field by field what two definitions ask differently.

    Arms and seeds may be added, not changed or dropped. The first seed stays the first, because
    the searches use it.
    """
    old_seeds = old.get("seeds", [])
    new_seeds = new.get("seeds", [])
    shared = [seed for seed in old_seeds if seed in new_seeds]
    is_superset = shared == old_seeds and old_seeds[:1] == new_seeds[:1]
    before = dict(flatten(_select_seeds(old, shared)))
    after = dict(flatten(_select_seeds(new, shared)))

    # What only follows from another difference is not listed beside it.
    consequences = ["search.space_hash"]
    if old.get("base") != new.get("base"):
        consequences.append("arms.")
    if is_superset or before.get("until") != after.get("until"):
        consequences.append("seeds")

    changes = []
    for key in dict.fromkeys([*before, *after]):
        is_new_arm = key.startswith("arms.") and key not in before
        if before.get(key) == after.get(key) or is_new_arm or key.startswith(tuple(consequences)):
            continue
        changes.append(f"{key}: {before.get(key, 'nothing')}, now {after.get(key, 'nothing')}")
    return changes


def describe_plan(plan: Plan) -> Iterator[list[str]]:
    """Yield a header, then a row for every trial of the arms and for every dimension searched."""
    yield ["trial", "key", "what differs from the base"]
    base = list_settings(plan.study.base)
    for trial in plan.trials:
        active = list_active(trial.config)
        changes = [f"{key} {value}" for key, value in active.items() if value != base[key]]
        yield [trial.arm, trial.key[:6], ", ".join(changes) or "nothing"]

    if plan.study.search:
        for key, domain in plan.study.search.space.dimensions.items():
            yield [OWN_SEARCH, "", f"{key}: {domain.describe()}"]
    for search in plan.searches:
        dimensions = len(search.space.dimensions)
        yield [search.title, "", f"{search.trials} trials over {dimensions} dimensions"]


def describe_searches(study: Study) -> str:
    """Say which seeds and searches follow the trials of the arms, as the end of a sentence."""
    words = ""
    if study.looks:
        words += f", seed after seed until the differences are told, at most {study.looks[-1]}"
    search = study.search
    if search and search.trials:
        words += f", then {search.trials} by {search.sampler} with scheduler {search.scheduler}"
    if study.retune:
        words += f", then {study.retune} for each arm"
    return words


def describe_limit(study: Study) -> str:
    """Say until when a study adds seeds."""
    return f"told at level {BELIEVED_BELOW}, at most {study.looks[-1]} seeds"


def _select_seeds(definition: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """Return a definition whose arms have only the keys of some of its seeds."""
    places = [definition["seeds"].index(seed) for seed in seeds]
    arms = {}
    for name, keys in definition.get("arms", {}).items():
        arms[name] = [keys[place] for place in places]
    return {**definition, "arms": arms}


def _list_keys(arm: Arm, seeds: Sequence[int]) -> list[str]:
    return [trial_key(reseed(arm.config, seed)) for seed in seeds]


def _define_search(search: Search) -> dict[str, Any]:
    return {
        "space": search.space.as_json(),
        "space_hash": search.space.hash(),
        "sampler": search.sampler,
        "scheduler": search.scheduler,
        "grace_epochs": search.grace_epochs,
        "reduction_factor": search.reduction_factor,
        "seed": search.seed,
        "warm_start": search.warm_start,
    }


def _plan_searches(study: Study, arms: Sequence[Arm]) -> Iterator[PlannedSearch]:
    """Yield the study's own search, then one for every arm that is retuned, equal arms once."""
    search = study.search
    seed = study.seeds[0]
    if search is None:
        return
    if search.trials:
        yield PlannedSearch(OWN_SEARCH, study.base, search.space, search.trials, seed, search.first)
    if not study.retune:
        return
    seen = set()
    for arm in arms:
        space = search.space.within(arm.config, arm.settled)
        key = trial_key(reseed(arm.config, seed))
        if space.dimensions and key not in seen:
            seen.add(key)
            first = _place_first_points(search, arm, space)
            yield PlannedSearch(arm.name, arm.config, space, study.retune, seed, first)


def _place_first_points(search: Search, arm: Arm, space: Space) -> tuple[Mapping[str, Any], ...]:
    """Return the search's known good points in the space around an arm.

    Dimensions that a point does not mention keep the arm's value.
    """
    settings = list_settings(arm.config)
    points = []
    for known in search.first:
        values = {key: known.get(key, settings[key]) for key in space.dimensions}
        point = space.present(values)
        if space.contains(point):
            points.append(point)
    return tuple(points)


def _make_trial(role: str, arm: str, config: Config, seed: int, origin: str = "") -> PlannedTrial:
    settled = share_sections(reset_inactive(reseed(config, seed)))
    return PlannedTrial(trial_key(settled), role, arm, seed, settled, origin)
