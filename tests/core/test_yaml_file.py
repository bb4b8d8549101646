"""YAML files with line numbers."""

import math
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest

from avsc_core.errors import UserError
from avsc_core.yaml_file import read_text, read_value, read_yaml


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_lines_of_keys_and_items(tmp_path: Path):
    located = read_yaml(write(tmp_path, "a: 1\nb:\n  - x: 1\n  - x: 2\n    y: {z: 3}\n"))
    assert located.data == {"a": 1, "b": [{"x": 1}, {"x": 2, "y": {"z": 3}}]}
    lines = {
        trail: located.lines[trail] for trail in [("a",), ("b",), ("b", 1), ("b", 1, "y", "z")]
    }
    assert lines == {("a",): 1, ("b",): 2, ("b", 1): 4, ("b", 1, "y", "z"): 5}
    assert located.where("b", 1, "y", "absent").endswith("study.yaml:5")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("5E2", 500.0),
        (".5", 0.5),
        ("1", 1),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("Null", None),
        ("", None),
        # Numbers, bools, dates and the like of YAML 1.1 are text.
        *((word, word) for word in ("on", "off", "yes", "No", "y", "1:30", "1_000", "0b11", "=")),
        *((word, word) for word in ("2024-01-31", "2024-13-45", "12:30:00", "lkm")),
    ],
)
def test_plain_words_follow_yaml_1_2(tmp_path: Path, text: str, value: object):
    located = read_yaml(write(tmp_path, f"a: {text}\n"))
    for read in (read_value(text), located.data["a"]):
        assert read == value
        assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # As typed: what YAML would cut, convert, or take for something else.
        *((word, word) for word in ("/w #2/a.pth", "a: b", "{x}", " x ", "1e3", "010", "true")),
        *((word, word) for word in ("NULL", "~", "~/w.pth", "nan", "on", "*a", "!x", "[a", '"')),
        *((word, word) for word in ('"a" and "b"', "/w/it's.pth", "[a #1, b]", "2024-01-31")),
        # Nothing, lists, and what is quoted as a whole.
        ("", None),
        ("null", None),
        ('"null"', "null"),
        ("' x '", " x "),
        ('"/w #2/a.pth"', "/w #2/a.pth"),
        ("[1e3, null, '/w #2', on]", ["1e3", None, "/w #2", "on"]),
    ],
)
def test_text_is_read_as_typed(text: str, value: object):
    assert read_text(text) == value


@pytest.mark.parametrize("text", ["2024-01-31", "2024-13-45", "!!timestamp 2024-13-45", "[" * 3000])
def test_what_is_no_json_is_text(text: str):
    assert read_value(text) == text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\na: 2\n", ":2: 'a' is given twice; keep one of them"),
        (
            "a: [1\nb: 2\n",
            ":2: not YAML: expected ',' or ']', but got ':'; check indentation and quotes",
        ),
        ("base: {k.x: 1, k: {x: 2}}\n", ":1: 'x' is given twice; keep one of them"),
        ("base: {k: {x: 2}, k.x: 1}\n", ":1: 'k.x' is given twice; keep one of them"),
        ("a: &a [*a]\n", ":1: an alias stands within what it stands for; write a simpler file"),
        ("a: !!python/object:os.system x\n", "could not determine a constructor"),
        ("a: !!bool x\n", ":1: 'x' is not true or false; put text in quotes"),
        ("a: !!int 1:30\n", ":1: '1:30' is not an integer of at most 400 digits"),
        ("a:\n  - \x07\n", ": not YAML: character 8 is 7; text without control characters"),
    ],
)
def test_faults(tmp_path: Path, text: str, fault: str):
    with pytest.raises(UserError) as caught:
        read_yaml(write(tmp_path, text))
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


# How a short file becomes a long one: nine aliases a line, of lists and of merged mappings.
LISTS = "".join(f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]\n" for a, b in pairwise("abcdefghijkl"))
MERGES = "".join(f"{b}: &{b} {{<<: [{9 * f'*{a}, '}]}}\n" for a, b in pairwise("abcdefghijkl"))
CHAIN = "".join(f"a{n + 1}: &a{n + 1} [*a{n}]\n" for n in range(3000))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"a: &a [x]\n{LISTS}", ":6: there are more than 20000 keys and values, with what aliases"),
        (f"a: &a {{x: 1}}\n{MERGES}", ":5: there are more than 20000 keys and values"),
        (f"a0: &a0 [1]\n{CHAIN}", ":198: there are more than 20000 keys and values"),
        ("a: [" + 30_000 * "1, " + "]", ":1: there are more than 20000 keys and values"),
        ("a:\n  " + 100_000 * "[", ":2: lists and mappings lie more than 50 deep"),
        ("a: " + 100_000 * "{", ":1: lists and mappings lie more than 50 deep"),
        (100_000 * "- ", ":1: lists and mappings lie more than 50 deep"),
        ("b: 1\na: " + 5000 * "9", f":2: '{40 * '9'}...' is not an integer of at most 400 digits"),
        ("a: 0x" + 5000 * "f", f":1: '0x{38 * 'f'}...' is not an integer of at most 400"),
        ("a: 1." + 5000 * "9", f":1: '1.{38 * '9'}...' is not a number of at most 400"),
        ("a: " + 250_000 * "x", ": 250003 bytes are too many; at most 250000"),
    ],
)
def test_a_file_that_would_take_long_is_refused_at_once(tmp_path: Path, text: str, fault: str):
    path = write(tmp_path, text)
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert time.process_time() - start < 5
    assert fault in str(caught.value)
    assert read_value(text) == text or "\n" in text


def test_aliases_and_merge_keys_have_their_lines(tmp_path: Path):
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: [*a, *a]\n"
    located = read_yaml(write(tmp_path, text))
    both = {"x": 1, "y": 2}
    assert located.data == {"a": both, "b": {"x": 1, "y": 3}, "c": [both, both]}
    assert located.where("b", "y").endswith(":4")
    assert located.where("b", "x").endswith(":2")


def test_what_a_command_line_put_over_a_file_is_told_of_its_flag(tmp_path: Path):
    located = read_yaml(write(tmp_path, "a: {b: 1}\nc: 2\n"))
    located.over[("a",)] = "--set"
    assert located.where("a", "b") == "--set"
    assert located.where("c").endswith(":2")


def test_a_missing_file_names_its_neighbours(tmp_path: Path):
    write(tmp_path, "a: 1")
    told = f"{tmp_path / 'other.yaml'}: no such file; one of study"
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        read_yaml(tmp_path / "other.yaml")
    with pytest.raises(UserError, match=r"did you mean '/.*/study\.yaml'\?$"):
        read_yaml(tmp_path / "sutdy.yaml")


def test_what_yaml_trips_over_is_text():
    for text in ("2024-99-99", "0x_", "!!bool x", "[" * 2000, "a: b: c"):
        assert read_value(text) == text
