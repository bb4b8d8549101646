"""A checked study -> the trials it will run, each with its resolved configuration and its key.

Arms whose resolved configurations are equal are run once and share the result. Searches come after them: the study's
own, then one for every arm when it is retuned; what a search hands on when it is over is `handed_on`. The plan's
definition is what the record keeps to tell, at the next start, whether the same question is being asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from avsc_core.config import Config
from avsc_core.metrics import rank_key
from avsc_core.resolve import flatten, identify, nest, trial_key
from search_spaces.space import Space, list_active, reset_inactive
from studies.study.schema import SEARCH_ARM, Arm, Search, Study

RETUNED = "{} retuned"  # the row of an arm with the best settings of its own search
PUBLISHED_ARM = "published configuration"  # the base at the upper rung of a ladder

Complete = tuple[
    Config, Mapping[str, float]
]  # a trial that ran to its end, with what the record has of it


class PlannedTrial(NamedTuple):
    """One training."""

    key: str  # avsc_core.config.trial_key
    arm: str  # its row; several rows joined by " = " when they are the same; a search's name for the sampler's
    seed: int
    config: Config
    search: str = ""  # the search that asked for it
    origin: str = ""  # the trial of a ladder's lower rung that it repeats in full

    @property
    def label(self) -> str:
        """What people see."""
        return f"{self.arm} {self.key[:6]}" + (f" seed {self.seed}" if self.seed else "")


@dataclass(frozen=True)
class PlannedSearch:
    """A sampler's search around one configuration."""

    name: str  # "search", or "search: ARM"
    base: Config
    space: Space
    trials: int
    seed: int  # of its trainings
    first: tuple[Mapping[str, Any], ...] = ()

    @property
    def base_key(self) -> str:
        """Of the configuration that it searches around."""
        return trial_key(reset_inactive(reseed(self.base, self.seed)))

    def trial(self, values: Mapping[str, Any]) -> PlannedTrial:
        """The training with these values of the dimensions. Raises ValueError when there is none."""
        settings = dict(flatten(self.base.model_dump())) | dict(values) | {"seed": self.seed}
        config = reset_inactive(Config.model_validate(nest(settings)))
        return PlannedTrial(trial_key(config), self.name, self.seed, config, self.name)

    def point(self, config: Config) -> dict[str, Any] | None:
        """A configuration's values of the dimensions, or None when it is no trial of this search."""
        settings = dict(flatten(config.model_dump()))
        values = {key: settings[key] for key in self.space.dimensions}
        own = (
            self.space.contains(values)
            and trial_key(config) == self.trial(self.space.present(values)).key
        )
        return self.space.present(values) if own else None


@dataclass(frozen=True)
class Plan:
    """The trials of the arms, and the searches that follow."""

    study: Study
    trials: tuple[PlannedTrial, ...]
    searches: tuple[PlannedSearch, ...] = ()
    missing: Mapping[str, str] = field(
        default_factory=dict
    )  # arms that the data cannot serve, and why

    @property
    def definition(self) -> dict[str, Any]:
        """What the study asks, as JSON; the number of trials is left out, because more are welcome."""
        study, search = self.study, self.study.search
        return {
            "metric": ", ".join(study.metrics),
            "seeds": list(study.seeds),
            "base": identify(study.base),
            "best_of": study.best_of and {"study": study.best_of[0], "key": study.best_of[1]},
            "final": study.final and identify(study.final),
            "arms": {
                arm.name: [trial_key(reseed(arm.config, seed)) for seed in study.seeds]
                for arm in study.arms
            },
            "search": search
            and {
                "space": search.space.as_json(),
                "space_hash": search.space.hash(),
                "sampler": search.sampler,
                "scheduler": search.scheduler,
                "grace_epochs": search.grace_epochs,
                "reduction_factor": search.reduction_factor,
                "seed": search.seed,
                "warm_start": search.warm_start,
            },
        }


def make_plan(study: Study, missing: Mapping[str, str] | None = None) -> Plan:
    """The plan of a study: arms x seeds, equal ones once; its searches. Arms that are `missing` are not run."""
    trials: dict[str, PlannedTrial] = {}
    missing = missing or {}
    arms = [arm for arm in study.arms if arm.name not in missing]
    for arm in arms:
        for seed in study.seeds:
            config = reseed(arm.config, seed)
            key = trial_key(config)
            name = f"{trials[key].arm} = {arm.name}" if key in trials else arm.name
            trials[key] = PlannedTrial(key, name, seed, config)
    if study.final:  # what is published is compared at both rungs
        base = _trial("base", study.base, study.seeds[0])
        trials.setdefault(base.key, base)
    return Plan(study, tuple(trials.values()), tuple(_searches(study, arms)), missing)


def reseed(config: Config, seed: int) -> Config:
    """`config` with another seed."""
    return config.model_copy(update={"seed": seed})


def is_search(arm: str) -> bool:
    """Whether trials of this name were asked for by a sampler."""
    return arm == SEARCH_ARM or arm.startswith(f"{SEARCH_ARM}: ")


def search_of(arm: str) -> str:
    """The name of an arm's own search."""
    return f"{SEARCH_ARM}: {arm}"


def plan_follow_ups(
    plan: Plan, search: PlannedSearch, complete: Sequence[Complete]
) -> list[PlannedTrial]:
    """What is trained once a search is over, given its complete trials.

    An arm's own search: its best configuration with the study's other seeds. A ladder: the best few and the base, both
    at the upper rung, with every seed.
    """
    study = plan.study

    ranked = [
        config
        for config, _ in sorted(
            complete, key=lambda it: rank_key(study.metric, it[1], trial_key(it[0]))
        )
    ]
    if search.name != SEARCH_ARM:
        name = RETUNED.format(search.name.removeprefix(f"{SEARCH_ARM}: "))
        return [
            _trial(name, config, seed)
            for config in ranked[:1]
            for seed in study.seeds
            if seed != search.seed
        ]
    if study.final is None or study.search is None or not ranked:
        return []
    upper = dict(flatten(study.final.model_dump()))
    below = search.base_key
    made = [_trial(PUBLISHED_ARM, study.final, seed, below) for seed in study.seeds]
    others = [config for config in ranked if trial_key(config) != below]
    for place, config in enumerate(others[: study.search.finalists], start=1):
        lower = dict(flatten(config.model_dump()))
        values = {key: lower[key] for key in search.space.dimensions}
        whole = reset_inactive(Config.model_validate(nest(upper | values)))
        made += [
            _trial(f"finalist {place}", whole, seed, trial_key(config)) for seed in study.seeds
        ]
    return made


def find_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Field by field what two definitions ask differently; arms may be added, not changed or dropped."""
    before, after = dict(flatten(old)), dict(flatten(new))
    changed = []
    # What only follows from something else is not told beside it.
    follows = ("search.space_hash", *(("arms.",) if old.get("base") != new.get("base") else ()))
    for key in [*before, *(key for key in after if key not in before)]:
        added = key.startswith("arms.") and key not in before
        if before.get(key) != after.get(key) and not added and not key.startswith(follows):
            changed.append(f"{key}: {_shown(before, key)}, now {_shown(after, key)}")
    return changed


def describe_plan(plan: Plan) -> Iterator[list[str]]:
    """A header and one row for every trial of the arms and every dimension of the search."""
    yield ["trial", "key", "what differs from the base"]
    base = dict(flatten(plan.study.base.model_dump(mode="json")))
    for trial in plan.trials:
        own = [
            f"{key} {value}"
            for key, value in list_active(trial.config).items()
            if value != base[key]
        ]
        yield [trial.arm, trial.key[:6], ", ".join(own) or "nothing"]
    search = plan.study.search
    for key, domain in search.space.dimensions.items() if search else ():
        yield [SEARCH_ARM, "", f"{key}: {domain.describe()}"]
    for own_search in plan.searches:
        yield [
            own_search.name,
            "",
            f"{own_search.trials} trials over {len(own_search.space.dimensions)} dimensions",
        ]


def _searches(study: Study, arms: Sequence[Arm]) -> Iterator[PlannedSearch]:
    search, seed = study.search, study.seeds[0]
    if search is None:
        return
    if search.trials:
        yield PlannedSearch(SEARCH_ARM, study.base, search.space, search.trials, seed, search.first)
    seen = set()
    for arm in arms if study.retune else ():
        space, key = (
            search.space.within(arm.config, arm.settled),
            trial_key(reseed(arm.config, seed)),
        )
        if space.dimensions and key not in seen:
            seen.add(key)
            yield PlannedSearch(
                search_of(arm.name),
                arm.config,
                space,
                study.retune,
                seed,
                _first(search, arm, space),
            )


def _first(search: Search, arm: Arm, space: Space) -> tuple[Mapping[str, Any], ...]:
    """The search's known good points, in the space around an arm; what they do not say stands as in the arm."""
    own = dict(flatten(arm.config.model_dump()))
    points = [
        space.present({key: point.get(key, own[key]) for key in space.dimensions})
        for point in search.first
    ]
    return tuple(point for point in points if space.contains(point))


def _trial(arm: str, config: Config, seed: int, origin: str = "") -> PlannedTrial:
    own = reset_inactive(reseed(config, seed))
    return PlannedTrial(trial_key(own), arm, seed, own, origin=origin)


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return str(settings[key]) if key in settings else "nothing"
