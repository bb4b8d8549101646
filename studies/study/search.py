"""From the `search:` part of a study file (`SearchPart`) to a checked search (`Search`).

`read_search` checks the sampler and the scheduler, the space around every configuration that is
searched around, and the first points. What the file leaves out gets its value here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, collect_faults, suggest
from avsc_core.resolve import flatten, list_settings
from avsc_core.yaml_file import Located
from search_spaces.building import LineOf, build_space, find_impossible
from search_spaces.catalogue import CATALOGUE, ONE_METRIC_SAMPLERS, SAMPLER_NAMES
from search_spaces.domains import Float
from search_spaces.space import Space
from studies.study.schema import Arm, Metric, Search, SearchPart, StudyFile

SCHEDULER_NAMES = ("none", "asha", "hyperband", "median")
TRIALS = 20  # of a search whose file gives no number; brute_force tries all points of its space
MOST_POINTS = 100_000  # that brute_force may try


def read_search(
    file: StudyFile,
    rungs: Sequence[Config],  # the base, and with a ladder the base of its full rung
    arms: Sequence[Arm],
    metric_count: int,
    located: Located,
) -> Search | None:
    """Check a file's search around the base, and around all else that it is repeated around.

    Raises UserError with every fault.
    """
    part = file.search
    if part is None:
        return None
    faults = list(_check_method(part, metric_count, located))
    around = [*arms] if file.retune else []
    around += [Arm("the full rung", config) for config in rungs[1:]]

    # The space, and what can only be checked within it.
    place = partial(located.where, "search", "space")
    with collect_faults(faults):
        space = build_space(part.space, rungs[0], place)
        faults += _check_other_configurations(space, around, place)
        if part.sampler == "brute_force":
            faults += _check_countable(space, located.where("search", "sampler"))
        first = _read_first_points(part.first, space, rungs[0], located)
    if faults:
        raise UserError(faults)

    # The other fields are the same in the file and in the checked search.
    return Search(
        space=space,
        trials=_choose_trial_count(part, space, bool(file.retune)),
        first=tuple(first),
        **part.model_dump(exclude={"space", "trials", "first"}),
    )


def check_metrics(value: Any, where: str) -> tuple[Metric, ...]:
    """Check `metric:` of a study file, one or a list of two different ones. Raises UserError."""
    values = value if isinstance(value, list) and value else [value]
    names = get_args(Metric)
    allowed = f"input should be {' or '.join(map(repr, names))}"

    faults = []
    for metric in values:
        if metric not in names:
            faults.append(Fault(where, f"metric: {metric!r} is not allowed", allowed))
    if not faults and len(set(values)) < len(values):
        faults.append(Fault(where, "a metric is given twice"))
    if faults:
        raise UserError(faults)
    return tuple(values)


def _check_method(part: SearchPart, metric_count: int, located: Located) -> Iterator[Fault]:
    """Check the sampler and the scheduler, and that both can handle the metrics."""
    sampler_place = located.where("search", "sampler")
    scheduler_place = located.where("search", "scheduler")

    if part.sampler not in SAMPLER_NAMES:
        allowed = suggest(part.sampler, SAMPLER_NAMES)
        yield Fault(sampler_place, f"unknown sampler '{part.sampler}'", allowed)
    if part.scheduler == "pbt":
        # Population-based training changes settings during a training: what it finds is a schedule.
        why = "its trials have no configuration to compare or retrain"
        yield Fault(scheduler_place, "unknown scheduler 'pbt'", why, "asha")
    elif part.scheduler not in SCHEDULER_NAMES:
        allowed = suggest(part.scheduler, SCHEDULER_NAMES)
        yield Fault(scheduler_place, f"unknown scheduler '{part.scheduler}'", allowed)

    if metric_count > 1 and part.sampler in ONE_METRIC_SAMPLERS:
        todo = "tpe, gp or nsga2 take two"
        yield Fault(sampler_place, f"{part.sampler} takes one metric", todo=todo)
    if metric_count > 1 and part.scheduler in SCHEDULER_NAMES[1:]:
        what = f"{part.scheduler} compares trials by one metric"
        yield Fault(scheduler_place, what, todo="scheduler: none")


def _check_other_configurations(
    space: Space, around: Sequence[Arm], place: LineOf
) -> Iterator[Fault]:
    """Check that the space suits the configurations around which it is searched besides the
    base."""
    for arm in around:
        dimensions = space.within(arm.config, arm.settled).dimensions
        for fault in find_impossible(dimensions, arm.config, place):
            yield replace(fault, what=f"{arm.name}: {fault.what}")


def _check_countable(space: Space, where: str) -> Iterator[Fault]:
    """Check that brute_force can try all points of the space."""
    endless = [key for key, domain in space.dimensions.items() if domain.count() is None]
    if endless:
        what = f"brute_force cannot count the values of {', '.join(endless)}"
        yield Fault(where, what, todo="give them a step or a list of values")
    elif space.count() > MOST_POINTS:
        what = f"brute_force would try {space.count()} points"
        yield Fault(where, what, f"at most {MOST_POINTS}", "larger steps, or fewer values")


def _choose_trial_count(part: SearchPart, space: Space, retune: bool) -> int:
    """Return how many trials the study's own search has, also where the file does not say."""
    if part.trials is not None:
        return part.trials
    if retune:
        return 0  # each arm has a search; one around the base is only for those who ask for it
    return space.count() if part.sampler == "brute_force" else TRIALS


def _read_first_points(
    points: list[dict[str, Any]], space: Space, base: Config, located: Located
) -> list[dict[str, Any]]:
    """Complete the first points: what the file leaves out is as in the base. Raises UserError."""
    base_settings = list_settings(base)
    faults = []
    completed = []
    for position, point in enumerate(points):
        where = located.where("search", "first", position)
        settings = dict(flatten(point))
        # The file may leave out dimensions of the space; it may not name other settings.
        for key in settings:
            if key not in space.dimensions:
                allowed = suggest(key, space.dimensions)
                faults.append(Fault(where, f"'{key}' is not a dimension of this search", allowed))

        values = {}
        for key in space.dimensions:
            values[key] = _to_real(key, settings.get(key, base_settings[key]))

        # Values of inactive dimensions are no part of a point, so they are not checked.
        present = space.present(values)
        for key, value in present.items():
            domain = space.dimensions[key]
            if not domain.contains(value):
                what = f"{key} {value} lies outside the space"
                faults.append(Fault(where, what, domain.describe()))
        completed.append(present)
    if faults:
        raise UserError(faults)
    return completed


def _to_real(key: str, value: Any) -> Any:
    """Return a number that a person wrote whole as a float, where the dimension is of real ones.

    The space may have made a choice of the dimension; its numbers are real ones all the same.
    """
    domain = CATALOGUE[key]
    return float(value) if isinstance(domain, Float) and domain.contains(value) else value
