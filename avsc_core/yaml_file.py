"""YAML files that people write, read with the line of every key.

A path into the file is a tuple of keys and list positions, for instance ("arms", 2, "set", "alignment.k"); `Located`
knows the line of each, so that a fault can say `lambda.yaml:14`. Numbers follow YAML 1.2 (`1e-3` is a number here; the
parser's own default reads it as text), and a key given twice is a fault, not a silent overwrite.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from avsc_core.errors import Fault, UserError

Trail = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


@dataclass
class Located:
    """The content of a YAML file and the line of every key and list item in it."""

    name: str
    data: Any
    lines: dict[Trail, int] = field(default_factory=dict)

    def where(self, *trail: str | int) -> str:
        """`file:line` of the deepest part of `trail` that stands in the file."""
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
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(
            Fault(f"{path}:{line}", f"not YAML: {error.problem}", todo="check indentation and quotes")
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, TypeError) as error:
        raise UserError(Fault(str(path), f"not YAML: {error}")) from None
    faults: list[Fault] = []
    if node is not None:
        _collect(node, (), located, faults)
    if faults:
        raise UserError(faults)
    return located


def read_value(text: str) -> Any:
    """One value as YAML reads it (`0.5`, `1e-3`, `true`, `[1, 2]`, `lkm`), for `--set key=value`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError:
        return text


def _collect(node: yaml.Node, trail: Trail, located: Located, faults: list[Fault]) -> None:
    """Walk the parsed nodes: note every line, and every key that stands twice in one mapping."""
    located.lines.setdefault(trail, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                faults.append(Fault(f"{located.name}:{line}", f"'{name}' stands twice", todo="keep one of them"))
            seen.add(name)
            located.lines[(*trail, name)] = line
            _collect(value, (*trail, name), located, faults)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _collect(item, (*trail, position), located, faults)


def _neighbours(path: Path) -> str:
    """The YAML files beside a missing one, as a hint."""
    names = sorted(other.name for other in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f"{path.parent} has {', '.join(names[:8])}" if names else ""
