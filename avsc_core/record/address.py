"""Where the record is: an address of MLflow's, by default an SQLite file under the current
folder."""

import hashlib
import os
import re
from pathlib import Path

from avsc_core.files import cache_root

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
ARTIFACTS = Path("mlruns/artifacts")
# user:password@ or token@ of an address; a password may have any character but white space.
USER = re.compile(r"(//[^\s/@:]*:)[^\s]*(?=@)|(?<=//)[^\s/@:]+(?=@)")
# A setting in a query, such as ?token=..., whose name says that its value is secret.
SECRET = re.compile(
    r"([?&;][\w.-]*(?:token|pass|pwd|secret|key|sig|auth|cred)[\w.-]*=)[^\s&;#'\"]+", re.I
)
HIDDEN = "..."

CHECKPOINTS = Path("mlruns/checkpoints")  # of unfinished trials; empty when no trial is unfinished


def choose_address(uri: str | None) -> str:
    """Return the given address, else that of the environment, else the default."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def hide_secrets(text: str) -> str:
    """Return a text without the passwords and tokens of the addresses in it.

    The text may be an address, a command line, or what a library says of an error.
    """
    text = USER.sub(lambda found: f"{found[1] or ''}{HIDDEN}", text)
    return SECRET.sub(rf"\1{HIDDEN}", text)


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
    # A changed password leads to the same folder.
    name = hashlib.sha256(hide_secrets(uri).encode()).hexdigest()[:16]
    return (cache_root() / "state" / name).resolve()
