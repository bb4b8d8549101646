"""Rules for the tests themselves: where helpers stand, and how the tests of a module are found."""

import ast
import re
from pathlib import Path

import pytest

from tests.builders import RAY_FILES

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
PACKAGES = {"core": "avsc_core", "search_spaces": "search_spaces", "studies": "studies"}
FILES = sorted(TESTS.rglob("*.py"))
TEST_FILES = [path for path in FILES if path.name.startswith("test_") and path.parent != TESTS]


def show(path: Path) -> str:
    return str(path.relative_to(TESTS))


def list_imports(path: Path) -> list[str]:
    """List every module that a file imports, and the names it takes from them, dotted."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=show)
def test_no_file_imports_from_a_test_module(path: Path):
    """What two test modules need stands in tests/builders; fixtures stand in a conftest.py."""
    for name in list_imports(path):
        for part in name.split("."):
            assert not part.startswith("test_"), name
            assert part != "conftest", name


@pytest.mark.parametrize("path", TEST_FILES, ids=show)
def test_a_test_file_names_the_module_it_covers(path: Path):
    """tests/core/data/test_media.py covers avsc_core/data/media.py.

    The docstring of a file with any other name has the path of a module that it covers.
    """
    first, *rest = path.relative_to(TESTS).parent.parts
    package = ROOT / PACKAGES.get(first, "no package")
    if package.joinpath(*rest, path.name.removeprefix("test_")).is_file():
        return

    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    named = re.findall(r"\b\w+(?:/\w+)+\.py\b", text)
    assert any((ROOT / name).is_file() for name in named), "names no module, nor does its docstring"


def test_files_that_start_ray_are_known():
    """Studies run in a Place, or on machines; two of them at once would starve each other."""
    builders = {"tests.builders.places.Place", "tests.builders.machines.start_machines"}
    users = [path for path in TEST_FILES if builders & set(list_imports(path))]
    assert {str(path.relative_to(ROOT)) for path in users} == set(RAY_FILES)
