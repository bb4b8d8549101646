"""TAU Audio-Visual Urban Scenes 2021 as it lies on disk -> a list of clips with scene, location and split.

The tables are TAB-separated with a header: `meta.csv` (filename_audio, filename_video, scene_label, identifier) and
`evaluation_setup/fold1_{train,evaluate}.csv`. Names read `{scene}-{city}-{location}-{segment}.{wav|mp4}`. Folders vary
between downloads, so the fold file is searched for to depth 3, and `audio/` and `video/` apart from it.
"""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from avsc_core.config import Split
from avsc_core.data.contents import contents
from avsc_core.errors import Fault, UserError, gathered, near
from avsc_core.files import cache_root, write_text
from avsc_core.labels import LABEL_FILE, SCENES, Labels, read_labels
from avsc_core.processes import Progress, silent

CLIP_SECONDS = 10.0
PUBLISHED = {"train": 8646, "test": 3645}  # clips of the development set
PUBLISHED_LOCATIONS = {"train": 305, "test": 126}
SKIP_FILE = "skip.tsv"
FOLDS = {"train": "fold1_train.csv", "test": "fold1_evaluate.csv"}


class Clip(NamedTuple):
    """One 10-s clip."""

    name: str  # file name without ending
    audio: Path
    video: Path
    scene: int  # index into SCENES
    location: str  # city-location: no location may stand on two sides of a split
    split: str  # train or test
    row: str = ""  # table:line


class DataSet(NamedTuple):
    """The clips of a data set with their labels; row n of `events` and `objects` belongs to `clips[n]`."""

    root: Path
    clips: list[Clip]  # N
    events: np.ndarray  # (N,E) uint8
    objects: np.ndarray  # (N,O) uint8
    event_names: list[str]
    object_names: list[str]
    scores: dict[str, np.ndarray]  # teachers' probabilities by reading (labels.py); empty for true labels
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
        return "embedded scenes (synthetic)" if self.embedded else str(self.root)


class Parts(NamedTuple):
    """Row numbers of the three parts of a data set."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def read_dataset(root: Path, *, embedded: bool = False, progress: Progress = silent) -> DataSet:
    """Read and check a data set. Raises UserError with every fault: tables, labels, missing files, leaks.

    What its files hold is read once and remembered (contents.py), which `progress` tells of.
    """
    clips, faults = read_clips(root)
    if not clips and faults:
        raise UserError(faults)
    labels = None
    with gathered(faults):
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
    sounds, films = media_contents(root, clips, progress)
    fingerprint = _fingerprint(clips, sounds, films, labels)
    return DataSet(
        root, clips, events, objects, *names, scores, sounds, films, fingerprint, embedded, read_skipped(root)
    )


def read_clips(root: Path) -> tuple[list[Clip], list[Fault]]:
    """The clips of both folds in the order of their tables, and every fault found on the way."""
    if not root.is_dir():
        return [], [Fault(str(root), "no such folder", todo="give the folder that holds audio/ and video/")]
    setup = _find(root, "evaluation_setup/fold1_train.csv")
    if setup is None:
        allowed = "evaluation_setup/fold1_train.csv at most three folders down"
        return [], [Fault(str(root), "not a TAU data set", allowed, "`avsc-core demo-data DIR` writes one to look at")]
    media = {kind: _find(root, kind) for kind in ("audio", "video")}
    faults = [Fault(str(root), f"no folder {kind}/", "at most three folders down") for kind in media if not media[kind]]
    locations = _identifiers(root)
    skipped = read_skipped(root)
    clips: dict[str, Clip] = {}
    for split, table in FOLDS.items():
        path = setup.parent / table
        if not path.is_file():
            faults.append(Fault(str(path), "no such file", todo="both folds are needed: train and evaluate"))
            continue
        for line, row in read_table(path, faults, ("filename_audio", "filename_video", "scene_label")):
            if Path(row["filename_audio"]).stem in skipped:
                continue
            clip = _clip(row, split, media, locations, f"{path}:{line}", faults)
            if clip is not None and clip.name in clips:
                faults.append(Fault(f"{path}:{line}", f"{clip.name} stands twice", todo="keep one of its rows"))
            elif clip is not None:
                clips[clip.name] = clip
    faults += _leaks(clips.values())
    if len(clips) >= sum(PUBLISHED.values()) and not faults:
        faults += _not_as_published(root, list(clips.values()))
    return list(clips.values()), faults


def read_skipped(root: Path) -> dict[str, str]:
    """Clips to leave out and why: skip.tsv, which `avsc-core check --skip-bad` writes."""
    path = root / SKIP_FILE
    if not path.is_file():
        return {}
    faults: list[Fault] = []
    rows = {row["clip"]: row["fault"] for _, row in read_table(path, faults, ("clip", "fault"))}
    if faults:
        raise UserError(faults)
    return rows


def write_skipped(root: Path, faults: Mapping[str, str]) -> Path:
    """Add clips to those that are left out; returns the file."""
    rows = read_skipped(root) | {name: " ".join(fault.split()) for name, fault in faults.items()}
    lines = ["clip\tfault", *(f"{name}\t{fault}" for name, fault in sorted(rows.items()))]
    write_text(root / SKIP_FILE, "\n".join(lines) + "\n")
    return root / SKIP_FILE


def read_unlabelled(root: Path) -> list[Clip]:
    """The clips of an evaluation set: wav and mp4 of the same name in audio/ and video/, without tables or labels.

    In the order of their numbers. Raises UserError when a folder or a partner is missing.
    """
    media = {kind: _find(root, kind) for kind in ("audio", "video")}
    missing = [kind for kind, folder in media.items() if folder is None]
    if missing:
        raise UserError([Fault(str(root), f"no folder {kind}/", "at most three folders down") for kind in missing])
    sounds, films = (
        {path.stem: path for path in folder.glob(f"*{ending}")}
        for folder, ending in ((media["audio"], ".wav"), (media["video"], ".mp4"))
        if folder is not None
    )
    alone = sorted(set(sounds) ^ set(films))
    if alone or not sounds:
        what = f"{len(alone)} files without a partner, first {alone[0]}" if alone else "no clips"
        raise UserError(Fault(str(root), what, "a wav and an mp4 of every name"))
    names = sorted(sounds, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    return [Clip(name, sounds[name], films[name], -1, "", "evaluation") for name in names]


def is_unlabelled(root: Path) -> bool:
    """Whether a folder is an evaluation set: clips, but no tables."""
    return root.is_dir() and _find(root, "evaluation_setup/fold1_train.csv") is None and bool(_find(root, "audio"))


def split_parts(data: DataSet, split: Split) -> Parts:
    """Cut a validation part from the training split, whole locations only: a share of every scene's, or a fold of them.

    Raises UserError when a scene has too few training locations for that.
    """
    rng = np.random.default_rng(split.seed)
    held: set[str] = set()
    faults = []
    needed = 2 if split.fold is None else split.folds
    for index, scene in enumerate(SCENES):
        of_scene = (clip.location for clip in data.clips if clip.scene == index and clip.split == "train")
        locations = sorted(set(of_scene))
        if locations and len(locations) < needed:
            what = f"{scene} has {len(locations)} training location{'s' if len(locations) > 1 else ''}"
            allowed = "two or more, to hold one out" if split.fold is None else f"{needed} or more, one for each fold"
            faults.append(Fault(str(data.root), what, allowed))
        elif locations:
            mixed = rng.permutation(locations)
            count = min(max(1, round(split.validation * len(locations))), len(locations) - 1)
            part = mixed[:count] if split.fold is None else np.array_split(mixed, split.folds)[split.fold]
            held.update(part.tolist())
    if faults:
        raise UserError(faults)
    side = np.array([clip.split if clip.location not in held else "validation" for clip in data.clips])
    return Parts(*(np.flatnonzero(side == part) for part in ("train", "validation", "test")))


def read_table(path: Path, faults: list[Fault], columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a TAB-separated table with their line numbers; tolerates CRLF, a BOM, `filename` for `filename_audio`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        faults.append(Fault(str(path), f"not UTF-8 text ({error.reason})", todo="save the table as UTF-8"))
        return
    rows = csv.reader(lines, delimiter="\t")
    header = [{"filename": "filename_audio"}.get(name.strip(), name.strip()) for name in next(rows, [])]
    missing = [name for name in columns if name not in header]
    if missing:
        found = ", ".join(header) or "an empty file"
        faults.append(
            Fault(f"{path}:1", f"no column {', '.join(missing)}", f"found {found}", "TAB-separated, with header")
        )
        return
    for row in rows:
        if len(row) == len(header):
            yield rows.line_num, {name: value.strip() for name, value in zip(header, row, strict=True)}
        elif row:
            faults.append(Fault(f"{path}:{rows.line_num}", f"{len(row)} columns", f"{len(header)} as in the header"))


def _clip(
    row: dict[str, str],
    split: str,
    media: dict[str, Path | None],
    locations: dict[str, str],
    where: str,
    faults: list[Fault],
) -> Clip | None:
    before = len(faults)
    scene = row["scene_label"]
    if scene not in SCENES:
        faults.append(Fault(where, f"unknown scene '{scene}'", near(scene, SCENES)))
    paths = []
    for kind, ending in (("audio", ".wav"), ("video", ".mp4")):
        folder, name = media[kind], row[f"filename_{kind}"]
        path = (folder or Path()) / Path(name).name
        if "://" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            faults.append(Fault(where, f"'{name}' leaves the data folder", f"{kind}/NAME{ending}"))
        elif path.suffix != ending:
            faults.append(Fault(where, f"'{name}' is no {kind} file", f"{kind}/NAME{ending}"))
        elif folder is not None and not path.is_file():
            faults.append(Fault(where, f"{path} does not exist", todo="unpack it again or remove the row"))
        elif folder is not None and path.resolve().parent != folder.resolve():
            faults.append(Fault(where, f"{path} is a link out of the data folder", todo="put the file there"))
        paths.append(path)
    name = paths[0].stem
    parts = name.split("-")
    if len(parts) != 4 or not all(parts):
        faults.append(Fault(where, f"'{name}' is no clip name", "scene-city-location-segment"))
    elif paths[1].stem != name:
        faults.append(Fault(where, f"audio {name} beside video {paths[1].stem}", "the same name for both"))
    elif scene in SCENES and parts[0] != scene:
        faults.append(Fault(where, f"{name} is labelled {scene}", "the scene that its name begins with"))
    if len(faults) > before:
        return None
    place = locations.get(name, f"{parts[1]}-{parts[2]}")
    return Clip(name, paths[0], paths[1], SCENES.index(scene), place, split, where)


def _identifiers(root: Path) -> dict[str, str]:
    """Clip name -> identifier from meta.csv where there is one; the name itself says it otherwise."""
    path = _find(root, "meta.csv")
    rows = read_table(path, [], ("filename_audio", "identifier")) if path else ()
    return {Path(row["filename_audio"]).stem: row["identifier"] for _, row in rows}


def _leaks(clips: Iterable[Clip]) -> list[Fault]:
    """Locations that stand in both splits: a model could then recognise the place instead of the scene."""
    sides: dict[str, set[str]] = {}
    for clip in clips:
        sides.setdefault(clip.location, set()).add(clip.split)
    both = sorted(location for location, splits in sides.items() if len(splits) > 1)
    return [Fault(location, "location in both train and test", todo="keep it on one side") for location in both]


def _not_as_published(root: Path, clips: list[Clip]) -> list[Fault]:
    """Where a complete data set's split differs from the published one."""
    faults = []
    for split, count in PUBLISHED.items():
        own = [clip for clip in clips if clip.split == split]
        places = len({clip.location for clip in own})
        if (len(own), places) != (count, PUBLISHED_LOCATIONS[split]):
            what = f"{split} has {len(own)} clips at {places} locations"
            allowed = f"{count} at {PUBLISHED_LOCATIONS[split]}, as published"
            faults.append(Fault(str(root), what, allowed, "unpack evaluation_setup again"))
    return faults


def _find(root: Path, name: str) -> Path | None:
    """`root/name`, `root/*/name` .. to depth 3, the shallowest first."""
    for depth in range(4):
        found = sorted(root.glob("*/" * depth + name))
        if found:
            return found[0]
    return None


def media_contents(root: Path, clips: Sequence[Clip], progress: Progress) -> tuple[list[str], list[str]]:
    """SHA-256 of every clip's wav and of every clip's mp4."""
    index = cache_root() / "contents" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    paths = [clip.audio for clip in clips] + [clip.video for clip in clips]
    found = contents(index, paths, partial(progress, "reading files"))
    return found[: len(clips)], found[len(clips) :]


def _fingerprint(clips: Sequence[Clip], sounds: Sequence[str], films: Sequence[str], labels: Labels) -> str:
    """Sixteen hex digits over every row, file and label."""
    digest = hashlib.sha256()
    for clip, sound, film in zip(clips, sounds, films, strict=True):
        digest.update(f"{clip.name} {clip.scene} {clip.location} {clip.split} {sound} {film}\n".encode())
    for array in (labels.events, labels.objects, *labels.scores.values()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
