"""A data set: its clips with their labels, what its files hold, and the parts it is cut into.

Tables (tau.py) and the label file (labels.py) -> `DataSet`. Validation is cut from the training split by location.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from avsc_core.cache.contents import hash_files
from avsc_core.config import Split
from avsc_core.data.layout import read_skipped
from avsc_core.data.tables import Clip
from avsc_core.data.tau import read_clips
from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.files import cache_root
from avsc_core.labels import LABEL_FILE, Labels, read_labels
from avsc_core.processes import Progress, no_progress

BASELINE_SEED = 30
SYNTHETIC = "SYNTHETIC.txt"  # lies in a folder of embedded scenes (demo.py), so that a folder of them is known as such
LABEL = "embedded scenes: synthetic, says nothing about real streets"  # stands wherever figures are of them
EMBEDDED = "embedded scenes (synthetic)"  # how their titles begin


class DataSet(NamedTuple):
    """The clips of a data set with their labels; row n of `events` and `objects` belongs to `clips[n]`."""

    root: Path
    clips: list[Clip]  # N
    events: np.ndarray  # (N,E) uint8
    objects: np.ndarray  # (N,O) uint8
    event_names: list[str]
    object_names: list[str]
    scene_names: tuple[str, ...]  # S
    scores: dict[
        str, np.ndarray
    ]  # teachers' probabilities by reading (labels.py); empty for true labels
    sounds: list[str]  # SHA-256 of each wav
    films: list[str]  # and of each mp4
    fingerprint: str  # changes with any row, file or label
    embedded: bool  # the scenes that come with avsc: their figures are always labelled so
    skipped: Mapping[str, str] = MappingProxyType({})  # clips that skip.tsv leaves out, and why

    @property
    def scenes(self) -> np.ndarray:
        """(N,) scene indices."""
        return np.array([clip.scene for clip in self.clips])

    @property
    def title(self) -> str:
        """What summaries call it."""
        if not self.embedded:
            return str(self.root)
        return EMBEDDED if self.root.parent == cache_root() else f"{EMBEDDED} in {self.root}"


class SplitRows(NamedTuple):
    """Row numbers of the three parts of a data set."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def read_dataset(
    root: Path, *, embedded: bool = False, progress: Progress = no_progress
) -> DataSet:
    """Read and check a data set. Raises UserError with every fault: tables, labels, missing files, leaks.

    What its files hold is read once and remembered (contents.py), which `progress` tells of. The embedded scenes are
    known by who asks for them, or by the file SYNTHETIC in a folder that they were written to.
    """
    embedded = embedded or (root / SYNTHETIC).is_file()
    clips, faults, scenes = read_clips(root)
    if not clips and faults:
        raise UserError(faults)
    labels = None
    with collect_faults(faults):
        labels = read_labels(root / LABEL_FILE)
    if labels is not None and clips:
        rows = {name: row for row, name in enumerate(labels.clips)}
        missing = [clip.name for clip in clips if clip.name not in rows]
        if missing:
            what = f"{len(missing)} of {len(clips)} clips have no labels, first {missing[0]}"
            faults.append(Fault(str(root / LABEL_FILE), what, todo="label every clip"))
    if faults or labels is None:
        raise UserError(faults)
    order = [rows[clip.name] for clip in clips]
    names = (labels.event_names, labels.object_names)
    events, objects = labels.events[order], labels.objects[order]
    scores = {name: array[order] for name, array in labels.scores.items()}
    sounds, films = hash_media(root, clips, progress)
    fingerprint = _fingerprint(clips, sounds, films, labels)
    return DataSet(
        root,
        clips,
        events,
        objects,
        *names,
        scenes,
        scores,
        sounds,
        films,
        fingerprint,
        embedded,
        read_skipped(root),
    )


def split_rows(data: DataSet, split: Split) -> SplitRows:
    """Cut a validation part from the training split, whole locations only, by `split.rule`.

    Raises UserError when a scene has too few training locations for that.
    """
    rng = np.random.default_rng(split.seed)
    baseline = random.Random(BASELINE_SEED)
    held: set[str] = set()
    faults = []
    needed = split.folds if split.rule == "fold" else 2
    for index, scene in enumerate(data.scene_names):
        clips = Counter(
            clip.location for clip in data.clips if clip.scene == index and clip.split == "train"
        )
        if clips and len(clips) < needed:
            what = f"{scene} has {len(clips)} training location{'s' if len(clips) > 1 else ''}"
            allowed = (
                f"{needed} or more, one for each fold"
                if split.rule == "fold"
                else "two or more, to hold one out"
            )
            faults.append(Fault(str(data.root), what, allowed))
        elif clips and split.rule == "baseline":
            held |= _baseline_rule(clips, split.validation, baseline)
        elif clips:
            mixed = rng.permutation(sorted(clips))
            count = min(max(1, round(split.validation * len(clips))), len(clips) - 1)
            part = (
                np.array_split(mixed, split.folds)[split.fold]
                if split.rule == "fold"
                else mixed[:count]
            )
            held.update(part.tolist())
    if faults:
        raise UserError(faults)
    side = np.array(
        [clip.split if clip.location not in held else "validation" for clip in data.clips]
    )
    return SplitRows(*(np.flatnonzero(side == part) for part in ("train", "validation", "test")))


def _baseline_rule(clips: Counter[str], share: float, rng: random.Random) -> set[str]:
    """What the challenge's baseline holds out of one scene: locations are drawn for training, one after another, until
    they have 1 - `share` of the scene's clips; the rest is validation.

    Locations stand in the order of their numbers read as text, scenes share one generator of a fixed seed; so with the
    official tables the parts are the baseline's own.
    """
    left, taken = sorted(clips, key=lambda location: location.split("-")[-1]), 0
    while taken < int((1 - share) * clips.total()) and left:
        place = rng.choice(left)
        left.remove(place)
        taken += clips[place]
    return set(left)


def hash_media(
    root: Path, clips: Sequence[Clip], progress: Progress
) -> tuple[list[str], list[str]]:
    """SHA-256 of every clip's wav and of every clip's mp4."""
    index = (
        cache_root()
        / "contents"
        / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    )
    paths = [clip.audio for clip in clips] + [clip.video for clip in clips]
    found = hash_files(index, paths, partial(progress, "reading files"))
    return found[: len(clips)], found[len(clips) :]


def _fingerprint(
    clips: Sequence[Clip], sounds: Sequence[str], films: Sequence[str], labels: Labels
) -> str:
    """Sixteen hex digits over every row, file and label."""
    digest = hashlib.sha256()
    for clip, sound, film in zip(clips, sounds, films, strict=True):
        digest.update(
            f"{clip.name} {clip.scene} {clip.location} {clip.split} {sound} {film}\n".encode()
        )
    for array in (labels.events, labels.objects, *labels.scores.values()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
