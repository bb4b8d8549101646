"""Where the parts of a data set lie, and which of its clips are left out.

Folders vary between downloads, so tables, `audio/` and `video/` are each searched for to depth 3. Two files in the data
set's folder say otherwise: layout.yaml where its parts are (`audio: /disk2/audio`; also video, setup, meta), and
skip.tsv which clips to leave out (clip, fault), which `avsc-core check --skip-bad` writes. Every command sees both.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from avsc_core.errors import Fault, UserError, suggest
from avsc_core.files import write_text
from avsc_core.yaml_file import read_yaml

LAYOUT_FILE, SKIP_FILE = "layout.yaml", "skip.tsv"
FOLD = "fold1_train.csv"  # is what makes a folder the set-up's


class DataLayout(NamedTuple):
    """Folders of a data set and its meta.csv; None where there is none."""

    audio: Path | None
    video: Path | None
    setup: Path | None  # the folder of the fold tables
    meta: Path | None


def find_layout(root: Path) -> DataLayout:
    """Where the parts of the data set at `root` lie. Raises UserError when layout.yaml names what is not there."""
    said = _said(root)
    table = find_shallowest(root, f"evaluation_setup/{FOLD}")
    found = {
        "audio": find_shallowest(root, "audio"),
        "video": find_shallowest(root, "video"),
        "setup": table and table.parent,
        "meta": find_shallowest(root, "meta.csv"),
    }
    return DataLayout(**(found | said))


def find_shallowest(root: Path, name: str) -> Path | None:
    """`root/name`, `root/*/name` .. to depth 3, the shallowest first."""
    for depth in range(4):
        found = sorted(root.glob("*/" * depth + name))
        if found:
            return found[0]
    return None


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


def read_table(
    path: Path, faults: list[Fault], columns: tuple[str, ...], delimiter: str = "\t"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with their line numbers; tolerates CRLF, a BOM, `filename` for `filename_audio`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        faults.append(
            Fault(str(path), f"not UTF-8 text ({error.reason})", todo="save the table as UTF-8")
        )
        return
    rows = csv.reader(lines, delimiter=delimiter)
    header = [
        {"filename": "filename_audio"}.get(name.strip(), name.strip()) for name in next(rows, [])
    ]
    missing = [name for name in columns if name not in header]
    if missing:
        found = ", ".join(header) or "an empty file"
        faults.append(
            Fault(
                f"{path}:1",
                f"no column {', '.join(missing)}",
                f"found {found}",
                "TAB-separated, with header",
            )
        )
        return
    for row in rows:
        if len(row) == len(header):
            yield (
                rows.line_num,
                {name: value.strip() for name, value in zip(header, row, strict=True)},
            )
        elif row:
            faults.append(
                Fault(
                    f"{path}:{rows.line_num}",
                    f"{len(row)} columns",
                    f"{len(header)} as in the header",
                )
            )


def _said(root: Path) -> dict[str, Path]:
    """What layout.yaml says, paths relative to the data set's folder."""
    if not (root / LAYOUT_FILE).is_file():
        return {}
    file, faults, said = read_yaml(root / LAYOUT_FILE), list[Fault](), dict[str, Path]()
    if not isinstance(file.data, dict):
        raise UserError(
            Fault(
                file.where(),
                "says nothing",
                ", ".join(f"{name}: PATH" for name in DataLayout._fields),
            )
        )
    for key, value in file.data.items():
        path = root / str(value)
        if key not in DataLayout._fields:
            faults.append(
                Fault(file.where(key), f"unknown key '{key}'", suggest(key, DataLayout._fields))
            )
        elif not (path / FOLD if key == "setup" else path).exists():
            what = (
                f"no {FOLD} in {path}"
                if key == "setup" and path.is_dir()
                else f"{path} does not exist"
            )
            faults.append(
                Fault(file.where(key), f"{key}: {what}", todo="a path from the data set's folder")
            )
        else:
            said[key] = path
    if faults:
        raise UserError(faults)
    return said
