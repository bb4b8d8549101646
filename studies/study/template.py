"""Writes a study file of one's own, from one that ships: `avsc-search new`."""

import re
from pathlib import Path

from avsc_core.errors import make_error, suggest
from avsc_core.files import write_text
from studies.study.tables import SHIPPED, list_shipped

SCHEMA_LINE = "# yaml-language-server: $schema="
CHARACTERS = re.compile(r"[\w-]+")  # of a name, which is part of file names and addresses


def write_study_file(name: str, source: str) -> Path:
    """Write NAME.yaml in the current folder, with all that the study `source` says, which ships.

    Raises UserError when there is such a file already, or no such study.
    """
    path = Path(f"{name}.yaml")
    if not CHARACTERS.fullmatch(name):
        raise make_error("NAME", f"'{name}' is not a name", "letters, digits, _ and -")
    if path.exists():
        raise make_error("NAME", f"{path} exists already", todo="give another name")

    if source not in list_shipped():
        raise make_error("--from", f"no study '{source}' ships", suggest(source, list_shipped()))

    text = (SHIPPED / f"{source}.yaml").read_text(encoding="utf-8")
    lines = [
        f"{SCHEMA_LINE}{SHIPPED / 'schema.json'}" if line.startswith(SCHEMA_LINE) else line
        for line in text.splitlines()
    ]
    command = re.compile(rf"(avsc-search \w+) studies/{re.escape(source)}\.yaml")
    write_text(path, command.sub(rf"\1 {path}", "\n".join(lines)) + "\n")
    return path
