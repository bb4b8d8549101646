"""The `search:` part of a study file -> a checked search: its space, its sampler and scheduler, its first points."""

from collections.abc import Mapping
from typing import Any, get_args

from avsc_core.config import Config, flatten
from avsc_core.errors import Fault, UserError, gathered, near
from avsc_core.yaml_file import Located
from search_spaces.domains import Float
from search_spaces.space import SAMPLER_NAMES, Space, build_space
from studies.runner.schema import Metric, Search, SearchPart

SCHEDULER_NAMES = ("none", "asha", "hyperband", "median")
ONE_METRIC_SAMPLERS = ("cmaes",)
TRIALS = 20  # of a search that does not say
# Population-based training changes settings while it trains: what it finds is a schedule, not a configuration.
PBT = Fault("", "unknown scheduler 'pbt'", "its trials have no configuration to compare or retrain", "asha")


def read_search(part: SearchPart, base: Config, metrics: int, retune: bool, located: Located) -> Search:
    """The checked search. Raises UserError with every fault."""
    faults: list[Fault] = []

    def where(*keys: str | int) -> str:
        return located.where("search", *keys)

    for key, names in (("sampler", SAMPLER_NAMES), ("scheduler", SCHEDULER_NAMES)):
        value = getattr(part, key)
        if value == "pbt" and key == "scheduler":
            faults.append(Fault(where(key), PBT.what, PBT.allowed, PBT.todo))
        elif value not in names:
            faults.append(Fault(where(key), f"unknown {key} '{value}'", near(value, names)))
    if metrics > 1 and part.sampler in ONE_METRIC_SAMPLERS:
        faults.append(Fault(where("sampler"), f"{part.sampler} takes one metric", todo="tpe, gp or nsga2 take two"))
    if metrics > 1 and part.scheduler != "none":
        todo = "scheduler: none"
        faults.append(Fault(where("scheduler"), f"{part.scheduler} compares trials by one metric", todo=todo))
    space, first = None, []
    with gathered(faults):
        space = build_space(part.space, base, lambda key: where("space", key))
        first = _first(part.first, space, base, located)
        if part.sampler == "brute_force":
            endless = [key for key, domain in space.dimensions.items() if domain.every() is None]
            if endless:
                what = f"brute_force cannot count the values of {', '.join(endless)}"
                raise UserError(Fault(where("sampler"), what, todo="give them a step or a list of values"))
    if faults or space is None:
        raise UserError(faults)
    trials = part.trials if part.trials is not None else 0 if retune else TRIALS
    settings = part.model_dump(exclude={"space", "first", "trials"})
    return Search(space=space, first=tuple(first), trials=trials, **settings)


def metrics_of(value: Any, where: str) -> tuple[Metric, ...]:
    """`metric:` of a study file, one or a list of two different ones. Raises UserError."""
    values = value if isinstance(value, list) and value else [value]
    names = get_args(Metric)
    faults = [
        Fault(where, f"metric: {each!r} is not allowed", f"input should be {' or '.join(map(repr, names))}")
        for each in values
        if each not in names
    ]
    if not faults and len(set(values)) < len(values):
        faults.append(Fault(where, "a metric stands twice"))
    if faults:
        raise UserError(faults)
    return tuple(values)


def _first(points: list[dict[str, Any]], space: Space, base: Config, located: Located) -> list[Mapping[str, Any]]:
    """Whole points of the space: what the file leaves out stands as in the base."""
    usual = dict(flatten(base.model_dump()))
    faults, whole = list[Fault](), list[Mapping[str, Any]]()
    for position, point in enumerate(points):
        settings = dict(flatten(point))
        where = located.where("search", "first", position)
        faults += [
            Fault(where, f"'{key}' is no dimension of this search", near(key, space.dimensions))
            for key in settings
            if key not in space.dimensions
        ]
        values = {key: settings.get(key, usual[key]) for key in space.dimensions}
        values = {key: float(each) if _real(space, key, each) else each for key, each in values.items()}
        outside = [key for key in space.present(values) if not space.dimensions[key].contains(values[key])]
        faults += [
            Fault(where, f"{key} {values[key]} lies outside the space", space.dimensions[key].describe())
            for key in outside
        ]
        whole.append(space.present(values))
    if faults:
        raise UserError(faults)
    return whole


def _real(space: Space, key: str, value: Any) -> bool:
    """Whether a whole number was written where a real one is meant."""
    return isinstance(space.dimensions[key], Float) and isinstance(value, int) and not isinstance(value, bool)
