"""Records (MLflow databases) that exist at once.

MLflow makes the tables of a new database by some forty migrations, which takes a second or more. So
they are made once in a process, and every other record starts as a copy of that file.
"""

import sqlite3
import tempfile
from contextlib import chdir, closing
from functools import cache
from pathlib import Path

from avsc_core.record.recorder import Recorder


@cache
def _make_template() -> tempfile.TemporaryDirectory[str]:
    """Make an empty record in a folder that is removed when this process ends."""
    folder = tempfile.TemporaryDirectory(prefix="avsc-record-")
    open_record_in(Path(folder.name), "mlflow.db")
    return folder


def open_record_in(folder: Path, name: str | Path) -> Recorder:
    """Open the record at folder/name from within the folder.

    MLflow puts artifacts under `mlruns/` of the folder that is current when it opens an address.
    """
    with chdir(folder):
        return Recorder(f"sqlite:///{folder / name}")


def copy_empty_record(path: Path) -> None:
    """Put an empty record, with all its tables, at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    template = f"{_make_template().name}/mlflow.db"
    # SQLite's own copy, because MLflow keeps connections to the template open.
    with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


def fresh_record(folder: Path) -> Recorder:
    """Open an empty record in this folder."""
    copy_empty_record(folder / "record.db")
    return open_record_in(folder, "record.db")
