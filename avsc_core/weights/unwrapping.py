"""A file of weights -> its tensors, out of what a training script wrapped around them.

Only tensors are read, from safetensors or from torch's format with `weights_only`, so that a file
from anywhere can run no code. Training scripts put the state dict into another dictionary, often
beside an average over the training, and a wrapper around the model puts a word before every name.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avsc_core.errors import UserError, make_error
from avsc_core.files import explain_unreadable
from avsc_core.weights.layouts import Tensors
from avsc_core.weights.sources import INDEX, list_shards

# Names of the dictionary that holds the state dict. An average comes first: it is what publishers
# evaluate. Then the usual names, the plainest last.
AVERAGES = ("model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "ema")
WRAPPERS = (*AVERAGES, "state_dict", "model_state_dict", "model_state", "model", "net", "module")
MOST_WRAPPERS = 3  # one in another

# Words before every name, and what wrote them: DataParallel and averages, torch.compile, Lightning.
PREFIXES = ("module.", "_orig_mod.", "model.")
COUNTERS = ("n_averaged",)  # beside the tensors of torch's own average

# What torch says of an object that is no tensor, as in "GLOBAL argparse.Namespace was not ...".
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


class Unwrapped(NamedTuple):
    """The tensors of a file, and the name of the dictionary that they were taken from."""

    tensors: Tensors
    taken: str = ""  # of an average over the training; else empty


def read_tensors(file: Path) -> Unwrapped:
    """Read the tensors of a safetensors file, or of a state dict that torch saved.

    Raises UserError when there are none, or when they cannot be read without running code.
    """
    content = _load(file)
    found = _find_tensors(content)
    if found is None:
        types = sorted({type(value).__name__ for value in content.values()})
        what = f"the file holds no state dict, but {', '.join(types) or 'nothing'}"
        raise make_error(file, what, "names with a tensor each")
    return found


def _find_tensors(content: Mapping[str, Any], depth: int = 0) -> Unwrapped | None:
    """Find the tensors in a dictionary, or in one that it holds; None when there are none.

    An average is taken only where it has the names of the model beside it: other dictionaries of
    that name hold counters, or lists.
    """
    inner = {}
    for name in WRAPPERS if depth < MOST_WRAPPERS else ():
        part = content.get(name)
        found = _find_tensors(part, depth + 1) if isinstance(part, Mapping) else None
        if found:
            inner[name] = found

    plain = next((found for name, found in inner.items() if name not in AVERAGES), None)
    for name, found in inner.items():
        is_same = plain is None or found.tensors.keys() == plain.tensors.keys()
        if name in AVERAGES and is_same:
            return found._replace(taken=name)
    if plain:
        return plain

    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and name and isinstance(value, Tensor)
    }
    return Unwrapped(_strip_prefixes(tensors)) if tensors else None


def _load(file: Path) -> Mapping[str, Any]:
    """Load a file as it is, a dictionary. Raises UserError when it cannot be read."""
    try:
        if file.name.endswith(INDEX):
            shards = [load_file(shard) for shard in list_shards(file)]
            return dict(item for shard in shards for item in shard.items())
        if _is_safetensors(file):
            return dict(load_file(file))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        zipfile.BadZipFile,
        EOFError,
        ValueError,
    ) as error:
        raise _explain(file, error) from None
    return content if isinstance(content, Mapping) else {"": content}


def _is_safetensors(file: Path) -> bool:
    """Tell whether a file is of the safetensors format: the length of its header, then JSON.

    The hub keeps files under their hashes, without an ending.
    """
    if file.suffix == ".safetensors":
        return True
    with file.open("rb") as start:
        return start.read(9)[8:] == b"{"


def _explain(file: Path, error: Exception) -> UserError:
    """Return the error of a file that holds no tensors, or other objects beside them."""
    if objects := GLOBAL.search(str(error)):
        what = f"the file has objects besides tensors ({objects[1]}), which could run code"
        todo = "where it was made, save the tensors alone: torch.save(model.state_dict(), FILE)"
        return make_error(file, what, todo=todo)
    what = f"the file holds no tensors that can be read safely ({explain_unreadable(error)})"
    allowed = "safetensors, or a state dict saved by torch"
    return make_error(file, what, allowed, "download it again")


def _strip_prefixes(tensors: Tensors) -> Tensors:
    """Take away the words that stand before every name."""
    tensors = {name: tensor for name, tensor in tensors.items() if name not in COUNTERS} or tensors
    while prefix := _find_prefix(tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _find_prefix(tensors: Tensors) -> str:
    """Find the word that stands before every name; empty when there is none."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) and name != prefix for name in tensors):
            return prefix
    return ""
