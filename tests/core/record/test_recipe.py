"""The recipe of a training: which changes of code make it another one."""

from pathlib import Path

import pytest

from avsc_core.record import recipe as module
from avsc_core.record.recipe import compute_recipe, normalise_code

CODE = '''\
"""A module."""

def double(x):
    """Return twice x."""
    return 2 * x  # why
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose recipe is computed in place of avsc_core's."""
    for name in module.CODE:
        path = tmp_path / (name if name.endswith(".py") else f"{name}/layer.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(CODE)
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    return tmp_path


def recipe_of(package: Path, text: str, name: str = "model/layer.py") -> str:
    """Return the recipe of the package with another text in one of its files."""
    (package / name).write_text(text)
    return compute_recipe.__wrapped__()


@pytest.mark.parametrize(
    "same",
    [
        CODE.replace("  # why", ""),
        CODE.replace("Return twice x", "Double x"),
        CODE.replace('    """Return twice x."""\n', ""),
        CODE.replace("return 2 * x", "return (\n        2\n        * x\n    )"),
    ],
)
def test_comments_docstrings_and_formatting_do_not_matter(package: Path, same: str):
    assert recipe_of(package, same) == recipe_of(package, CODE)


@pytest.mark.parametrize("other", [CODE.replace("2", "3"), CODE.replace("x", "y"), "", "x = 1\n"])
@pytest.mark.parametrize("name", ["model/layer.py", "metrics.py"])
def test_code_matters(package: Path, name: str, other: str):
    assert recipe_of(package, other, name) != recipe_of(package, CODE, name)


def test_new_files_and_versions_matter(package: Path, monkeypatch: pytest.MonkeyPatch):
    before = recipe_of(package, CODE)
    assert recipe_of(package, "", "model/new.py") != before
    (package / "model/new.py").unlink()
    assert recipe_of(package, CODE) == before
    monkeypatch.setattr(module, "list_versions", lambda libraries: "torch 99")
    assert recipe_of(package, CODE) != before


def test_what_decides_no_figure_is_left_out():
    names = {path.relative_to(module.PACKAGE).as_posix() for path in module._list_files()}
    assert {"model/fusion.py", "trainer/loop.py", "data/logmel.py", "metrics.py"} <= names
    assert not {"trainer/measuring.py", "data/inspect.py", "record/recorder.py"} & names


def test_a_function_of_a_docstring_alone_stays_code():
    assert normalise_code('def f():\n    """Do nothing."""\n') == "def f():\n    pass"
