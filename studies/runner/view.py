"""What a machine sees of a study: code, folders and files, so that two machines can be compared.

The driver looks (`look`), a node compares (`compare`). Nodes import this file for nothing else, so
it imports nothing that is slow.
"""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet
from avsc_core.files import cache_root
from avsc_core.record.environment import LIBRARIES, list_versions
from avsc_core.record.recipe import DECODERS, compute_recipe
from avsc_core.resolve import find_given_encodings, find_weights

SHARE = "put them there, or share their folder at the same path"


class View(NamedTuple):
    """What the driver sees."""

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


@contextmanager
def put_markers(*folders: Path) -> Iterator[str]:
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


def look(configs: Iterable[Config], data: DataSet, cache: Path, state: Path, marker: str) -> View:
    """Return what this machine sees of the configurations of a study."""
    weights: dict[Path, int] = {}
    for config in configs:
        sources = list(find_given_encodings(config).values())
        for branch in find_weights(config).values():
            sources += [source for source in branch if source]
        for source in sources:
            weights |= _measure(Path(source))

    media: dict[Path, int] = {}
    if not is_embedded(data):
        for clip in data.clips:
            media |= _measure(clip.audio) | _measure(clip.video)
    return View(compute_recipe(), _list_libraries(), cache, state, marker, weights, media)


def compare(view: View) -> Found:
    """Compare what the driver sees with what this machine sees."""
    faults = []
    libraries = _list_libraries()
    if libraries != view.libraries:
        differing = set(libraries.split(", ")) - set(view.libraries.split(", "))
        what = f"has {', '.join(sorted(differing))}, the driver {view.libraries}"
        faults.append((what, "install the same versions"))
    elif compute_recipe() != view.recipe:
        faults.append(("has other code of avsc than the driver", "install the same avsc"))

    # Files; those of the data count only where the node fills a cache of its own.
    shares_cache = (view.cache / view.marker).is_file()
    for what in _describe_missing("weights", view.weights):
        faults.append((what, SHARE))
    if not shares_cache:
        for what in _describe_missing("data", view.media):
            faults.append((what, f"{SHARE}, or share the driver's cache folder (AVSC_CACHE)"))

    # Folders that trials write into.
    for name, folder in (("AVSC_CACHE", view.cache), ("AVSC_STATE", view.state)):
        if error := _find_write_error(folder):
            what = f"cannot write into {folder} ({error})"
            faults.append((what, f"set {name} to another folder"))
    return Found(faults, shares_cache, (view.state / view.marker).is_file())


def is_embedded(data: DataSet) -> bool:
    """Tell whether this is the data set that comes with avsc, which every machine can write."""
    return data.embedded and data.root.parent == cache_root()


def _measure(path: Path) -> dict[Path, int]:
    """Return the size of a file, or of the files in a folder; nothing for what is not there."""
    files = path.glob("*") if path.is_dir() else [path]
    return {file: file.stat().st_size for file in files if file.is_file()}


def _list_libraries() -> str:
    return list_versions((*LIBRARIES, *DECODERS))


def _describe_missing(kind: str, sizes: dict[Path, int]) -> Iterator[str]:
    """Describe the files that are not here, or have another size here: one line, or none."""
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
