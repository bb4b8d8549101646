"""TAU Audio-Visual Urban Scenes 2021 as it lies on disk -> a list of clips with scene, location and split.

The tables are TAB-separated with a header: `meta.csv` (filename_audio, filename_video, scene_label, identifier) and
`evaluation_setup/fold1_{train,evaluate}.csv`. Names read `{scene}-{city}-{location}-{segment}.{wav|mp4}`. Where they
lie, layout.py finds out.
"""

from pathlib import Path

from avsc_core.data.layout import DataLayout, find_layout, read_skipped, read_table
from avsc_core.data.own import TABLE, read_own
from avsc_core.data.tables import Clip, Tables, find_leaks
from avsc_core.errors import Fault, UserError, suggest
from avsc_core.labels import SCENES

CLIP_SECONDS = 10.0
PUBLISHED = {"train": 8646, "test": 3645}  # clips of the development set
PUBLISHED_LOCATIONS = {"train": 305, "test": 126}
FOLDS = {"train": "fold1_train.csv", "test": "fold1_evaluate.csv"}


def read_clips(root: Path) -> Tables:
    """The clips of a data set, TAU's or one's own, and every fault found on the way."""
    if not root.is_dir():
        return _nothing(
            Fault(str(root), "no such folder", todo="give the folder that holds audio/ and video/")
        )
    if (root / TABLE).is_file():
        return read_own(root)
    layout = find_layout(root)
    if layout.setup is None:
        allowed = f"evaluation_setup/fold1_train.csv at most three folders down, or {TABLE}"
        return _nothing(
            Fault(
                str(root),
                "not a TAU data set",
                allowed,
                "`avsc-core demo-data DIR` writes one to look at",
            )
        )
    faults = _no_media(root, layout)
    locations = _identifiers(layout, faults)
    skipped = read_skipped(root)
    clips: dict[str, Clip] = {}
    for split, table in FOLDS.items():
        path = layout.setup / table
        if not path.is_file():
            faults.append(
                Fault(str(path), "no such file", todo="both folds are needed: train and evaluate")
            )
            continue
        for line, row in read_table(
            path, faults, ("filename_audio", "filename_video", "scene_label")
        ):
            if Path(row["filename_audio"]).stem in skipped:
                continue
            clip = _clip(row, split, layout, locations, f"{path}:{line}", faults)
            if clip is not None and clip.name in clips:
                faults.append(
                    Fault(
                        f"{path}:{line}", f"{clip.name} stands twice", todo="keep one of its rows"
                    )
                )
            elif clip is not None:
                clips[clip.name] = clip
    faults += find_leaks(clips.values())
    if len(clips) >= sum(PUBLISHED.values()) and not faults:
        faults += _not_as_published(root, list(clips.values()))
    return Tables(list(clips.values()), faults, SCENES)


def _nothing(fault: Fault) -> Tables:
    return Tables([], [fault], ())


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
    names = sorted(
        sounds, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name)
    )
    return [Clip(name, sounds[name], films[name], -1, "", "evaluation") for name in names]


def is_unlabelled(root: Path) -> bool:
    """Whether a folder is an evaluation set: clips, but no tables."""
    if not root.is_dir() or (root / TABLE).is_file():
        return False
    layout = find_layout(root)
    return layout.setup is None and layout.audio is not None


def _clip(
    row: dict[str, str],
    split: str,
    layout: DataLayout,
    locations: dict[str, str],
    where: str,
    faults: list[Fault],
) -> Clip | None:
    before = len(faults)
    scene = row["scene_label"]
    if scene not in SCENES:
        faults.append(Fault(where, f"unknown scene '{scene}'", suggest(scene, SCENES)))
    paths = []
    for kind, ending in (("audio", ".wav"), ("video", ".mp4")):
        folder, name = getattr(layout, kind), row[f"filename_{kind}"]
        path = (folder or Path()) / Path(name).name
        if "://" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            faults.append(Fault(where, f"'{name}' leaves the data folder", f"{kind}/NAME{ending}"))
        elif path.suffix != ending:
            faults.append(Fault(where, f"'{name}' is no {kind} file", f"{kind}/NAME{ending}"))
        elif folder is not None and not path.is_file():
            faults.append(
                Fault(where, f"{path} does not exist", todo="unpack it again or remove the row")
            )
        elif folder is not None and path.resolve().parent != folder.resolve():
            faults.append(
                Fault(where, f"{path} is a link out of the data folder", todo="put the file there")
            )
        paths.append(path)
    name = paths[0].stem
    parts = name.split("-")
    if len(parts) != 4 or not all(parts):
        faults.append(Fault(where, f"'{name}' is no clip name", "scene-city-location-segment"))
    elif paths[1].stem != name:
        faults.append(
            Fault(where, f"audio {name} beside video {paths[1].stem}", "the same name for both")
        )
    elif scene in SCENES and parts[0] != scene:
        faults.append(
            Fault(where, f"{name} is labelled {scene}", "the scene that its name begins with")
        )
    if len(faults) > before:
        return None
    place = locations.get(name, f"{parts[1]}-{parts[2]}")
    return Clip(name, paths[0], paths[1], SCENES.index(scene), place, split, where)


def _no_media(root: Path, layout: DataLayout) -> list[Fault]:
    missing = [kind for kind in ("audio", "video") if getattr(layout, kind) is None]
    return [
        Fault(str(root), f"no folder {kind}/", "at most three folders down") for kind in missing
    ]


def _identifiers(layout: DataLayout, faults: list[Fault]) -> dict[str, str]:
    """Clip name -> identifier from meta.csv where there is one; the name itself says it otherwise."""
    rows = read_table(layout.meta, faults, ("filename_audio", "identifier")) if layout.meta else ()
    return {Path(row["filename_audio"]).stem: row["identifier"] for _, row in rows}


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
