"""A checked study -> the trials it will run, each with its resolved configuration and its key.

Arms whose resolved configurations are equal are run once and share the result. The plan's definition is what the record
keeps to tell, at the next start, whether the same question is being asked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from avsc_core.config import Config, flatten, identity, nest, trial_key
from search_spaces.space import Space
from studies.runner.schema import SEARCH_ARM, Study


class PlannedTrial(NamedTuple):
    """One training."""

    key: str  # avsc_core.config.trial_key
    arm: str  # its row; several rows joined by " = " when they are the same; "search" for the sampler's
    seed: int
    config: Config

    @property
    def label(self) -> str:
        """What people see."""
        return f"{self.arm} {self.key[:6]}" + (f" seed {self.seed}" if self.seed else "")


@dataclass(frozen=True)
class Plan:
    """The trials of the arms, and the study that the search belongs to."""

    study: Study
    trials: tuple[PlannedTrial, ...]

    @property
    def definition(self) -> dict[str, Any]:
        """What the study asks, as JSON; the number of trials is left out, because more are welcome."""
        study, search = self.study, self.study.search
        return {
            "metric": study.metric,
            "seeds": list(study.seeds),
            "base": identity(study.base),
            "arms": {arm.name: [trial_key(seeded(arm.config, seed)) for seed in study.seeds] for arm in study.arms},
            "search": search
            and {
                "space": search.space.as_json(),
                "space_hash": search.space.hash(),
                "sampler": search.sampler,
                "scheduler": search.scheduler,
                "grace_epochs": search.grace_epochs,
                "reduction_factor": search.reduction_factor,
                "seed": search.seed,
            },
        }


def make_plan(study: Study) -> Plan:
    """The plan of a study: arms x seeds, equal ones once."""
    trials: dict[str, PlannedTrial] = {}
    for arm in study.arms:
        for seed in study.seeds:
            config = seeded(arm.config, seed)
            key = trial_key(config)
            name = f"{trials[key].arm} = {arm.name}" if key in trials else arm.name
            trials[key] = PlannedTrial(key, name, seed, config)
    return Plan(study, tuple(trials.values()))


def seeded(config: Config, seed: int) -> Config:
    """`config` with another seed."""
    return config.model_copy(update={"seed": seed})


def searched_trial(plan: Plan, values: Mapping[str, Any]) -> PlannedTrial:
    """The trial of the search with these values of its dimensions."""
    settings = dict(flatten(plan.study.base.model_dump())) | dict(values) | {"seed": plan.study.seeds[0]}
    config = Config.model_validate(nest(settings))
    return PlannedTrial(trial_key(config), SEARCH_ARM, config.seed, config)


def values_in(space: Space, config: Config) -> dict[str, Any] | None:
    """A configuration's values of the space's dimensions, or None when it lies outside."""
    settings = dict(flatten(config.model_dump()))
    values = {key: settings[key] for key in space.dimensions}
    return values if space.contains(values) else None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Field by field what two definitions ask differently; arms may be added, not changed or dropped."""
    before, after = dict(flatten(old)), dict(flatten(new))
    changed = []
    for key in [*before, *(key for key in after if key not in before)]:
        added = key.startswith("arms.") and key not in before
        if before.get(key) != after.get(key) and not added:
            changed.append(f"{key}: {_shown(before, key)}, now {_shown(after, key)}")
    return changed


def describe(plan: Plan) -> Iterator[list[str]]:
    """A header and one row for every trial of the arms and every dimension of the search."""
    yield ["trial", "key", "what differs from the base"]
    base = dict(flatten(plan.study.base.model_dump(mode="json")))
    for trial in plan.trials:
        settings = flatten(trial.config.model_dump(mode="json"))
        own = [f"{key} {value}" for key, value in settings if value != base[key]]
        yield [trial.arm, trial.key[:6], ", ".join(own) or "nothing"]
    search = plan.study.search
    for key, domain in search.space.dimensions.items() if search else ():
        yield [SEARCH_ARM, "", f"{key}: {domain.describe()}"]


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return str(settings[key]) if key in settings else "nothing"
