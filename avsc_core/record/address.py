"""Where the record is: an address of MLflow's, by default an SQLite file under the current
folder."""

import hashlib
import os
from pathlib import Path

from avsc_core.files import cache_root

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
ARTIFACTS = Path("mlruns/artifacts")
CHECKPOINTS = Path("mlruns/checkpoints")  # where a study that runs has its lock
TRAININGS = "training"  # stands for the study where there is none: `avsc-core train`


def choose_address(uri: str | None) -> str:
    """Return the given address, else that of the environment, else the default."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def find_missing_file(uri: str | None) -> str:
    """Return the SQLite file of a record that does not exist yet, else an empty text.

    Opening such a record would create it, so readers ask this first.
    """
    _, sqlite, path = choose_address(uri).partition("sqlite:///")
    exists = Path(path.partition("?")[0]).is_file()
    return path if sqlite and not exists else ""


def locate_state(uri: str) -> Path:
    """Return the folder of what a study needs beside its record, as an absolute path.

    It has checkpoints of unfinished trials and what is not written into the record yet. It lies
    beside an SQLite file; for a server it lies in the user's cache folder, under a name of its own.
    The environment variable AVSC_STATE replaces it, for nodes of a cluster that share storage.
    """
    if chosen := os.environ.get("AVSC_STATE"):
        return Path(chosen).expanduser().resolve()
    _, sqlite, path = uri.partition("sqlite:///")
    if sqlite:
        return Path(path.partition("?")[0]).resolve().parent
    return (cache_root() / "state" / hashlib.sha256(uri.encode()).hexdigest()[:16]).resolve()


def locate_checkpoint(uri: str, study: str, name: str) -> Path:
    """Return where an unfinished trial keeps its checkpoint; `name` is its key."""
    return locate_state(uri) / "checkpoints" / study / f"{name}.pt"
