"""The `search:` part of a study file -> a checked search: its space, its sampler and scheduler, its first points."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, collect_faults, suggest
from avsc_core.resolve import flatten
from avsc_core.yaml_file import Located
from search_spaces.building import build_space, find_impossible
from search_spaces.catalogue import CATALOGUE, ONE_METRIC_SAMPLERS, SAMPLER_NAMES
from search_spaces.domains import Float
from search_spaces.space import Space
from studies.study.schema import Arm, Metric, Search, SearchPart

SCHEDULER_NAMES = ("none", "asha", "hyperband", "median")
TRIALS = 20  # of a search that does not say; brute_force tries all its points
MOST_POINTS = 100_000  # of brute_force
# Population-based training changes settings while it trains: what it finds is a schedule, not a configuration.
PBT = Fault(
    "", "unknown scheduler 'pbt'", "its trials have no configuration to compare or retrain", "asha"
)


def read_search(
    part: SearchPart,
    base: Config,
    around: Sequence[Arm],
    metrics: int,
    retune: bool,
    located: Located,
) -> Search:
    """The checked search; `around` are the other configurations that its space is laid around.

    Raises UserError with every fault.
    """
    faults: list[Fault] = []

    def where(*keys: str | int) -> str:
        return located.where("search", *keys)

    for key, names in (("sampler", SAMPLER_NAMES), ("scheduler", SCHEDULER_NAMES)):
        value = getattr(part, key)
        if value == "pbt" and key == "scheduler":
            faults.append(Fault(where(key), PBT.what, PBT.allowed, PBT.todo))
        elif value not in names:
            faults.append(Fault(where(key), f"unknown {key} '{value}'", suggest(value, names)))
    if metrics > 1 and part.sampler in ONE_METRIC_SAMPLERS:
        faults.append(
            Fault(
                where("sampler"),
                f"{part.sampler} takes one metric",
                todo="tpe, gp or nsga2 take two",
            )
        )
    if metrics > 1 and part.scheduler in SCHEDULER_NAMES[1:]:
        todo = "scheduler: none"
        faults.append(
            Fault(where("scheduler"), f"{part.scheduler} compares trials by one metric", todo=todo)
        )
    space, first = None, []
    with collect_faults(faults):
        space = build_space(part.space, base, lambda key: where("space", key))
        for arm in around:
            own = find_impossible(
                space.within(arm.config, arm.settled).dimensions,
                arm.config,
                lambda key: where("space", key),
            )
            faults += [replace(fault, what=f"{arm.name}: {fault.what}") for fault in own]
        if part.sampler == "brute_force":
            faults += _too_many(space, where("sampler"))
        first = _first(part.first, space, base, located)
    if faults or space is None:
        raise UserError(faults)
    usual = space.count() if part.sampler == "brute_force" else TRIALS
    trials = part.trials if part.trials is not None else 0 if retune else usual
    settings = part.model_dump(exclude={"space", "first", "trials"})
    return Search(space=space, first=tuple(first), trials=trials, **settings)


def _too_many(space: Space, where: str) -> list[Fault]:
    """What brute_force cannot try all of."""
    endless = [key for key, domain in space.dimensions.items() if domain.count() is None]
    if endless:
        what = f"brute_force cannot count the values of {', '.join(endless)}"
        return [Fault(where, what, todo="give them a step or a list of values")]
    if (count := space.count()) > MOST_POINTS:
        what, todo = f"brute_force would try {count} points", "larger steps, or fewer values"
        return [Fault(where, what, f"at most {MOST_POINTS}", todo)]
    return []


def check_metrics(value: Any, where: str) -> tuple[Metric, ...]:
    """`metric:` of a study file, one or a list of two different ones. Raises UserError."""
    values = value if isinstance(value, list) and value else [value]
    names = get_args(Metric)
    faults = [
        Fault(
            where,
            f"metric: {each!r} is not allowed",
            f"input should be {' or '.join(map(repr, names))}",
        )
        for each in values
        if each not in names
    ]
    if not faults and len(set(values)) < len(values):
        faults.append(Fault(where, "a metric stands twice"))
    if faults:
        raise UserError(faults)
    return tuple(values)


def _first(
    points: list[dict[str, Any]], space: Space, base: Config, located: Located
) -> list[Mapping[str, Any]]:
    """Whole points of the space: what the file leaves out stands as in the base."""
    usual = dict(flatten(base.model_dump()))
    faults, whole = list[Fault](), list[Mapping[str, Any]]()
    for position, point in enumerate(points):
        settings = dict(flatten(point))
        where = located.where("search", "first", position)
        faults += [
            Fault(where, f"'{key}' is no dimension of this search", suggest(key, space.dimensions))
            for key in settings
            if key not in space.dimensions
        ]
        values = {key: settings.get(key, usual[key]) for key in space.dimensions}
        values = {key: float(each) if _real(key, each) else each for key, each in values.items()}
        outside = [
            key for key in space.present(values) if not space.dimensions[key].contains(values[key])
        ]
        faults += [
            Fault(
                where,
                f"{key} {values[key]} lies outside the space",
                space.dimensions[key].describe(),
            )
            for key in outside
        ]
        whole.append(space.present(values))
    if faults:
        raise UserError(faults)
    return whole


def _real(key: str, value: Any) -> bool:
    """Whether a number is written where a real one is meant, be it a whole one, or a choice in this space."""
    return isinstance(CATALOGUE[key], Float) and CATALOGUE[key].contains(value)
