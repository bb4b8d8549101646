"""What every node of a cluster must have before the first trial: what the driver sees.

`inspect_nodes` asks each node for it and refuses, one line for each thing that is missing, before
anything is computed. A cache folder that a node does not share with the driver is no fault:
`fill_own_caches` fills it there, once a node. A state folder that it does not share is told,
because a trial that moves there has no checkpoint.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from avsc_core.data.dataset import DataSet
from avsc_core.data.features import open_data
from avsc_core.errors import EnvironmentFault, Fault, UserError
from avsc_core.files import cache_root
from avsc_core.processes import no_progress
from avsc_core.record.environment import LIBRARIES, list_versions
from avsc_core.record.recipe import DECODERS, compute_recipe
from avsc_core.resolve import find_given_encodings, find_weights
from avsc_core.terminal import err
from studies.engine.nodes import Node, ask_nodes, list_nodes
from studies.runner.prepare import list_configurations, prepare_study
from studies.study.plan import Plan

SECONDS = 120.0  # that all nodes together have to say what they see


class View(NamedTuple):
    """What a machine sees, or should see."""

    recipe: str  # of avsc_core.record.recipe: the code and libraries that decide figures
    libraries: str
    cache: Path
    state: Path
    marker: str  # the name of a file that the driver has put into both
    weights: dict[Path, int]  # size in bytes of files that every worker reads
    media: dict[Path, int]  # of files that a node reads to fill a cache of its own


class Found(NamedTuple):
    """What a node sees of it."""

    faults: list[tuple[str, str]]  # what is missing, what to do
    shares_cache: bool
    shares_state: bool


def inspect_nodes(plan: Plan, data: DataSet, state: Path) -> list[Node]:
    """Check that every node has what its trials need; `state` is the folder of checkpoints.

    Returns the nodes whose cache folder is their own. Raises EnvironmentFault with a line for each
    thing that is missing. The driver's machine alone is not asked.
    """
    nodes = list_nodes()
    if not nodes:
        return []
    faults: dict[tuple[str, str], list[Node]] = defaultdict(list)
    own_cache = []
    without_state = []
    with _put_markers(cache_root(), state) as marker:
        view = _look(plan, data, state, marker)
        for node, found, error in ask_nodes(nodes, compare_view, view, seconds=SECONDS):
            if error:
                faults[f"cannot run a trial ({error})", "install the same avsc there"].append(node)
                continue
            for fault in found.faults:
                faults[fault].append(node)
            if not found.shares_cache:
                own_cache.append(node)
            if not found.shares_state:
                without_state.append(node)

    if faults:
        lines = [Fault(_name(who), what, todo=todo) for (what, todo), who in faults.items()]
        raise EnvironmentFault(lines)
    if without_state:
        what = f"does not see {state}, where checkpoints are; a trial that moves there begins again"
        todo = "AVSC_STATE in a folder that all nodes see keeps them"
        err.print(
            f"note: {Fault(_name(without_state), f'{what} at epoch 1', todo)}", soft_wrap=True
        )
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
    for node, found, error in ask_nodes(nodes, fill_cache, plan, data):
        for fault in [error] if error else found:
            faults.append(Fault(node.name, f"its cache could not be filled ({fault})"))
        if not error and not found:
            err.print(f"{node.name}: its cache is ready", soft_wrap=True)
    if faults:
        raise EnvironmentFault(faults)


def compare_view(view: View) -> Found:
    """Compare what the driver sees with what this machine sees. It runs on a node."""
    faults = []
    libraries = _list_libraries()
    if libraries != view.libraries:
        differing = set(libraries.split(", ")) - set(view.libraries.split(", "))
        what = f"has {', '.join(sorted(differing))}, the driver {view.libraries}"
        faults.append((what, "install the same versions"))
    elif compute_recipe() != view.recipe:
        faults.append(("has other code of avsc than the driver", "install the same avsc"))

    # files, those of the data only where the node fills a cache of its own
    shares_cache = (view.cache / view.marker).is_file()
    todo = "put them there, or share their folder at the same path"
    for what in _describe_missing("weights", view.weights):
        faults.append((what, todo))
    if not shares_cache:
        for what in _describe_missing("data", view.media):
            faults.append((what, f"{todo}, or share the driver's cache folder (AVSC_CACHE)"))

    # folders that trials write into
    for name, folder in (("AVSC_CACHE", view.cache), ("AVSC_STATE", view.state)):
        if error := _find_write_error(folder):
            faults.append(
                (f"cannot write into {folder} ({error})", f"set {name} to another folder")
            )
    return Found(faults, shares_cache, (view.state / view.marker).is_file())


def fill_cache(plan: Plan, data: DataSet) -> list[str]:
    """Prepare the cache of this machine for a study; return its faults. It runs on a node."""
    try:
        if is_embedded(data):
            open_data(None, no_progress)
        prepare_study(plan, data, no_progress)
    except UserError as error:
        return [str(fault) for fault in error.faults]
    return []


def is_embedded(data: DataSet) -> bool:
    """Tell whether this is the data set that comes with avsc, which every machine can write."""
    return data.embedded and data.root.parent == cache_root()


@contextmanager
def _put_markers(*folders: Path) -> Iterator[str]:
    """Put a file of one new name into the folders for a moment. Yields its name."""
    name = f".seen-{secrets.token_hex(8)}"
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        yield name
    finally:
        for folder in folders:
            (folder / name).unlink(missing_ok=True)


def _look(plan: Plan, data: DataSet, state: Path, marker: str) -> View:
    """Return what the driver sees."""
    weights: dict[Path, int] = {}
    for config in list_configurations(plan):
        sources = [*find_given_encodings(config).values()]
        for branch in find_weights(config).values():
            sources += [source for source in branch if source]
        for source in sources:
            weights |= _measure(Path(source))

    media: dict[Path, int] = {}
    if not is_embedded(data):
        for clip in data.clips:
            media |= _measure(clip.audio) | _measure(clip.video)
    return View(compute_recipe(), _list_libraries(), cache_root(), state, marker, weights, media)


def _measure(path: Path) -> dict[Path, int]:
    """Return the size of a file, or of the files in a folder; nothing for what is not there."""
    files = [path, *path.glob("*")] if path.is_dir() else [path]
    return {file: file.stat().st_size for file in files if file.is_file()}


def _list_libraries() -> str:
    return list_versions((*LIBRARIES, *DECODERS))


def _describe_missing(kind: str, sizes: dict[Path, int]) -> Iterator[str]:
    """Describe the files that are not here, or are here with another size: a line for both."""
    missing = []
    for path, size in sizes.items():
        try:
            found = path.stat().st_size
        except OSError:
            found = -1
        if found != size:
            missing.append(path)
    if missing:
        yield f"lacks {len(missing)} of {len(sizes)} files of the {kind}, such as {missing[0]}"


def _find_write_error(folder: Path) -> str:
    """Say why nothing can be written into a folder, which is made when it is not there."""
    probe = folder / f".written-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _name(nodes: Iterable[Node]) -> str:
    """Name nodes at the beginning of a line."""
    names = sorted(node.name for node in nodes)
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    shown = names[:3] if more else names
    return f"node{'s' if len(names) > 1 else ''} {', '.join(shown)}{more}"
