"""Where the record is: an address of MLflow's, by default an SQLite file under the current
folder."""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from avsc_core.files import cache_root

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
DATABASES = ("postgresql", "mysql", "mssql")  # beginnings of addresses of databases on servers
TRAININGS = "training"  # stands for the study where there is none: `avsc-core train`

# user:password@ or token@ of an address; a password may have any character but white space.
USER = re.compile(r"(//[^\s/@:]*:)[^\s]*(?=@)|(?<=//)[^\s/@:]+(?=@)")
# A setting in a query, such as ?token=..., whose name says that its value is secret.
SECRET = re.compile(
    r"([?&;][\w.-]*(?:token|pass|pwd|secret|key|sig|auth|cred)[\w.-]*=)[^\s&;#'\"]+", re.I
)
HIDDEN = "..."


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
    address = choose_address(uri)
    database = locate_database(address)
    if database is None or database.is_file():
        return ""
    return address.partition("sqlite:///")[2]


def locate_database(uri: str) -> Path | None:
    """Return the SQLite file of a record as an absolute path; None where a server has it."""
    _, sqlite, path = uri.partition("sqlite:///")
    return Path(path.partition("?")[0]).resolve() if sqlite else None


def locate_artifacts(uri: str) -> Path | None:
    """Return the folder of all artifacts of an SQLite record, beside its file; else None."""
    database = locate_database(uri)
    return database.parent / "artifacts" if database else None


def find_local_folder(uri: str, artifact_uri: str) -> Path | None:
    """Return the local folder that an artifact address of a record names; None on a server.

    A record that was moved or copied together with its artifacts still has the addresses of the
    old place. So those of an SQLite record, `artifacts/STUDY/RUN/artifacts`, are looked for beside
    its file first.
    """
    parts = urlsplit(artifact_uri)
    if parts.scheme not in ("", "file"):
        return None
    stated = Path(unquote(parts.path))
    ours = locate_artifacts(uri)
    if ours is None or stated.parts[-4:-3] != (ours.name,):
        return stated
    beside = ours.joinpath(*stated.parts[-3:])
    return beside if beside.is_dir() or not stated.is_dir() else stated


def locate_state(uri: str) -> Path:
    """Return the folder of what a study needs beside its record, as an absolute path.

    It has checkpoints of unfinished trials and what is not written into the record yet. That of an
    SQLite file lies beside it, that of a server in the user's cache folder. The environment
    variable AVSC_STATE replaces the place, for nodes of a cluster that share storage. Two records
    never have one folder.
    """
    database = locate_database(uri)
    chosen = os.environ.get("AVSC_STATE")
    if database and not chosen:
        is_usual = database.name == Path(DEFAULT_URI).name
        return database.parent if is_usual else database.with_name(f"{database.name}.state")

    # A changed password leads to the same folder.
    identity = str(database) if database else hide_secrets(uri)
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    place = Path(chosen).expanduser() if chosen else cache_root() / "state"
    return (place / name).resolve()


def locate_checkpoint(uri: str, study: str, name: str) -> Path:
    """Return where an unfinished trial keeps its checkpoint; `name` is its key."""
    return locate_state(uri) / "checkpoints" / study / f"{name}.pt"
