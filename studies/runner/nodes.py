"""What every node of a cluster must have before the first trial: what the driver sees.

`inspect_nodes` asks each node for it and refuses, one line for each thing that is missing, before
anything is computed. A cache folder that a node does not share with the driver is no fault:
`fill_own_caches` fills it there, once a node. A state folder that it does not share is told,
because a trial that moves there has no checkpoint.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from avsc_core.data.dataset import DataSet
from avsc_core.data.features import open_data
from avsc_core.errors import EnvironmentFault, Fault, UserError
from avsc_core.files import cache_root
from avsc_core.processes import no_progress
from avsc_core.terminal import err, format_duration
from studies.cluster.nodes import Node, ask_nodes, list_nodes
from studies.runner.prepare import list_configurations, prepare_study
from studies.runner.view import compare, is_embedded, look, put_markers
from studies.study.plan import Plan

SECONDS = 300.0  # that all nodes together have to say what they see, their imports included
MOST_NAMED = 4  # nodes in one line


def inspect_nodes(plan: Plan, data: DataSet, state: Path) -> list[Node]:
    """Check that every node has what its trials need; `state` is the folder of checkpoints.

    Returns the nodes whose cache folder is their own. Raises EnvironmentFault with a line for each
    thing that is missing. The driver's machine alone is not asked.
    """
    nodes = list_nodes()
    if len(nodes) < 2:
        return []

    # What each node has, sorted by what is missing.
    faults: dict[tuple[str, str], list[Node]] = defaultdict(list)
    own_cache = []
    without_state = []
    cache = cache_root().resolve()
    with put_markers(cache, state) as marker:
        view = look(list_configurations(plan), data, cache, state, marker)
        for node, found, error in ask_nodes(nodes, compare, view, seconds=SECONDS):
            if error:
                what = f"cannot run a trial ({error})"
                faults[what, "look at its log, and install avsc there"].append(node)
                continue
            for fault in found.faults:
                faults[fault].append(node)
            if not found.shares_cache:
                own_cache.append(node)
            if not found.shares_state:
                without_state.append(node)

    if faults:
        missing = faults.items()
        raise EnvironmentFault(Fault(_name(who), what, todo=todo) for (what, todo), who in missing)
    if without_state:
        what = f"does not see {state}, where checkpoints are"
        then = "a trial that moves there begins again at epoch 1"
        note = Fault(_name(without_state), what, then, "share it, or set AVSC_STATE")
        err.print(f"note: {note}", soft_wrap=True)
    return own_cache


def fill_own_caches(nodes: list[Node], plan: Plan, data: DataSet) -> None:
    """Compute on each of these nodes what its workers would otherwise compute one by one.

    Raises EnvironmentFault with what went wrong on them.
    """
    if not nodes:
        return
    what = f"has a cache folder of its own ({cache_root()}), which is filled now"
    err.print(f"{_name(nodes)}: {what}", soft_wrap=True)
    faults = []
    start = time.monotonic()
    for node, found, error in ask_nodes(nodes, fill_cache, plan, data):
        for fault in [error] if error else found:
            what = f"its cache could not be filled ({fault})"
            faults.append(Fault(_name([node]), what, todo="the same command goes on with it"))
        if not error and not found:
            took = format_duration(time.monotonic() - start)
            err.print(f"{_name([node])}: its cache is ready after {took}", soft_wrap=True)
    if faults:
        raise EnvironmentFault(faults)


def fill_cache(plan: Plan, data: DataSet) -> list[str]:
    """Prepare the cache of this machine for a study; return its faults. It runs on a node."""
    try:
        if is_embedded(data):
            open_data(None, no_progress)
        prepare_study(plan, data, no_progress)
    except UserError as error:
        return [str(fault) for fault in error.faults]
    return []


def _name(nodes: Iterable[Node]) -> str:
    """Name nodes at the beginning of a line; of many, the first ones and how many more."""
    names = sorted(node.name for node in nodes)
    if len(names) > MOST_NAMED:
        rest = len(names) - MOST_NAMED + 1
        names = [*names[: MOST_NAMED - 1], f"and {rest} more"]
    return f"node{'s' if len(names) > 1 else ''} {', '.join(names)}"
