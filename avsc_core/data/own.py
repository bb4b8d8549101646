"""This module reads a data set of one's own from a table `clips.csv` in its folder.

    audio            video            scene    group      split
    sound/a1.wav     film/a1.mp4      beach    site-1     train

The table has a header, and TABs, commas or semicolons between its cells. `audio` and `video` are
paths below the folder. `scene` is any name; the scenes in alphabetical order are the classes. Clips
of one `group` (a place, a day, a person) belong to one split. `split` is train or test. A clip is
called by the name of its audio file without ending, which must be unique.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from avsc_core.data.layout import read_skipped, read_table
from avsc_core.data.tables import VIDEO_ENDINGS, Clip, Tables, find_leaks
from avsc_core.errors import Fault, suggest

TABLE = "clips.csv"
COLUMNS = ("audio", "video", "scene", "group", "split")
SPLITS = ("train", "test")
# A video may be named twice, where its own sound is meant.
ENDINGS = {"audio": (".wav", *VIDEO_ENDINGS), "video": VIDEO_ENDINGS}


def read_own(root: Path) -> Tables:
    """Read the clips of `root`/clips.csv, and collect every fault on the way.

    Raises UserError only for a damaged skip.tsv.
    """
    path = root / TABLE
    faults: list[Fault] = []
    # All rows are read first, because together they name the classes.
    rows = list(read_table(path, faults, COLUMNS, _find_delimiter(path)))
    scenes = tuple(sorted({row["scene"] for _, row in rows if row["scene"]}))
    skipped = read_skipped(root)

    # A row without faults gives a clip.
    clips = {}
    for line, row in rows:
        name = Path(row["audio"]).stem
        if name in skipped:
            continue
        where = f"{path}:{line}"
        row_faults = list(_find_row_faults(root, row, where))
        if name in clips:
            todo = "give its audio file another name"
            row_faults.append(Fault(where, f"{name} is given twice", todo=todo))
        faults += row_faults
        if not row_faults:
            clips[name] = _build_clip(root, row, scenes, where)

    # The table as a whole: clips of at least two scenes, and no group in both splits.
    if not rows and not faults:
        faults.append(Fault(str(path), "has no clips", ", ".join(COLUMNS)))
    if rows and len(scenes) < 2:
        faults.append(Fault(str(path), f"{len(scenes)} scene", "two or more"))
    faults += find_leaks(clips.values())
    return Tables(list(clips.values()), faults, scenes)


def _find_row_faults(root: Path, row: dict[str, str], where: str) -> Iterator[Fault]:
    """Yield what is wrong with a row: its two files, empty cells, its split."""
    for column, endings in ENDINGS.items():
        yield from _find_file_faults(root, row[column], endings, where)
    for column in ("scene", "group"):
        if not row[column]:
            yield Fault(where, f"no {column}", todo="every clip has one")
    if row["split"] not in SPLITS:
        yield Fault(where, f"unknown split '{row['split']}'", suggest(row["split"], SPLITS))


def _find_file_faults(root: Path, name: str, endings: Sequence[str], where: str) -> Iterator[Fault]:
    """Yield what is wrong with a file that the table names; it has to lie below `root`."""
    path = root / name
    kind = " or ".join(endings)
    allowed = f"a path to a {kind} file"
    if "://" in name or not path.resolve().is_relative_to(root.resolve()):
        yield Fault(where, f"'{name}' leaves the data folder", f"{allowed} in it")
    elif path.suffix.lower() not in endings:
        yield Fault(where, f"'{name}' is not a {kind} file", allowed)
    elif not path.is_file():
        yield Fault(where, f"{path} does not exist", todo="put it there or remove the row")


def _build_clip(root: Path, row: dict[str, str], scenes: tuple[str, ...], where: str) -> Clip:
    """Build the clip of a row without faults; its group takes the place of a location."""
    return Clip(
        Path(row["audio"]).stem,
        root / row["audio"],
        root / row["video"],
        scene=scenes.index(row["scene"]),
        location=row["group"],
        split=row["split"],
        row=where,
    )


def _find_delimiter(path: Path) -> str:
    """Return which of TAB, semicolon and comma divides the header; the last one if none does.

    Excel writes semicolons where a comma stands in numbers.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    found = [mark for mark in "\t;," if mark in header]
    return min(found, key=header.index, default=",")
