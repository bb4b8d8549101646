"""Where the record is: an address of MLflow's, by default an SQLite file under the current
folder."""

import os
from pathlib import Path

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
ARTIFACTS = Path("mlruns/artifacts")
CHECKPOINTS = Path("mlruns/checkpoints")  # of unfinished trials; empty when no trial is unfinished


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
