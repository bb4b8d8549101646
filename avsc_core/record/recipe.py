"""This module computes the recipe of a training: the code and the libraries that decide its
figures.

Two trainings of one configuration (one trial key), on the same data and with the same recipe, are
the same training, so a study takes over what another one has trained. The recipe is a hash of the
code below without docstrings, comments and formatting, and of the versions of libraries. It
changes more often than figures do, which costs a training, and never too seldom.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from avsc_core.record.environment import LIBRARIES, list_versions

PACKAGE = Path(__file__).parents[1]

# Folders and files of avsc_core on the way from a clip to the figures of an epoch.
CODE = (
    "model",
    "trainer",
    "data",
    "weights",
    "cache",
    "metrics.py",
    "config.py",
    "resolve.py",
    "labels.py",
)
# What measures costs, and what inspects data, decides no figure.
NOT_CODE = ("trainer/probe.py", "trainer/measuring.py", "data/inspect.py")

WITH_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

# What decodes films and sound: another version may make other features of the same files.
DECODERS = ("av", "soundfile")

MIXED_RECIPE = "mixed"  # of a trial that was continued with another recipe


@cache
def compute_recipe() -> str:
    """Return the sixteen hex digits that name the recipe of trainings by this process."""
    digest = hashlib.sha256()
    for path in _list_files():
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\n".encode())
        digest.update(normalise_code(path.read_text(encoding="utf-8")).encode())
    digest.update(list_versions((*LIBRARIES, *DECODERS)).encode())
    return digest.hexdigest()[:16]


def normalise_code(text: str) -> str:
    """Return the code of a module without docstrings, comments and formatting."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, WITH_DOCSTRINGS) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _list_files() -> list[Path]:
    """List the files of CODE without NOT_CODE, in order."""
    files: list[Path] = []
    for name in CODE:
        path = PACKAGE / name
        files += path.rglob("*.py") if path.is_dir() else [path]
    left_out = [PACKAGE / name for name in NOT_CODE]
    return sorted(path for path in files if path not in left_out)
