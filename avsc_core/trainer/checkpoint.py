"""A checkpoint: the state of a trial after an epoch, from which it continues to the same numbers.

In: after every epoch the state of a training. Out: now and then a file, and the state again.

Random numbers need no place in it, because every epoch seeds them from (seed, epoch). Frozen
weights are left out: they are loaded, or drawn, as they were for epoch 1.

The training waits only while its state is copied to the CPU; a thread writes the copy. A file is
written at most every `compute.checkpoint_minutes`, and more often where that costs next to nothing:
writing may take a hundredth of the time. So a trial that is interrupted loses at most
`compute.checkpoint_minutes` and the epoch that was under way, and small models lose an epoch.

The file is one of safetensors, which can carry tensors and text but no code. Its text has what is
not a tensor, a checksum over everything, and whose the checkpoint is. It is written beside the
previous one, which it replaces when it is whole.
"""

import errno
import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avsc_core import __version__
from avsc_core.files import DISK_FULL, atomic_path, remove_file

FORMAT = 3  # raised when the content changes; a file of another format is not used
SHARE = 0.01  # of a training's time that the thread may write
FEW_SECONDS = 5.0  # that a trial may take to write its last state when it is interrupted

WRITER = ThreadPoolExecutor(1, "checkpoint")  # a process trains one trial at a time


class Checkpoint(NamedTuple):
    """The state of a trial after an epoch."""

    epoch: int  # from 1
    metrics: dict[str, float]  # of that epoch
    model: dict[str, Any]  # without frozen weights
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any]  # of fp16's loss; empty otherwise
    selection: dict[str, Any] | None  # selection.py; None without validation clips
    ema: dict[str, Any] | None = None  # the averaged weights, with `training.ema`


class Unusable(Exception):
    """A checkpoint cannot be used; the text says why, after its path."""


class CheckpointFile:
    """The checkpoints of one trial, one after another under the same name."""

    def __init__(self, path: Path, minutes: float) -> None:
        """`minutes` is `compute.checkpoint_minutes`."""
        self.path = path
        self.minutes = minutes
        self.owner: Mapping[str, str] = {}
        self.missing = ""  # why there was none to continue from
        self.notes: list[str] = []  # what went wrong in writing, each once
        self.told = 0  # how many of them were taken
        self.is_disk_full = False  # then training ends, for without checkpoints it can be lost
        self.latest: Callable[[], Checkpoint] | None = None  # makes that of the last epoch
        self.writing: Future[None] | None = None
        self.begun = -float("inf")  # when the last writing began
        self.seconds = 0.0  # that it took
        self.is_current = False  # whether it was of the last epoch

    def load(self, owner: Mapping[str, str]) -> Checkpoint | None:
        """Return the checkpoint, or None and the reason in `missing`.

        `owner` says what a checkpoint belongs to: its trial, data, clips and metric.
        """
        self.owner = owner
        try:
            return read_checkpoint(self.path, owner)
        except Unusable as error:
            self.missing = str(error)
            return None

    def offer(self, make: Callable[[], Checkpoint]) -> None:
        """Take the state after an epoch, which `make` returns until the next one begins.

        It is written if that is due. Raises OSError when the disk was full at the last writing.
        """
        if self.is_disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.latest = make
        self.is_current = False
        is_free = self.writing is None or self.writing.done()
        waited = time.monotonic() - self.begun
        if is_free and waited >= min(60 * self.minutes, self.seconds / SHARE):
            self._write()

    def forget(self) -> None:
        """Note that the state of the last epoch is about to change."""
        self.latest = None

    def keep_last(self) -> None:
        """Have the state of the last epoch on disk, if that takes a few seconds at most."""
        self._wait()
        if self.latest and not self.is_current and self.seconds <= FEW_SECONDS:
            self._write()
            self._wait()

    def take_notes(self) -> list[str]:
        """Return what went wrong in writing since the last call."""
        notes = self.notes[self.told :]
        self.told += len(notes)
        return notes

    def remove(self) -> None:
        """Remove the file of a trial that is over."""
        self.latest = None
        self._wait()
        remove_file(self.path)

    def _write(self) -> None:
        """Copy the state, and have it written."""
        assert self.latest is not None
        self.begun = time.monotonic()
        self.is_current = True
        tensors: dict[str, Tensor] = {}
        state = _pack(self.latest()._asdict(), tensors)
        self.writing = WRITER.submit(self._store, state, tensors)

    def _store(self, state: Any, tensors: dict[str, Tensor]) -> None:
        try:
            write_checkpoint(self.path, self.owner, state, tensors)
        except Exception as error:
            # The training is not at fault, and the next writing may succeed.
            self.is_current = False
            # safetensors has the reason in the text of its error alone.
            self.is_disk_full = any(os.strerror(code) in str(error) for code in DISK_FULL)
            note = f"its checkpoint cannot be written ({error}); it goes on without"
            if note not in self.notes and not self.is_disk_full:
                self.notes.append(note)
        self.seconds = time.monotonic() - self.begun

    def _wait(self) -> None:
        """Wait for the writing that is under way."""
        if self.writing:
            self.writing.result()


def write_checkpoint(
    path: Path, owner: Mapping[str, str], state: Any, tensors: dict[str, Tensor]
) -> None:
    """Write a packed state atomically. Raises OSError or SafetensorError."""
    text = json.dumps(state)
    header = {
        "format": FORMAT,
        "version": __version__,
        "owner": dict(owner),
        "checksum": compute_checksum(text, tensors),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"header": json.dumps(header), "state": text})


def read_checkpoint(path: Path, owner: Mapping[str, str]) -> Checkpoint:
    """Read the checkpoint of `owner` at `path`. Raises Unusable."""
    if not path.is_file():
        raise Unusable(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata["header"])
        version = (header["format"], header["version"])
        others = [name for name in owner if header["owner"].get(name) != owner[name]]
        is_whole = header["checksum"] == compute_checksum(metadata["state"], tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        # Those of earlier versions are zip files.
        with path.open("rb") as content:
            is_earlier = content.read(2) == b"PK"
        what = "is of an earlier version" if is_earlier else "is damaged"
        raise Unusable(f"the checkpoint at {path} {what}") from None

    # Whether it is what it was when it was written, of this version, and of this trial.
    if not is_whole:
        raise Unusable(f"the checkpoint at {path} is damaged")
    if version != (FORMAT, __version__):
        raise Unusable(f"the checkpoint at {path} is of version {header['version']}")
    if others:
        raise Unusable(f"the checkpoint at {path} is of another {', '.join(others)}")
    return Checkpoint(**_unpack(json.loads(metadata["state"]), tensors))


def compute_checksum(text: str, tensors: Mapping[str, Tensor]) -> int:
    """Compute the CRC-32 of a text, and of names, types, shapes and values of tensors."""
    checksum = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        described = f"{name} {tensor.dtype} {list(tensor.shape)}"
        checksum = zlib.crc32(described.encode(), checksum)
        # numpy does not know bfloat16, so it gets the bytes.
        values = tensor.reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(values.data, checksum)
    return checksum


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a state as JSON; copies of its tensors are put into `tensors`, on the CPU."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, Mapping):  # whose keys may be numbers, which JSON does not have
        return {"items": [[key, _pack(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(each, tensors) for each in value]
    return value


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `_pack` was given."""
    if isinstance(value, list):
        return [_unpack(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _unpack(each, tensors) for key, each in value["items"]}
