"""This module finds the parts of a data set in its folder, and the list of clips to leave out.

Downloads differ in their folders, so the tables, `audio/` and `video/` are each searched for, at
most three folders down. Two files in the folder of the data set take precedence, and every command
reads both:

    layout.yaml     where the parts are: `audio: /disk2/audio`, also video, setup and meta
    skip.tsv        clips to leave out (columns clip, fault); `avsc-core check --skip-bad` writes it
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from avsc_core.errors import Fault, UserError, make_error, suggest
from avsc_core.files import write_text
from avsc_core.yaml_file import read_yaml

LAYOUT_FILE = "layout.yaml"
SKIP_FILE = "skip.tsv"
FOLD_FILE = "fold1_train.csv"  # the folder that holds this table holds the set-up
DEEPEST = 3  # folders between the data set's folder and one of its parts
SYNONYMS = {"filename": "filename_audio"}  # the column of TAU's audio-only tables


class DataLayout(NamedTuple):
    """The folders of a data set and its meta.csv; None for a part that is missing."""

    audio: Path | None
    video: Path | None
    setup: Path | None  # the folder of the fold tables
    meta: Path | None


def find_layout(root: Path) -> DataLayout:
    """Find the parts of the data set at `root`.

    Raises UserError when layout.yaml has an unknown key or a path that does not exist.
    """
    # A path in layout.yaml takes precedence over a folder that was found.
    named = _read_layout_file(root)
    fold_table = find_shallowest(root, f"evaluation_setup/{FOLD_FILE}")
    found = {
        "audio": find_shallowest(root, "audio"),
        "video": find_shallowest(root, "video"),
        "setup": fold_table.parent if fold_table else None,
        "meta": find_shallowest(root, "meta.csv"),
    }
    return DataLayout(**(found | named))


def find_shallowest(root: Path, name: str) -> Path | None:
    """Find `root/name`, else `root/*/name` and so on, to DEEPEST folders."""
    for depth in range(DEEPEST + 1):
        found = sorted(root.glob("*/" * depth + name))
        if found:
            return found[0]
    return None


def read_skipped(root: Path) -> dict[str, str]:
    """Read the clips that skip.tsv leaves out, each with its fault.

    Raises UserError for a damaged table.
    """
    path = root / SKIP_FILE
    if not path.is_file():
        return {}

    faults: list[Fault] = []
    skipped = {}
    for _, row in read_table(path, faults, ("clip", "fault")):
        skipped[row["clip"]] = row["fault"]
    if faults:
        raise UserError(faults)
    return skipped


def write_skipped(root: Path, fault_of: Mapping[str, str]) -> Path:
    """Add clips, each with its fault, to those that are left out; returns the path of skip.tsv."""
    skipped = read_skipped(root)
    for name, fault in fault_of.items():
        skipped[name] = " ".join(fault.split())  # a cell holds no TAB and no line end

    # Sorted, so that the same clips give the same file.
    lines = ["clip\tfault"]
    lines += [f"{name}\t{fault}" for name, fault in sorted(skipped.items())]
    path = root / SKIP_FILE
    write_text(path, "\n".join(lines) + "\n")
    return path


def read_table(
    path: Path, faults: list[Fault], columns: tuple[str, ...], delimiter: str = "\t"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table with a header, each as its line number and its cells by column.

    Accepts CRLF, a byte order mark, and `filename` for `filename_audio`. Adds a fault to `faults`
    when the table is not UTF-8, lacks one of `columns`, or has a row that is longer or shorter than
    its header; such rows are left out.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        what = f"not UTF-8 text ({error.reason})"
        faults.append(Fault(str(path), what, todo="save the table as UTF-8 (in Excel: CSV UTF-8)"))
        return
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)

    # The header names the columns.
    names = map(str.strip, next(rows, []))
    header = [SYNONYMS.get(name, name) for name in names]
    missing = [name for name in columns if name not in header]
    if missing:
        what = f"no column {', '.join(missing)}"
        found = f"found {', '.join(header) or 'an empty file'}"
        faults.append(Fault(f"{path}:1", what, found, "TAB-separated, with header"))
        return

    # Blank lines are skipped; a row that does not fit the header is a fault.
    for row in rows:
        if len(row) == len(header):
            yield rows.line_num, dict(zip(header, map(str.strip, row), strict=True))
        elif row:
            where = f"{path}:{rows.line_num}"
            what = f"{len(row)} columns"
            faults.append(Fault(where, what, f"{len(header)} as in the header"))


def _read_layout_file(root: Path) -> dict[str, Path]:
    """Read layout.yaml, when there is one: part -> path, relative to the data set's folder."""
    if not (root / LAYOUT_FILE).is_file():
        return {}
    file = read_yaml(root / LAYOUT_FILE)
    parts = DataLayout._fields
    if not isinstance(file.data, dict):
        allowed = ", ".join(f"{part}: PATH" for part in parts)
        raise make_error(file.where(), "names no part of the data set", allowed)

    faults = []
    paths = {}
    for part, value in file.data.items():
        path = root / str(value)
        if part not in parts:
            what = f"unknown key '{part}'"
            faults.append(Fault(file.where(part), what, suggest(part, parts)))
            continue

        # The set-up is wanted for its tables, the other parts for themselves.
        needed = path / FOLD_FILE if part == "setup" else path
        if needed.exists():
            paths[part] = path
            continue
        what = f"{path} does not exist"
        if part == "setup" and path.is_dir():
            what = f"no {FOLD_FILE} in {path}"
        todo = "a path from the data set's folder"
        faults.append(Fault(file.where(part), f"{part}: {what}", todo=todo))
    if faults:
        raise UserError(faults)
    return paths
