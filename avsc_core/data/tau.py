"""TAU Audio-Visual Urban Scenes 2021 as it lies on disk -> a list of clips with scene, location and split.

The tables are TAB-separated with a header: `meta.csv` (filename_audio, filename_video, scene_label, identifier) and
`evaluation_setup/fold1_{train,evaluate}.csv`. Names read `{scene}-{city}-{location}-{segment}.{wav|mp4}`. Where they
lie, layout.py finds out.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from avsc_core.data.layout import Layout, find_layout, read_skipped, read_table
from avsc_core.errors import Fault, UserError, near
from avsc_core.labels import SCENES

CLIP_SECONDS = 10.0
PUBLISHED = {"train": 8646, "test": 3645}  # clips of the development set
PUBLISHED_LOCATIONS = {"train": 305, "test": 126}
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


def read_clips(root: Path) -> tuple[list[Clip], list[Fault]]:
    """The clips of both folds in the order of their tables, and every fault found on the way."""
    if not root.is_dir():
        return [], [Fault(str(root), "no such folder", todo="give the folder that holds audio/ and video/")]
    layout = find_layout(root)
    if layout.setup is None:
        allowed = "evaluation_setup/fold1_train.csv at most three folders down"
        return [], [Fault(str(root), "not a TAU data set", allowed, "`avsc-core demo-data DIR` writes one to look at")]
    faults = _no_media(root, layout)
    locations = _identifiers(layout, faults)
    skipped = read_skipped(root)
    clips: dict[str, Clip] = {}
    for split, table in FOLDS.items():
        path = layout.setup / table
        if not path.is_file():
            faults.append(Fault(str(path), "no such file", todo="both folds are needed: train and evaluate"))
            continue
        for line, row in read_table(path, faults, ("filename_audio", "filename_video", "scene_label")):
            if Path(row["filename_audio"]).stem in skipped:
                continue
            clip = _clip(row, split, layout, locations, f"{path}:{line}", faults)
            if clip is not None and clip.name in clips:
                faults.append(Fault(f"{path}:{line}", f"{clip.name} stands twice", todo="keep one of its rows"))
            elif clip is not None:
                clips[clip.name] = clip
    faults += _leaks(clips.values())
    if len(clips) >= sum(PUBLISHED.values()) and not faults:
        faults += _not_as_published(root, list(clips.values()))
    return list(clips.values()), faults


def read_unlabelled(root: Path) -> list[Clip]:
    """The clips of an evaluation set: wav and mp4 of the same name in audio/ and video/, without tables or labels.

    In the order of their numbers. Raises UserError when a folder or a partner is missing.
    """
    layout = find_layout(root)
    faults = _no_media(root, layout)
    if faults:
        raise UserError(faults)
    sounds, films = (
        {path.stem: path for path in folder.glob(f"*{ending}")}
        for folder, ending in ((layout.audio, ".wav"), (layout.video, ".mp4"))
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
    if not root.is_dir():
        return False
    layout = find_layout(root)
    return layout.setup is None and layout.audio is not None


def _clip(
    row: dict[str, str],
    split: str,
    layout: Layout,
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
        folder, name = getattr(layout, kind), row[f"filename_{kind}"]
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


def _no_media(root: Path, layout: Layout) -> list[Fault]:
    missing = [kind for kind in ("audio", "video") if getattr(layout, kind) is None]
    return [Fault(str(root), f"no folder {kind}/", "at most three folders down") for kind in missing]


def _identifiers(layout: Layout, faults: list[Fault]) -> dict[str, str]:
    """Clip name -> identifier from meta.csv where there is one; the name itself says it otherwise."""
    rows = read_table(layout.meta, faults, ("filename_audio", "identifier")) if layout.meta else ()
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
