"""One's own data set: a table `clips.csv` in its folder instead of TAU's tables.

    audio            video            scene    group      split
    sound/a1.wav     film/a1.mp4      beach    site-1     train

TAB- or comma-separated, with a header. Paths are relative to the folder and stay in it; `scene` is any name, and the
scenes in alphabetical order are the classes; clips of one `group` (a place, a day, a person) never stand on two sides
of a split; `split` is train or test. Clips are called by the audio file's name without ending, so that is unique.
"""

import csv
from pathlib import Path

from avsc_core.data.layout import read_skipped, read_table
from avsc_core.data.tables import Clip, Tables, find_leaks
from avsc_core.errors import Fault, suggest

TABLE = "clips.csv"
COLUMNS = ("audio", "video", "scene", "group", "split")


def read_own(root: Path) -> Tables:
    """The clips of `root`/clips.csv, and every fault found on the way."""
    path, faults = root / TABLE, list[Fault]()
    rows = list(read_table(path, faults, COLUMNS, _delimiter(path)))
    scenes = tuple(sorted({row["scene"] for _, row in rows if row["scene"]}))
    skipped, clips = read_skipped(root), dict[str, Clip]()
    for line, row in rows:
        where, before = f"{path}:{line}", len(faults)
        name = Path(row["audio"]).stem
        if name in skipped:
            continue
        audio, video = (
            _file(root, row[kind], ending, where, faults)
            for kind, ending in (("audio", ".wav"), ("video", ".mp4"))
        )
        for column in ("scene", "group"):
            if not row[column]:
                faults.append(Fault(where, f"no {column}", todo="every clip has one"))
        if row["split"] not in ("train", "test"):
            faults.append(
                Fault(
                    where,
                    f"unknown split '{row['split']}'",
                    suggest(row["split"], ("train", "test")),
                )
            )
        if name in clips:
            faults.append(
                Fault(where, f"{name} stands twice", todo="give its audio file another name")
            )
        if len(faults) == before:
            clips[name] = Clip(
                name, audio, video, scenes.index(row["scene"]), row["group"], row["split"], where
            )
    if not rows and not faults:
        faults.append(Fault(str(path), "has no clips", ", ".join(COLUMNS)))
    if rows and len(scenes) < 2:
        faults.append(Fault(str(path), f"{len(scenes)} scene", "two or more"))
    return Tables(list(clips.values()), faults + find_leaks(clips.values()), scenes)


def _file(root: Path, name: str, ending: str, where: str, faults: list[Fault]) -> Path:
    path = root / name
    if "://" in name or not path.resolve().is_relative_to(root.resolve()):
        faults.append(
            Fault(where, f"'{name}' leaves the data folder", f"a path to a {ending} file in it")
        )
    elif path.suffix != ending:
        faults.append(Fault(where, f"'{name}' is no {ending} file", f"a path to a {ending} file"))
    elif not path.is_file():
        faults.append(Fault(where, f"{path} does not exist", todo="put it there or remove the row"))
    return path


def _delimiter(path: Path) -> str:
    """A TAB where the header has one, else a comma."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return (
            "\t"
            if "\t" in next(csv.reader([file.readline()], quoting=csv.QUOTE_NONE), [""])[0]
            else ","
        )
