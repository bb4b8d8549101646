"""Writes what is derived from the code, for people and for editors: `make reference`.

    studies/schema.json     what a study file may have; editors complete and check files by it
    docs/configuration.md   every setting: its values, its default, and what config.py says of it

The words are the comments of `avsc_core/config.py`, so that a setting is described in one place.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from avsc_core import config
from avsc_core.config import Config
from avsc_core.resolve import format_value, list_presets, list_settings
from search_spaces.catalogue import CATALOGUE, GROUPS
from studies.study.schema import Metric, Seed, SeedsPart, StudyFile

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "studies/schema.json"
REFERENCE = ROOT / "docs/configuration.md"

Schema = dict[str, Any]


def main() -> None:
    """Write both files."""
    SCHEMA.write_text(make_schema(), encoding="utf-8")
    REFERENCE.write_text(make_reference(), encoding="utf-8")


def make_schema() -> str:
    """Make the JSON schema of study files, as text."""
    schema = StudyFile.model_json_schema()
    settings = Config.model_json_schema()
    definitions = schema["$defs"] | settings["$defs"]
    definitions["Settings"] = _make_settings(settings)
    definitions["Space"] = _make_space()
    either = {"$ref": "#/$defs/Settings"}

    # What StudyFile leaves to reading.py is said here.
    parts = schema["properties"]
    parts["base"] = either
    parts["preset"] = {"enum": [*list_presets(), None]}
    parts["ladder"]["anyOf"][0]["items"] = {"anyOf": [parts["preset"], either]}
    metric = TypeAdapter(Metric).json_schema()
    parts["metric"] = {
        "anyOf": [metric, {"type": "array", "items": metric, "minItems": 1, "maxItems": 2}]
    }
    definitions["SeedsPart"] = SeedsPart.model_json_schema()
    seeds = {"type": "array", "items": TypeAdapter(Seed).json_schema(), "minItems": 1}
    parts["seeds"] = {"anyOf": [seeds, {"$ref": "#/$defs/SeedsPart"}]}
    definitions["ArmPart"]["properties"]["set"] = either
    definitions["SearchPart"]["properties"]["space"] = {"$ref": "#/$defs/Space"}

    schema |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": definitions}
    schema["title"] = "A study of avsc"
    return json.dumps(_leave_out(schema), indent=1) + "\n"


def make_reference() -> str:
    """Make the page of all settings, as text."""
    lines = [
        "# Settings",
        "",
        "Every setting of a training, with its default in preset `paper`. They are set in a study",
        "file (`base:`, `set:`), with `--set key=value`, or in a file for `--config`;",
        "`avsc-core config` prints them as they are resolved. This page is made from",
        "`avsc_core/config.py` by `make reference`.",
    ]
    schema = Config.model_json_schema()
    defaults = list_settings(Config())
    comments = read_comments()
    for section, fields in _list_sections(schema):
        lines += ["", f"## {section or 'At the top'}", ""]
        if section:
            lines += [_join(fields.get("description", "")), ""]
        lines += ["| setting | values | default | |", "|---|---|---|---|"]
        for name, field in fields["properties"].items():
            key = f"{section}.{name}" if section else name
            if key in defaults:
                default = format_value(defaults[key])
                cells = [f"`{key}`", describe_values(field), f"`{default}`", comments[key]]
                lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def read_comments() -> dict[str, str]:
    """Read what config.py says of each setting: dotted key -> text, which may be empty."""
    by_field = _read_comments_of_classes()
    comments = {}
    for section, fields in _list_sections(Config.model_json_schema()):
        # A branch has fields of its own, and those of every branch.
        classes = [each.__name__ for each in getattr(config, fields["title"]).__mro__]
        for name in fields["properties"]:
            found = (by_field.get((each, name), "") for each in classes)
            comments[f"{section}.{name}" if section else name] = next(filter(None, found), "")
    return comments


def _read_comments_of_classes() -> dict[tuple[str, str], str]:
    """Read the comments of the fields of config.py's classes: (class, field) -> text."""
    source = inspect.getsource(config)
    rows = source.splitlines()
    comments = {}
    for section in ast.parse(source).body:
        if not isinstance(section, ast.ClassDef):
            continue
        for field in section.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                comments[section.name, field.target.id] = _read_comment(rows, field)
    return comments


def describe_values(field: Schema) -> str:
    """Describe the values of a setting, given its JSON schema."""
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(map(describe_values, field["anyOf"])))
    kind = field.get("type", "anything")
    if kind == "array":
        items = field.get("items") or {}
        return f"a list of {describe_values(items)}" if items else "a list"
    names = {"number": "number", "integer": "whole number", "boolean": "true or false"}
    text = names.get(kind, {"string": "text", "null": "`null`"}.get(kind, kind))
    return " ".join([text, *_describe_bounds(field)])


def _describe_bounds(field: Schema) -> Iterator[str]:
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "over {}",
        "maximum": "to {}",
        "exclusiveMaximum": "below {}",
    }
    for bound, text in words.items():
        if bound in field:
            yield text.format(field[bound])


def _list_sections(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """List the sections of the configuration with their fields, the top without a name first."""
    yield "", schema
    for name, part in schema["properties"].items():
        if "$ref" in part:
            yield name, schema["$defs"][part["$ref"].rpartition("/")[2]]


def _make_settings(schema: Schema) -> Schema:
    """Make the schema of settings, which are written in sections or by dotted keys."""
    properties = dict(schema["properties"])
    for section, fields in _list_sections(schema):
        if section:
            for name, field in fields["properties"].items():
                properties[f"{section}.{name}"] = field
    for key, comment in read_comments().items():
        if comment:
            properties[key] = {**properties[key], "description": comment}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _make_space() -> Schema:
    """Make the schema of a search's space: its dimensions, and groups of these."""
    numbers = {name: {"type": "number"} for name in ("low", "high", "step")}
    limits = {
        "type": "object",
        "properties": numbers | {"log": {"type": "boolean"}},
        "additionalProperties": False,
    }
    values = {"anyOf": [{"type": "null"}, {"type": "array", "minItems": 1}, limits]}
    names = [*GROUPS, *CATALOGUE]
    properties = dict.fromkeys(names, values)
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _leave_out(part: Any) -> Any:
    """Leave out titles and defaults: a title repeats the key, and a default is the preset's."""
    if isinstance(part, list):
        return [_leave_out(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {}
    for key, value in part.items():
        if key == "properties":
            kept[key] = {name: _leave_out(each) for name, each in value.items()}
        elif key not in ("title", "default"):
            kept[key] = _leave_out(value)
    return kept


def _read_comment(rows: list[str], field: ast.AnnAssign) -> str:
    """Read the comment above a field, or behind it."""
    above: list[str] = []
    row = field.lineno - 2
    while row >= 0 and rows[row].strip().startswith("#"):
        above.insert(0, rows[row].strip().removeprefix("#").strip())
        row -= 1
    behind = rows[field.end_lineno - 1][field.end_col_offset :] if field.end_lineno else ""
    return _join(" ".join(above) or behind.strip().removeprefix("#"))


def _join(text: str) -> str:
    return " ".join(textwrap.dedent(text).split())


if __name__ == "__main__":
    main()
