"""YAML files with line numbers."""

from pathlib import Path

import pytest

from avsc_core.errors import UserError
from avsc_core.yaml_file import read_value, read_yaml


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
    ("text", "value"), [("1e-3", 1e-3), ("5E2", 500.0), ("1", 1), ("true", True), ("lkm", "lkm")]
)
def test_numbers_follow_yaml_1_2(text: str, value: object):
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


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
        ("a: &a [*a]\n", "not YAML: nested too deeply, or an alias within what it stands for"),
        ("a: " + "[" * 3000, "not YAML: nested too deeply, or an alias within what it stands for"),
        ("a: !!python/object:os.system x\n", "could not determine a constructor"),
    ],
)
def test_faults(tmp_path: Path, text: str, fault: str):
    with pytest.raises(UserError) as caught:
        read_yaml(write(tmp_path, text))
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_command_line_put_over_a_file_is_told_of_its_flag(tmp_path: Path):
    located = read_yaml(write(tmp_path, "a: {b: 1}\nc: 2\n"))
    located.over[("a",)] = "--set"
    assert located.where("a", "b") == "--set"
    assert located.where("c").endswith(":2")


def test_a_missing_file_names_its_neighbours(tmp_path: Path):
    write(tmp_path, "a: 1")
    with pytest.raises(UserError, match=r"lamda\.yaml: no such file; .* has study\.yaml"):
        read_yaml(tmp_path / "lamda.yaml")


def test_what_yaml_trips_over_is_text():
    for text in ("2024-99-99", "0x_", "!!bool x", "[" * 2000, "a: b: c"):
        assert read_value(text) == text
