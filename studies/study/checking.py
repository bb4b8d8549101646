"""Rules across the parts of a study file, which the type of no single part can express.

Both functions yield their faults in a fixed order, whatever the order in the file.
"""

import re
from collections.abc import Iterator

from avsc_core.config import Config
from avsc_core.errors import Fault, suggest
from avsc_core.resolve import NOT_IN_KEY, list_presets
from avsc_core.yaml_file import Located
from search_spaces.inactive import reset_inactive
from studies.study.schema import StudyFile

STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def find_conflicts(file: StudyFile, name: str, located: Located) -> Iterator[Fault]:
    """Find what is wrong between the parts of a file whose study is called `name`."""
    yield from _check_names(file, name, located)
    yield from _check_question(file, located)
    yield from _check_tables(file, located)
    yield from _check_ladder(file, located)
    yield from _check_search(file, name, located)
    yield from _check_resources(file, located)


def find_rung_conflicts(cheap: Config, full: Config, where: str) -> Iterator[Fault]:
    """Find what keeps two configurations from being rungs: two trainings of the same task."""
    if cheap.split != full.split:
        yield Fault(where, "the rungs are validated on different clips", "one split")

    cheap_classes = (cheap.audio.classes, cheap.visual.classes)
    if cheap_classes != (full.audio.classes, full.visual.classes):
        allowed = "audio.classes and visual.classes of the data"
        yield Fault(where, "the rungs have different classes", allowed)

    # Where and how two trainings are computed does not make them different.
    one, other = (reset_inactive(rung).model_dump(exclude=NOT_IN_KEY) for rung in (cheap, full))
    if one == other:
        yield Fault(where, "both rungs are the same training", "a cheap one and a full one")


def _check_names(file: StudyFile, name: str, located: Located) -> Iterator[Fault]:
    """Check the names of the study and of its preset."""
    if not STUDY_NAME.fullmatch(name):
        allowed = "letters, digits, - and _, at most 64"
        yield Fault(located.where("name"), f"'{name}' is not a study name", allowed)
    if file.preset and file.preset not in list_presets():
        allowed = suggest(file.preset, list_presets())
        yield Fault(located.where("preset"), f"unknown preset '{file.preset}'", allowed)


def _check_question(file: StudyFile, located: Located) -> Iterator[Fault]:
    """Check that the study has something to run, and what `retune` needs."""
    has_arms = bool(file.arms or file.ablation)
    if not has_arms and file.search is None and not file.tables:
        yield Fault(located.where(), "nothing to run", "arms, an ablation, or a search")
    if len(set(file.seeds)) < len(file.seeds):
        yield Fault(located.where("seeds"), "a seed is given twice")
    # The names of levels and designs are checked elsewhere; every ablation makes several arms.
    has_pairs = bool(file.ablation or file.tables) or len(file.arms) > 1
    if file.seeds_part and not has_pairs:
        what = "seeds until told without arms to compare"
        need = "two arms or more, or an ablation"
        yield Fault(located.where("seeds"), what, need, "or seeds: [0, 1, 2]")
    # Whatever is retuned is an arm, and how it is retuned is in the search.
    if file.retune and (file.search is None or not has_arms):
        what = "retune gives every arm a search of its own"
        need = "arms or an ablation, and search: {space: ...}"
        yield Fault(located.where("retune"), what, need)


def _check_tables(file: StudyFile, located: Located) -> Iterator[Fault]:
    """Check that a study that takes over arms of others has nothing of its own beside them."""
    if not file.tables:
        return
    for key in ("arms", "ablation", "published", "search", "retune", "ladder"):
        if getattr(file, key):
            why = "a study with tables runs the arms of other study files alone"
            yield Fault(located.where(key), f"{key} beside tables", why, "move it to another study")
    if file.seeds_part:
        why = "each table has differences of its own"
        yield Fault(
            located.where("seeds"), "seeds until told beside tables", why, "a list of seeds"
        )


def _check_ladder(file: StudyFile, located: Located) -> Iterator[Fault]:
    """Check that a ladder has a search, and no arms."""
    if not file.ladder:
        return
    where = located.where("ladder")
    if file.search is None:
        yield Fault(where, "a ladder without a search", "search: {space: ...}")
    if file.arms or file.ablation:
        what = "a ladder with arms of its own"
        todo = "put them into search.first, or into another study"
        yield Fault(where, what, "it compares what its search finds", todo)


def _check_search(file: StudyFile, name: str, located: Located) -> Iterator[Fault]:
    """Check what a search says about other studies and about a ladder."""
    if file.search is None:
        return
    if file.search.warm_start == name:
        where = located.where("search", "warm_start")
        why = "its own trials are used anyway"
        yield Fault(where, "warm_start names this study itself", why, "leave it out")
    # `finalists` has a default; only a file that writes it down is mistaken.
    if not file.ladder and "finalists" in file.search.model_fields_set:
        where = located.where("search", "finalists")
        need = "ladder: [..., ...]"
        yield Fault(where, "finalists without a ladder", need, "leave it out")


def _check_resources(file: StudyFile, located: Located) -> Iterator[Fault]:
    """Check that a trial has one GPU at most: it trains on one, and a second would stand idle."""
    gpus = file.resources.gpus
    if gpus > 1:
        where = located.where("resources", "gpus")
        yield Fault(where, f"{gpus:g} GPUs per trial", "1, or a share of one such as 0.5")
