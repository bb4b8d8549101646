"""This module reads the YAML files that people write, and remembers the line of every key.

A place in a file is a tuple of keys and list positions, a trail, for instance
("arms", 2, "set", "alignment.k"). `Located` knows the line of each trail, so that a fault can say
`lambda.yaml:14`.

Values are those of JSON. Numbers follow YAML 1.2: `1e-3` is a number here, while the parser's own
rules (YAML 1.1) read it as text. A date is text. Two values for one key are a fault, also when the
key is written once dotted and once nested (`alignment.k` beside `alignment: {k: ...}`); the
parser's own rules would silently keep the last one.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from avsc_core.errors import Fault, UserError, make_error

Trail = tuple[str | int, ...]

# The last part of the tags of JSON's types; the parser knows dates, bytes and sets besides.
TYPES = ("null", "bool", "int", "float", "str", "seq", "map")

# A decimal number, infinity, or not a number, as YAML 1.2 writes them.
FLOAT = re.compile(
    r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the types of JSON and the numbers of YAML 1.2."""


# yaml keeps its rules in attributes of the class. New dictionaries leave SafeLoader itself alone.
_Loader.yaml_constructors = {
    tag: build
    for tag, build in _Loader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in TYPES
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


@dataclass
class Located:
    """The content of a YAML file, with the line of every key and list item in it."""

    name: str
    data: Any
    lines: dict[Trail, int] = field(default_factory=dict)

    # Which flag replaced the value at a trail, where a command line did.
    over: dict[Trail, str] = field(default_factory=dict)

    def where(self, *trail: str | int) -> str:
        """Return the place of a value: the flag that replaced it, else `file:line`.

        The line is that of the deepest part of the trail that the file has.
        """
        for end in range(1, len(trail) + 1):
            if trail[:end] in self.over:
                return self.over[trail[:end]]
        while trail and trail not in self.lines:
            trail = trail[:-1]
        return f"{self.name}:{self.lines.get(trail, 1)}"


def read_yaml(path: Path) -> Located:
    """Read a YAML file.

    Raises UserError when it is missing, is not text, is not YAML, or has two values for one key.
    """
    if not path.is_file():
        raise make_error(path, "no such file", _list_neighbours(path))

    faults: list[Fault] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
        loader = _Loader(text)
        node = loader.get_single_node()
        located = Located(str(path), {})
        if node is not None:
            located.data = loader.construct_document(node)
            _collect_lines(node, (), located, set(), faults)
    except (RecursionError, yaml.YAMLError, ValueError, TypeError) as error:
        raise UserError(_make_fault(path, error)) from None

    if faults:
        raise UserError(faults)
    return located


def read_value(text: str) -> Any:
    """Read one value as YAML does (`0.5`, `1e-3`, `true`, `[1, 2]`, `lkm`), for `--set key=value`.

    Text that YAML cannot read is returned as it is.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node)
    # yaml has no common error for values that it recognises and then fails to convert.
    except (yaml.YAMLError, LookupError, AttributeError, ValueError, TypeError, RecursionError):
        return text


def _collect_lines(
    node: yaml.Node, trail: Trail, located: Located, seen: set[str], faults: list[Fault]
) -> None:
    """Note the line of every key and list item below `node`, and a fault for a key's second value.

    `trail` is the place of the node; `seen` holds the dotted keys so far.
    """
    located.lines.setdefault(trail, node.start_mark.line + 1)

    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _collect_lines(item, (*trail, position), located, seen, faults)

    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            inside = (*trail, name)

            # `a.b: 1` and `a: {b: 1}` have the same dotted key.
            dotted = ".".join(map(str, inside))
            if dotted in seen:
                where = f"{located.name}:{line}"
                faults.append(Fault(where, f"'{name}' is given twice", todo="keep one of them"))
            seen.add(dotted)

            located.lines[inside] = line
            _collect_lines(value, inside, located, seen, faults)


def _make_fault(path: Path, error: Exception) -> Fault:
    """Turn an error of reading a file into a fault."""
    if isinstance(error, RecursionError):
        return Fault(
            str(path), "not YAML: nested too deeply, or an alias within what it stands for"
        )
    if isinstance(error, yaml.MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return Fault(
            f"{path}:{line}", f"not YAML: {error.problem}", todo="check indentation and quotes"
        )
    return Fault(str(path), f"not YAML: {error}")


def _list_neighbours(path: Path) -> str:
    """Name the YAML files in the folder of a missing one, as a hint."""
    if not path.parent.is_dir():
        return ""
    names = sorted(other.name for other in path.parent.glob("*.yaml"))
    return f"{path.parent} has {', '.join(names[:8])}" if names else ""
