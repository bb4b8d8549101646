"""Where pretrained weights come from: a file, a folder, or a repository of the hub at one commit.

A name in the configuration -> the file with the tensors, its SHA-256, and the settings that its
publisher wrote into `config.json` beside it. This module does not import torch, so that a study
file is checked at once; published.py reads the tensors.
"""

import hashlib
import json
import logging
import os
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from avsc_core.errors import EnvironmentFault, Fault, UserError, make_error

HUB = "hf-hub:"
PUBLISHED = ("model.safetensors", "pytorch_model.bin")  # in repositories of the hub, safe one first
LONGEST_PATH = 1000  # characters: a configuration is a tag in the record, which holds 8,000
INDEX = ".safetensors.index.json"  # names the files among which the tensors of a large model are
ENDINGS = (".safetensors", ".pth", ".pt", ".bin")


def make_absolute(name: str) -> str:
    """Make a path absolute, because a worker process has a current folder of its own.

    Returns a name of the hub unchanged. Raises ValueError when the path begins with an unknown
    user's home, or is longer than a record of several of them can keep.
    """
    if name.startswith(HUB):
        return name
    try:
        path = str(Path(name).expanduser().absolute())
    except RuntimeError:
        raise ValueError("no such user on this machine") from None
    if len(path) > LONGEST_PATH:
        raise ValueError(f"a path of at most {LONGEST_PATH} characters")
    return path


def locate(name: str, where: str) -> Path:
    """Find the local file with the tensors of `name`; download it from the hub when necessary.

    `where` is the setting that names it. Raises UserError when there is no such file,
    EnvironmentFault when the hub does not answer.
    """
    if name.startswith(HUB):
        return _download(name, where)
    path = Path(name)
    if path.is_file():
        return path
    if not path.is_dir():
        raise make_error(
            where,
            f"{name} does not exist",
            f"a file, a folder or {HUB}OWNER/NAME@COMMIT",
            "download the checkpoint and give its path",
        )

    # In a folder, a name of the hub's wins; otherwise it must hold one file that could be meant.
    for file in (*PUBLISHED, f"model{INDEX}"):
        if (path / file).is_file():
            return path / file
    found = sorted(file for file in path.iterdir() if file.suffix in ENDINGS)
    if len(found) != 1:
        count = f"{len(found)} weight files" if found else "no weight file"
        raise make_error(
            where,
            f"{count} in {name}",
            f"{PUBLISHED[0]}, or one file ending in {', '.join(ENDINGS)}",
        )
    return found[0]


def hash_source(name: str) -> str:
    """Return the SHA-256 of the file with the tensors of `name`.

    Returns `name` itself when it is the hub's, because a commit is as good as a hash, and when
    there is no file.
    """
    if name.startswith(HUB):
        return name
    try:
        path = locate(name, "weights")
        status = path.stat()
    except (UserError, OSError):
        return name
    if not path.name.endswith(INDEX):
        return hash_file(path, status.st_size, status.st_mtime_ns)
    digest = hashlib.sha256()
    try:
        for file in (path, *list_shards(path)):
            status = file.stat()
            digest.update(hash_file(file, status.st_size, status.st_mtime_ns).encode())
    except (UserError, OSError):
        return name
    return digest.hexdigest()


def list_shards(index: Path) -> list[Path]:
    """List the files that an index names, which lie beside it. Raises UserError."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        names = sorted(map(str, names))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise make_error(index, "is not an index of safetensors files") from None
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            what = f"names {name}, which is not a file beside it"
            raise make_error(index, what, todo="download all of them")
    return [index.parent / name for name in names]


@lru_cache(maxsize=64)
def hash_file(path: Path, size: int, modified_ns: int) -> str:
    """Return the SHA-256 of a file.

    Size and time of change are part of the cache's key, so a file that changed is read again.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_publisher_settings(path: Path) -> dict[str, Any]:
    """Read `config.json` beside the tensors: heads, LayerNorm epsilon, class names.

    Returns an empty dictionary when there is no such file. Raises UserError when it is not JSON.
    """
    config = path.parent / "config.json"
    if not config.is_file():
        return {}
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise make_error(
            config, f"the file is not JSON ({error})", todo="download it again"
        ) from None
    return settings if isinstance(settings, dict) else {}


def _download(name: str, where: str) -> Path:
    """Return the hub's file in its local cache, with `config.json` beside it where there is one."""
    match = re.fullmatch(rf"{HUB}([\w.-]+/[\w.-]+)@([0-9a-f]{{40}})", name)
    if match is None:
        raise make_error(
            where,
            f"'{name}' is not pinned",
            f"{HUB}OWNER/NAME@COMMIT, with the commit's 40 digits",
            "a branch may change under a study",
        )

    # The hub's library reads its switches when it is imported, and importing it takes a while.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    repository, commit = match.groups()
    for file in PUBLISHED:
        try:
            path = Path(hf_hub_download(repository, file, revision=commit))
            with suppress(EntryNotFoundError):
                hf_hub_download(repository, "config.json", revision=commit)
            return path
        except LocalEntryNotFoundError:
            what = f"{name} is not in the hub's cache and the hub does not answer"
            files = f"{file} and config.json of {repository} at {commit}"
            raise EnvironmentFault(
                Fault(where, what, todo=f"put {files} into a folder and give that")
            ) from None
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as error:
            raise EnvironmentFault(
                Fault(where, f"{name} ({error})", todo="give a local path instead")
            ) from None
    raise make_error(where, f"{name} has no {' and no '.join(PUBLISHED)}")
