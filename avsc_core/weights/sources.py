"""Where pretrained weights come from: a file, a folder, or a repository of the hub pinned to a commit.

name -> the file with the tensors, its SHA-256, and what its publisher says of it in `config.json` beside it. No torch
here, so that a study file is checked at once; `model/pretrained.py` reads the tensors.
"""

import hashlib
import json
import logging
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from avsc_core.errors import EnvironmentFault, Fault, UserError

HUB = "hf-hub:"
PUBLISHED = (
    "model.safetensors",
    "pytorch_model.bin",
)  # what hub repositories call their tensors, the safe one first
ENDINGS = (".safetensors", ".pth", ".pt", ".bin")


def make_absolute(name: str) -> str:
    """`name` with a path made absolute: a worker process has a current folder of its own. Raises ValueError."""
    if name.startswith(HUB):
        return name
    try:
        return str(Path(name).expanduser().absolute())
    except RuntimeError:
        raise ValueError("no such user on this machine") from None


def locate(name: str, where: str) -> Path:
    """The local file that holds the tensors of `name`; downloads it when it is the hub's and not here yet.

    Raises UserError when there is no such file, EnvironmentFault when the hub does not answer; `where` is the setting
    that names it.
    """
    if name.startswith(HUB):
        return _from_hub(name, where)
    path = Path(name)
    if path.is_file():
        return path
    if not path.is_dir():
        todo = "download the checkpoint and give its path"
        raise UserError(
            Fault(
                where, f"{name} does not exist", f"a file, a folder or {HUB}OWNER/NAME@COMMIT", todo
            )
        )
    published = [path / file for file in PUBLISHED if (path / file).is_file()]
    found = published or sorted(file for file in path.iterdir() if file.suffix in ENDINGS)
    if not found or (not published and len(found) > 1):
        what = f"{len(found)} weight files in {name}" if found else f"no weight file in {name}"
        raise UserError(
            Fault(where, what, f"{PUBLISHED[0]}, or one file ending in {', '.join(ENDINGS)}")
        )
    return found[0]


def hash_source(name: str) -> str:
    """SHA-256 of the tensors' file; the name itself for the hub's, which is pinned, and where there is no file."""
    if name.startswith(HUB):
        return name
    try:
        path = locate(name, "weights")
        status = path.stat()
    except (UserError, OSError):
        return name
    return hash_file(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def hash_file(path: Path, size: int, modified_ns: int) -> str:
    """SHA-256 of a file; size and time of change make it be read again when it changes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_publisher_settings(path: Path) -> dict[str, Any]:
    """`config.json` beside the tensors: heads, LayerNorm epsilon, class names; empty when there is none."""
    config = path.parent / "config.json"
    if not config.is_file():
        return {}
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            Fault(str(config), f"is no JSON ({error})", todo="download it again")
        ) from None
    return settings if isinstance(settings, dict) else {}


def _from_hub(name: str, where: str) -> Path:
    match = re.fullmatch(rf"{HUB}([\w.-]+/[\w.-]+)@([0-9a-f]{{40}})", name)
    if not match:
        allowed = f"{HUB}OWNER/NAME@COMMIT, with the commit's 40 digits"
        raise UserError(
            Fault(where, f"'{name}' is not pinned", allowed, "a branch may change under a study")
        )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    repository, commit = match.groups()
    for file in PUBLISHED:
        try:
            path = Path(hf_hub_download(repository, file, revision=commit))
            _beside(repository, commit)
            return path
        except LocalEntryNotFoundError:
            what = f"{name} is not in the hub's cache and the hub does not answer"
            todo = f"put {file} and config.json of {repository} at {commit} into a folder and give that"
            raise EnvironmentFault(Fault(where, what, todo=todo)) from None
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as error:
            raise EnvironmentFault(
                Fault(where, f"{name} ({error})", todo="give a local path instead")
            ) from None
    raise UserError(Fault(where, f"{name} has no {' and no '.join(PUBLISHED)}"))


def _beside(repository: str, commit: str) -> None:
    """Have the repository's config.json beside its tensors, if it has one."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        hf_hub_download(repository, "config.json", revision=commit)
    except EntryNotFoundError:
        return
