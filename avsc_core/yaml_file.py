"""YAML files that people write, read with the line of every key.

A path into the file is a tuple of keys and list positions, for instance ("arms", 2, "set", "alignment.k"); `Located`
knows the line of each, so that a fault can say `lambda.yaml:14`. Values are JSON's: numbers follow YAML 1.2 (`1e-3` is
a number here; the parser's own default reads it as text) and a date is text. A key given twice is a fault, not a silent
overwrite, and so is a setting that stands dotted and nested (`alignment.k` beside `alignment: {k: ...}`).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from avsc_core.errors import Fault, UserError

Trail = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 numbers and without dates, bytes and sets, which no setting is."""


KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
_Loader.yaml_constructors = {
    tag: build
    for tag, build in _Loader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in KINDS
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


@dataclass
class Located:
    """The content of a YAML file and the line of every key and list item in it."""

    name: str
    data: Any
    lines: dict[Trail, int] = field(default_factory=dict)
    over: dict[Trail, str] = field(
        default_factory=dict
    )  # what a command line put over the file, and the flag

    def where(self, *trail: str | int) -> str:
        """The flag that put `trail` over the file, else `file:line` of the deepest part of it that stands there."""
        for end in range(1, len(trail) + 1):
            if trail[:end] in self.over:
                return self.over[trail[:end]]
        while trail and trail not in self.lines:
            trail = trail[:-1]
        return f"{self.name}:{self.lines.get(trail, 1)}"


def read_yaml(path: Path) -> Located:
    """Read a YAML file. Raises UserError when it is missing, not text, not YAML, or names a key twice."""
    if not path.is_file():
        raise UserError(Fault(str(path), "no such file", _neighbours(path)))
    try:
        text = path.read_text(encoding="utf-8-sig")
        loader = _Loader(text)
        node = loader.get_single_node()
        located = Located(str(path), {} if node is None else loader.construct_document(node))
        faults: list[Fault] = []
        if node is not None:
            _collect(node, (), located, set(), faults)
    except RecursionError:
        what = "not YAML: nested too deeply, or an alias within what it stands for"
        raise UserError(Fault(str(path), what)) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(
            Fault(
                f"{path}:{line}", f"not YAML: {error.problem}", todo="check indentation and quotes"
            )
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, TypeError) as error:
        raise UserError(Fault(str(path), f"not YAML: {error}")) from None
    if faults:
        raise UserError(faults)
    return located


def read_value(text: str) -> Any:
    """One value as YAML reads it (`0.5`, `1e-3`, `true`, `[1, 2]`, `lkm`), for `--set key=value`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, LookupError, AttributeError, ValueError, TypeError, RecursionError):
        return text


def _collect(
    node: yaml.Node, trail: Trail, located: Located, seen: set[str], faults: list[Fault]
) -> None:
    """Walk the parsed nodes: note every line, and every key that stands twice; `seen` has the dotted ones so far."""
    located.lines.setdefault(trail, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            dotted = ".".join(map(str, (*trail, name)))
            if dotted in seen:
                faults.append(
                    Fault(
                        f"{located.name}:{line}", f"'{name}' stands twice", todo="keep one of them"
                    )
                )
            seen.add(dotted)
            located.lines[(*trail, name)] = line
            _collect(value, (*trail, name), located, seen, faults)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _collect(item, (*trail, position), located, seen, faults)


def _neighbours(path: Path) -> str:
    """The YAML files beside a missing one, as a hint."""
    names = (
        sorted(other.name for other in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    )
    return f"{path.parent} has {', '.join(names[:8])}" if names else ""
