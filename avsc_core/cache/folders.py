"""Folders that several processes may need at the same time: one fills them, the others wait.

A folder is filled under the name FOLDER.partial and renamed once it is complete. So FOLDER is
either complete or absent, and FOLDER.partial is what a killed process left.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def build_once(
    folder: Path, build: Callable[[Path], None], *, continue_partial: bool = False
) -> None:
    """Have `build` fill the partial folder and rename that to `folder`, unless `folder` exists.

    With `continue_partial`, `build` finds in the partial folder what a killed process left there;
    otherwise it finds an empty folder. When `build` raises, the partial folder stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        if folder.exists():
            return

        partial_folder = locate_partial(folder)
        if not continue_partial:
            shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir(exist_ok=True)

        build(partial_folder)
        os.replace(partial_folder, folder)


def lock_folder(folder: Path) -> FileLock:
    """Return the lock of a folder of the cache, a file beside it."""
    return FileLock(f"{folder}.lock")


def locate_partial(folder: Path) -> Path:
    """Return where `folder` is filled before it is complete."""
    return folder.with_name(f"{folder.name}.partial")
