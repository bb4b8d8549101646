"""This module reads the YAML files that people write, and remembers the line of every key.

A place in a file is a tuple of keys and list positions, a trail, for instance
("arms", 2, "set", "alignment.k"). `Located` knows the line of each trail, so that a fault can say
`lambda.yaml:14`.

Values are those of JSON. Plain words are read by the core schema of YAML 1.2, in files and after
`--set` alike: `1e-3` is a number, `010` is 10, `0x1F` is 31, and `on`, `no`, `1:30` and a date are
text. Two values for one key are a fault, also when the key is written once dotted and once nested
(`alignment.k` beside `alignment: {k: ...}`); the parser's own rules would silently keep the last
one.

A file is refused before it takes more than a moment: when it is too large, nested too deeply, or
grows too much where its aliases are replaced by what they stand for.
"""

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from avsc_core.errors import Fault, UserError, make_error, suggest

Trail = tuple[str | int, ...]

LARGEST = 250_000  # characters of a file; the largest study that ships has 8,000
MOST_NODES = 20_000  # keys and values of a file, with every alias replaced by what it stands for
DEEPEST = 50  # levels of lists and mappings
LONGEST_NUMBER = 400  # characters; the largest number that fits a float has 309 digits

INTEGER = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
NULL = re.compile(r"^(?:~|null|Null|NULL|)$")

# Which plain words are no text: the type, how it is written, and how it may begin.
CORE_SCHEMA = (
    ("null", NULL, ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", INTEGER, list("-+0123456789")),
    ("float", FLOAT, list("-+.0123456789")),
    ("merge", re.compile(r"^<<$"), ["<"]),  # YAML 1.1's, which people know
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the types of JSON, the core schema of YAML 1.2, and bounds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.nodes = 0
        self.sizes: dict[int, int] = {}  # id of a node that is complete -> nodes in it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose the next node. Raises ComposerError when the document passes a bound."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        before = self.nodes
        if self.depth == DEEPEST:
            raise _make_bound_error(f"lists and mappings lie more than {DEEPEST} deep", mark)

        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1

        if not is_alias:
            self.nodes += 1
            self.sizes[id(node)] = self.nodes - before
        elif id(node) in self.sizes:
            self.nodes += self.sizes[id(node)]
        else:
            raise _make_bound_error("an alias stands within what it stands for", mark)
        if self.nodes > MOST_NODES:
            problem = f"there are more than {MOST_NODES} keys and values, with what aliases repeat"
            raise _make_bound_error(problem, mark)
        return node


def _make_bound_error(problem: str, mark: yaml.Mark) -> yaml.YAMLError:
    """Return the parser's error for a document that passes a bound."""
    return yaml.composer.ComposerError(None, None, problem, mark, note="write a simpler file")


def _build_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    """Build the value of a node that is a bool."""
    text = loader.construct_scalar(node).lower()
    if text not in ("true", "false"):
        raise _make_value_error(node, "true or false")
    return text == "true"


def _build_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Build the value of a node that is an integer, whose base its beginning tells."""
    text = loader.construct_scalar(node)
    if not INTEGER.match(text) or len(text) > LONGEST_NUMBER:
        raise _make_value_error(node, f"an integer of at most {LONGEST_NUMBER} digits")
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text, base)


def _build_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    """Build the value of a node that is a number."""
    text = loader.construct_scalar(node)
    if not FLOAT.match(text) or len(text) > LONGEST_NUMBER:
        raise _make_value_error(node, f"a number of at most {LONGEST_NUMBER} digits")
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _make_value_error(node: yaml.ScalarNode, allowed: str) -> yaml.YAMLError:
    """Return the parser's error for a scalar that is not what its type allows."""
    what = node.value if len(node.value) < 40 else f"{node.value[:40]}..."
    problem = f"'{what}' is not {allowed}"
    return yaml.constructor.ConstructorError(
        None, None, problem, node.start_mark, note="put text in quotes"
    )


# yaml keeps its rules in attributes of the class. New dictionaries leave SafeLoader itself alone.
_Loader.yaml_constructors = {
    tag: build
    for tag, build in _Loader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "str", "seq", "map")
}
_Loader.add_constructor("tag:yaml.org,2002:bool", _build_bool)
_Loader.add_constructor("tag:yaml.org,2002:int", _build_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _build_float)
_Loader.yaml_implicit_resolvers = {}
for _type, _pattern, _beginnings in CORE_SCHEMA:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_type}", _pattern, _beginnings)


class _TextLoader(_Loader):
    """The loader of settings that are text: every plain word but null is text."""


_TextLoader.yaml_implicit_resolvers = {}
_TextLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^null$"), ["n"])


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

    Raises UserError when it is missing, is not text, is not YAML, passes a bound, or has two values
    for one key.
    """
    if not path.is_file():
        raise make_error(path, "no such file", _list_neighbours(path))
    size = path.stat().st_size
    if size > LARGEST:
        raise make_error(path, f"{size} bytes are too many", f"at most {LARGEST}")

    faults: list[Fault] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
        loader = _Loader(text)
        node = loader.get_single_node()
        located = Located(str(path), {})
        if node is not None:
            # Lines first: construction moves what `<<` names to where it is named.
            _collect_lines(node, (), located, set(), faults)
            located.data = loader.construct_document(node)
    except (RecursionError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(_make_fault(path, error)) from None

    if faults:
        raise UserError(faults)
    return located


def read_value(text: str) -> Any:
    """Read one value as YAML does (`0.5`, `1e-3`, `true`, `[1, 2]`, `lkm`), for `--set key=value`.

    Text that YAML cannot read is returned as it is.
    """
    return _read_document(text, _Loader)


def read_text(text: str) -> Any:
    """Read the value of a setting that is text: as typed, whatever characters it has.

    Only these are read as YAML: `null` or nothing for none, a list in brackets, and text that is
    quoted as a whole, so that one can write `"null"`.
    """
    if text in ("", "null"):
        return None
    if text[0] + text[-1] not in ("[]", '""', "''"):
        return text

    value = _read_document(text, _TextLoader)
    return value if isinstance(value, str | list) else text


def _read_document(text: str, kind: type[_Loader]) -> Any:
    """Return the value of a document; text that cannot be read is returned as it is."""
    if len(text) > LARGEST:
        return text
    try:
        loader = kind(text)
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, RecursionError):
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
    if isinstance(error, yaml.MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        where = f"{path}:{line}"
        if error.note:  # one of ours
            return Fault(where, str(error.problem), todo=error.note)
        return Fault(where, f"not YAML: {error.problem}", todo="check indentation and quotes")
    if isinstance(error, yaml.reader.ReaderError):
        what = f"not YAML: character {error.position + 1} is {error.character!r}"
        return Fault(str(path), what, "text without control characters")
    return Fault(str(path), f"not YAML: {error}")


def _list_neighbours(path: Path) -> str:
    """Name the YAML file in the folder of a missing one that is meant, or those that are there."""
    if not path.parent.is_dir():
        return ""
    names = sorted(other.stem for other in path.parent.glob("*.yaml"))
    close = difflib.get_close_matches(path.stem, names, n=1)
    if close:
        return f"did you mean '{path.with_name(close[0])}.yaml'?"
    return suggest(path.stem, names) if names else ""
