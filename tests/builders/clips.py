"""Clips whose wav files hold a number as text, and the row of features that is computed from it.

Processes that tests start import this module too, so it imports nothing that is slow.
"""

import time
from functools import partial
from pathlib import Path

import numpy as np

from avsc_core.cache.contents import hash_files
from avsc_core.cache.store import compute_in_processes, load_or_compute
from avsc_core.data.tables import Clip
from avsc_core.errors import Fault, UserError

COUNT = 100


def write_clips(folder: Path, count: int = COUNT) -> list[Clip]:
    """Write clips whose wav holds their number, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number in range(count):
        path = folder / f"{number}.wav"
        if not path.exists():
            path.write_text(str(number))
        clips.append(Clip(str(number), path, path, 0, "x-1", "train"))
    return clips


def hash_clips(root: Path, clips: list[Clip]) -> list[str]:
    """Return the hash of each clip's wav."""
    return hash_files(root / "index.json", [clip.audio for clip in clips], ignore_progress)


def ignore_progress(done: int, total: int) -> None:
    """Show nothing."""


def compute_row(clip: Clip, log: Path | None = None, pause: float = 0.0) -> tuple[np.ndarray, str]:
    """Return the number in the file times 0 .. 4.

    A negative number stands for a short clip, text for a fault. Each call adds the clip's name to
    `log` and takes `pause` seconds.
    """
    if log:
        with log.open("a") as file:
            file.write(f"{clip.name}\n")
    time.sleep(pause)

    text = clip.audio.read_text()
    if not text.lstrip("-").isdigit():
        raise UserError(Fault(str(clip.audio), "is not a number"))
    note = "padded" if text.startswith("-") else ""
    return int(text) * np.arange(5, dtype=np.float32), note


def build_in(
    folder: Path,
    clips: list[Clip],
    contents: list[str],
    workers: int = 1,
    log: Path | None = None,
    pause: float = 0.0,
) -> np.ndarray:
    """Load or compute the array of the clips in this folder."""
    function = partial(compute_row, log=log, pause=pause)
    compute = partial(compute_in_processes, function, clips, workers)
    return load_or_compute(folder, contents, compute, ignore_progress)
