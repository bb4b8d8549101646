"""This module holds a data set: its clips, their labels, hashes of their files, its parts.

In: the tables (tau.py, own.py) and the label file (../labels.py) of a folder. Out: a `DataSet` of N
clips, and from `split_rows` the row numbers of train, validation and test. Validation is cut from
the training split by location; a location of a data set of one's own is a group.
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
from numpy import ndarray

from avsc_core.cache.contents import hash_files
from avsc_core.config import Split
from avsc_core.data.layout import read_skipped
from avsc_core.data.tables import Clip
from avsc_core.data.tau import read_clips
from avsc_core.errors import Fault, UserError, collect_faults, make_error
from avsc_core.files import cache_root
from avsc_core.labels import LABEL_FILE, Labels, read_labels
from avsc_core.processes import Progress, no_progress

BASELINE_SEED = 30  # of the challenge's baseline
DRAWS = 100  # of groups that scenes share
SYNTHETIC = "SYNTHETIC.txt"  # marks a folder of embedded scenes (../demo), wherever it is moved
LABEL = "embedded scenes: synthetic, says nothing about real streets"  # shown beside their figures
EMBEDDED = "embedded scenes (synthetic)"  # begins their titles


class DataSet(NamedTuple):
    """The clips of a data set with their labels; row n of an array belongs to `clips[n]`."""

    root: Path
    clips: list[Clip]  # N
    events: ndarray  # (N,E) uint8
    objects: ndarray  # (N,O) uint8
    event_names: list[str]  # E
    object_names: list[str]  # O
    scene_names: tuple[str, ...]  # S
    # Teachers' probabilities (N,E) and (N,O) by the name of their reading; empty for true labels.
    scores: dict[str, ndarray]
    sounds: list[str]  # N, SHA-256 of each clip's wav
    films: list[str]  # N, SHA-256 of each clip's mp4
    fingerprint: str  # changes with any row, file or label
    embedded: bool  # whether these are the embedded scenes, whose figures are always labelled so
    skipped: Mapping[str, str] = MappingProxyType({})  # clips that skip.tsv leaves out -> why

    @property
    def scenes(self) -> ndarray:
        """Return the scene indices (N,)."""
        return np.array([clip.scene for clip in self.clips])

    @property
    def title(self) -> str:
        """Return the name under which summaries show the data set."""
        if not self.embedded:
            return str(self.root)
        if self.root.parent == cache_root():
            return EMBEDDED
        return f"{EMBEDDED} in {self.root}"


class SplitRows(NamedTuple):
    """The row numbers of the three parts of a data set."""

    train: ndarray
    validation: ndarray
    test: ndarray


def read_dataset(
    root: Path, *, embedded: bool = False, progress: Progress = no_progress
) -> DataSet:
    """Read and check the data set at `root`.

    A folder that holds the file SYNTHETIC is one of embedded scenes even when the caller does not
    know. The content of files is hashed once and remembered (../cache/contents.py); `progress` is
    called for every file that is hashed. Raises UserError with every fault: of tables and labels,
    missing files, locations in two splits.
    """
    clips, faults, scene_names = read_clips(root)
    if not clips and faults:
        raise UserError(faults)

    # Read the labels in the order of the clips; their faults join those of the tables.
    labels = None
    with collect_faults(faults):
        labels = read_labels(root / LABEL_FILE)
        row_of = {name: row for row, name in enumerate(labels.clips)}
        missing = [clip.name for clip in clips if clip.name not in row_of]
        if missing:
            what = f"{len(missing)} of {len(clips)} clips have no labels, first {missing[0]}"
            raise make_error(root / LABEL_FILE, what, todo="label every clip")
        order = [row_of[clip.name] for clip in clips]  # (N,)
    if faults or labels is None:
        raise UserError(faults)
    scores = {name: array[order] for name, array in labels.scores.items()}

    sounds, films = hash_media(root, clips, progress)
    return DataSet(
        root,
        clips,
        events=labels.events[order],
        objects=labels.objects[order],
        event_names=labels.event_names,
        object_names=labels.object_names,
        scene_names=scene_names,
        scores=scores,
        sounds=sounds,
        films=films,
        fingerprint=_compute_fingerprint(clips, sounds, films, labels),
        embedded=embedded or (root / SYNTHETIC).is_file(),
        skipped=read_skipped(root),
    )


def split_rows(data: DataSet, split: Split) -> SplitRows:
    """Cut a validation part of whole locations from the training split, by `split.rule`.

    Locations are drawn scene by scene, unless scenes share some of them: then they are drawn for
    all scenes at once. Raises UserError when a scene has too few training locations for that, or a
    part would be empty.
    """
    training = [clip for clip in data.clips if clip.split == "train"]
    _check_location_counts(data, training, split)
    scenes_of: dict[str, set[int]] = {}
    for clip in training:
        scenes_of.setdefault(clip.location, set()).add(clip.scene)
    if any(len(scenes) > 1 for scenes in scenes_of.values()):
        held_out = _hold_out_of_all_scenes(data, training, split)
    else:
        held_out = _hold_out_scene_by_scene(data, training, split)

    # All clips of a location that is held out are validation; none is of the test (find_leaks).
    parts = []
    for clip in data.clips:
        parts.append("validation" if clip.location in held_out else clip.split)
    rows = {name: np.flatnonzero(np.array(parts) == name) for name in SplitRows._fields}
    for name, noun in (("train", "training"), ("validation", "validation")):
        if not len(rows[name]):
            what = f"no clips are left for the {noun} part"
            raise make_error(data.root, what, todo="change split, or add training clips")
    return SplitRows(**rows)


def select_rows(data: DataSet, split: Split, part: str) -> ndarray:
    """Return the rows of `train`, `validation` or `test`; only the first two need a split."""
    if part == "test":
        return np.flatnonzero([clip.split == "test" for clip in data.clips])
    rows: ndarray = getattr(split_rows(data, split), part)
    return rows


def describe_split(data: DataSet, split: Split) -> str:
    """Describe what is held out: "validation: 90 of 900 training clips (10.0 %)"."""
    rows = split_rows(data, split)
    held_out = len(rows.validation)
    count = held_out + len(rows.train)
    text = f"validation: {held_out} of {count} training clips ({held_out / count:.1%})"

    # Where scenes share locations, few of them may not hold every scene.
    scenes = data.scenes
    missing = sorted(set(scenes[rows.train]) - set(scenes[rows.validation]))
    if missing:
        text += f", none of {', '.join(data.scene_names[scene] for scene in missing)}"
    return text.replace("%", " %")


def hash_media(
    root: Path, clips: Sequence[Clip], progress: Progress
) -> tuple[list[str], list[str]]:
    """Return the SHA-256 of every clip's wav, and of every clip's mp4."""
    # One index for each folder, whatever path leads to it.
    root_hash = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    index = cache_root() / "contents" / f"{root_hash}.json"
    paths = [clip.audio for clip in clips] + [clip.video for clip in clips]
    hashes = hash_files(index, paths, partial(progress, "reading files"))
    return hashes[: len(clips)], hashes[len(clips) :]


def _compute_fingerprint(
    clips: Sequence[Clip], sounds: Sequence[str], films: Sequence[str], labels: Labels
) -> str:
    """Compute sixteen hex digits over every row, file and label."""
    # The format of these lines is part of every fingerprint in the record; it must not change.
    digest = hashlib.sha256()
    for clip, sound, film in zip(clips, sounds, films, strict=True):
        row = f"{clip.name} {clip.scene} {clip.location} {clip.split} {sound} {film}\n"
        digest.update(row.encode())
    for array in (labels.events, labels.objects, *labels.scores.values()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _check_location_counts(data: DataSet, training: Sequence[Clip], split: Split) -> None:
    """Check that every scene has enough training locations to be split. Raises UserError."""
    by_fold = split.rule == "fold"
    needed = split.folds if by_fold else 2
    allowed = f"{needed} or more, one for each fold" if by_fold else "two or more, to hold one out"

    faults = []
    for scene, scene_name in enumerate(data.scene_names):
        count = len({clip.location for clip in training if clip.scene == scene})
        if 0 < count < needed:
            plural = "s" if count > 1 else ""
            what = f"{scene_name} has {count} training location{plural}"
            faults.append(Fault(str(data.root), what, allowed))
    if faults:
        raise UserError(faults)


def _hold_out_scene_by_scene(data: DataSet, training: Sequence[Clip], split: Split) -> set[str]:
    """Hold out locations of one scene after another."""
    # One generator for all scenes: what a scene holds out depends on the scenes before it.
    rng = np.random.default_rng(split.seed)
    baseline_rng = random.Random(BASELINE_SEED)
    held_out = set()
    for scene in range(len(data.scene_names)):
        clip_counts = Counter(clip.location for clip in training if clip.scene == scene)
        if not clip_counts:
            continue
        if split.rule == "baseline":
            held_out |= _hold_out_as_baseline(clip_counts, split.validation, baseline_rng)
        else:
            held_out |= _hold_out_at_random(sorted(clip_counts), split, rng)
    return held_out


def _hold_out_of_all_scenes(data: DataSet, training: Sequence[Clip], split: Split) -> set[str]:
    """Hold out locations that scenes share.

    Drawn scene by scene, each would take its share of every other scene with it, too. Raises
    UserError when a fold leaves a scene without training clips, or for the baseline's rule.
    """
    if split.rule == "baseline":
        what = "split.rule baseline draws scene by scene, and scenes share groups"
        raise make_error(data.root, what, todo="split.rule=share or fold")
    locations = sorted({clip.location for clip in training})
    numbers = {location: number for number, location in enumerate(locations)}
    groups = np.array([numbers[clip.location] for clip in training])  # (N,)
    scenes = np.array([clip.scene for clip in training])  # (N,)
    if split.rule == "share":
        held_out = _draw_share(groups, scenes, split)
    else:
        held_out = _draw_fold(groups, scenes, split)

    missing = set(scenes) - set(scenes[~np.isin(groups, held_out)])
    if missing:
        names = ", ".join(data.scene_names[scene] for scene in sorted(missing))
        what = f"fold {split.fold} of {split.folds} leaves no training clips of {names}"
        raise make_error(
            data.root, what, todo="fewer folds, another split.seed, or split.rule=share"
        )
    return {locations[group] for group in held_out}


def _draw_share(groups: ndarray, scenes: ndarray, split: Split) -> ndarray:
    """Draw groups that hold about `split.validation` of the clips of every scene: (held,).

    Of the beginnings of many random orders, the one that comes nearest to the share, over all clips
    and in every scene, and leaves training clips of every scene. Holding out a single group always
    does, because every scene has two.
    """
    # The clips of every scene in every group; scenes without training clips are left out.
    counts = np.zeros((groups.max() + 1, scenes.max() + 1))  # (G,S)
    np.add.at(counts, (groups, scenes), 1)
    counts = counts[:, counts.any(0)]
    totals = counts.sum(0)  # (S,)

    rng = np.random.default_rng(split.seed)
    best = np.inf
    chosen = groups[:0]
    for _ in range(DRAWS):
        order = rng.permutation(len(counts))
        held = counts[order].cumsum(0)  # (G,S), of the first 1 to G groups
        by_scene = ((held / totals - split.validation) ** 2).mean(1)  # (G,)
        of_all = (held.sum(1) / totals.sum() - split.validation) ** 2  # (G,)
        distance = np.where((held < totals).all(1), by_scene + of_all, np.inf)
        place = int(distance.argmin())
        if distance[place] < best:
            best = distance[place]
            chosen = order[: place + 1]
    return chosen


def _draw_fold(groups: ndarray, scenes: ndarray, split: Split) -> ndarray:
    """Draw one of several parts of the groups, alike in size and scenes: (held,)."""
    # Only here, because it takes a second to import.
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(split.folds, shuffle=True, random_state=split.seed)
    _, rows = list(folds.split(groups, scenes, groups))[split.fold]
    return np.unique(groups[rows])


def _hold_out_at_random(locations: list[str], split: Split, rng: np.random.Generator) -> set[str]:
    """Hold out one fold of a scene's shuffled locations, or the configured share of them.

    A share is at least one location, and leaves at least one to train on.
    """
    shuffled = rng.permutation(locations)
    if split.rule == "fold":
        held_out = np.array_split(shuffled, split.folds)[split.fold]
    else:
        count = max(1, round(split.validation * len(locations)))
        held_out = shuffled[: min(count, len(locations) - 1)]  # one is left to train on
    return set(held_out.tolist())


def _hold_out_as_baseline(clip_counts: Counter[str], share: float, rng: random.Random) -> set[str]:
    """Hold out the locations of one scene that the challenge's baseline holds out.

    Locations are drawn for training, one after another, until they have 1 - `share` of the scene's
    clips; the rest is validation. They are sorted by their numbers read as text, and all scenes
    share one generator of a fixed seed, so with the official tables the parts are the baseline's
    own.
    """
    # The baseline truncates the number of clips, and its list is sorted by text.
    wanted = int((1 - share) * clip_counts.total())
    left = sorted(clip_counts, key=lambda location: location.split("-")[-1])
    taken = 0
    while taken < wanted and left:
        location = rng.choice(left)
        left.remove(location)
        taken += clip_counts[location]
    return set(left)
