"""This module reads TAU Audio-Visual Urban Scenes 2021 into clips.

The tables are TAB-separated with a header: `meta.csv` (filename_audio, filename_video, scene_label,
identifier) and `evaluation_setup/fold1_{train,evaluate}.csv`. Files are called
`{scene}-{city}-{location}-{segment}.{wav|mp4}`. layout.py finds the folders. A folder with a
`clips.csv` is a data set of one's own, which own.py reads.
"""

from collections.abc import Iterator
from pathlib import Path

from avsc_core.data.layout import DataLayout, find_layout, read_skipped, read_table
from avsc_core.data.own import TABLE, read_own
from avsc_core.data.tables import Clip, Tables, find_leaks
from avsc_core.errors import Fault, UserError, make_error, suggest
from avsc_core.labels import SCENES

CLIP_SECONDS = 10.0
PUBLISHED = {"train": (8646, 305), "test": (3645, 126)}  # clips and locations, development set
PUBLISHED_CLIPS = sum(clips for clips, _ in PUBLISHED.values())
FOLDS = {"train": "fold1_train.csv", "test": "fold1_evaluate.csv"}
ENDINGS = {"audio": ".wav", "video": ".mp4"}
COLUMNS = ("filename_audio", "filename_video", "scene_label")


def read_clips(root: Path) -> Tables:
    """Read the clips of a data set, TAU's or one's own, and collect every fault on the way.

    Raises UserError only for a damaged layout.yaml or skip.tsv.
    """
    # Which kind of data set is it, if any?
    if not root.is_dir():
        todo = "give the folder that holds audio/ and video/"
        return Tables([], [Fault(str(root), "no such folder", todo=todo)], ())
    if (root / TABLE).is_file():
        return read_own(root)
    layout = find_layout(root)
    if layout.setup is None:
        fault = Fault(
            str(root),
            "not a TAU data set",
            f"evaluation_setup/fold1_train.csv at most three folders down, or {TABLE}",
            "`avsc-core demo-data DIR` writes one to look at",
        )
        return Tables([], [fault], ())

    # TAU's: read both folds, and find locations in both of them.
    faults = list(_find_missing_folders(root, layout))
    clips = _read_folds(root, layout, layout.setup, faults)
    faults += find_leaks(clips)

    # A part of the data set is welcome, but the complete one has to be split as published.
    if len(clips) >= PUBLISHED_CLIPS and not faults:
        faults += _compare_with_published(root, clips)
    return Tables(clips, faults, SCENES)


def read_unlabelled(root: Path) -> list[Clip]:
    """Read an evaluation set: audio/ and video/ without tables or labels.

    A clip is a wav and an mp4 of the same name; clips are in the order of their numbers. Raises
    UserError when a folder or a partner is missing.
    """
    layout = find_layout(root)
    if layout.audio is None or layout.video is None:
        raise UserError(_find_missing_folders(root, layout))

    # Every wav needs its mp4, and every mp4 its wav.
    audio_files = _list_files(layout.audio, ".wav")
    video_files = _list_files(layout.video, ".mp4")
    unpaired = sorted(set(audio_files) ^ set(video_files))
    what = "" if audio_files else "no clips"
    if unpaired:
        what = f"{len(unpaired)} files without a partner, first {unpaired[0]}"
    if what:
        raise make_error(root, what, "a wav and an mp4 of every name")

    clips = []
    for name in sorted(audio_files, key=_sort_by_number):
        clips.append(Clip(name, audio_files[name], video_files[name], -1, "", "evaluation"))
    return clips


def is_unlabelled(root: Path) -> bool:
    """Return whether a folder is an evaluation set: one with clips, but without tables."""
    if not root.is_dir() or (root / TABLE).is_file():
        return False
    layout = find_layout(root)
    return layout.setup is None and layout.audio is not None


def _find_missing_folders(root: Path, layout: DataLayout) -> Iterator[Fault]:
    """Yield a fault for each of audio/ and video/ that the data set lacks."""
    for medium in ENDINGS:
        if getattr(layout, medium) is None:
            yield Fault(str(root), f"no folder {medium}/", "at most three folders down")


def _read_folds(root: Path, layout: DataLayout, setup: Path, faults: list[Fault]) -> list[Clip]:
    """Read the clips of both fold tables; adds the faults of their rows to `faults`."""
    # meta.csv, when there is one, has the identifier of each clip's location.
    identifiers = {}
    if layout.meta:
        for _, row in read_table(layout.meta, faults, ("filename_audio", "identifier")):
            identifiers[Path(row["filename_audio"]).stem] = row["identifier"]
    skipped = read_skipped(root)
    clips = {}

    for split, table in FOLDS.items():
        path = setup / table
        if not path.is_file():
            todo = "both folds are needed: train and evaluate"
            faults.append(Fault(str(path), "no such file", todo=todo))
            continue

        for line, row in read_table(path, faults, COLUMNS):
            name = Path(row["filename_audio"]).stem
            if name in skipped:
                continue

            # A row with a fault of its own gives no clip, and is not compared with the others.
            where = f"{path}:{line}"
            row_faults = list(_find_row_faults(row, root, layout, where))
            if row_faults:
                faults += row_faults
            elif name in clips:
                faults.append(Fault(where, f"{name} is given twice", todo="keep one of its rows"))
            else:
                clips[name] = _build_clip(row, split, layout, identifiers, where)
    return list(clips.values())


def _find_row_faults(
    row: dict[str, str], root: Path, layout: DataLayout, where: str
) -> Iterator[Fault]:
    """Yield what is wrong with a row of a fold table: its scene, its two files, their names."""
    scene = row["scene_label"]
    if scene not in SCENES:
        yield Fault(where, f"unknown scene '{scene}'", suggest(scene, SCENES))

    for medium in ENDINGS:
        yield from _find_file_faults(row[f"filename_{medium}"], medium, root, layout, where)

    # Both files have one name, which begins with the scene.
    name = _locate_file(row["filename_audio"], layout.audio).stem
    video_name = _locate_file(row["filename_video"], layout.video).stem
    parts = name.split("-")
    if len(parts) != 4 or not all(parts):
        yield Fault(where, f"'{name}' is not a clip name", "scene-city-location-segment")
    elif video_name != name:
        yield Fault(where, f"audio {name} beside video {video_name}", "the same name for both")
    elif scene in SCENES and parts[0] != scene:
        yield Fault(where, f"{name} is labelled {scene}", "the scene that its name begins with")


def _locate_file(name: str, folder: Path | None) -> Path:
    """Return the path of a file that a table names; only the last part of the name counts."""
    return (folder or Path()) / Path(name).name


def _find_file_faults(
    name: str, medium: str, root: Path, layout: DataLayout, where: str
) -> Iterator[Fault]:
    """Yield what is wrong with a file in a table, which has to be in the folder of its medium.

    It may be a link to another place in the data folder, as git-annex and DataLad make them.
    """
    folder = getattr(layout, medium)
    path = _locate_file(name, folder)
    ending = ENDINGS[medium]
    allowed = f"{medium}/NAME{ending}"
    if "://" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        yield Fault(where, f"'{name}' leaves the data folder", allowed)
    elif path.suffix.lower() != ending:
        article = "an" if medium == "audio" else "a"
        yield Fault(where, f"'{name}' is not {article} {medium} file", allowed)
    elif folder is None:
        return  # the missing folder is a fault of its own
    elif not path.is_file():
        yield Fault(where, f"{path} does not exist", todo="unpack it again or remove the row")
    elif not any(path.resolve().is_relative_to(each.resolve()) for each in (folder, root)):
        yield Fault(where, f"{path} is a link out of the data folder", todo="put the file there")


def _build_clip(
    row: dict[str, str],
    split: str,
    layout: DataLayout,
    identifiers: dict[str, str],
    where: str,
) -> Clip:
    """Build the clip of a row without faults; meta.csv, else its name, tells its location."""
    audio = _locate_file(row["filename_audio"], layout.audio)
    video = _locate_file(row["filename_video"], layout.video)
    _, city, location, _ = audio.stem.split("-")
    return Clip(
        audio.stem,
        audio,
        video,
        scene=SCENES.index(row["scene_label"]),
        location=identifiers.get(audio.stem, f"{city}-{location}"),
        split=split,
        row=where,
    )


def _list_files(folder: Path, ending: str) -> dict[str, Path]:
    """Return the files of a folder with this ending by their name without it.

    What macOS writes beside the files of other systems, `._NAME`, is none of them.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == ending and not path.name.startswith("._"):
            found[path.stem] = path
    return found


def _sort_by_number(name: str) -> tuple[bool, int, str]:
    """Return a sort key: numbers in their order first, then all other names."""
    return (False, int(name), name) if name.isdigit() else (True, 0, name)


def _compare_with_published(root: Path, clips: list[Clip]) -> Iterator[Fault]:
    """Yield a fault for each split of a complete data set that is not the published one."""
    for split, published in PUBLISHED.items():
        locations = [clip.location for clip in clips if clip.split == split]
        found = (len(locations), len(set(locations)))
        if found != published:
            yield Fault(
                str(root),
                f"{split} has {found[0]} clips at {found[1]} locations",
                f"{published[0]} at {published[1]}, as published",
                "unpack evaluation_setup again",
            )
