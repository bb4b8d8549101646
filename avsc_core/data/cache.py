"""Features of a data set, computed once and shared by every trial.

Two arrays a data set and feature configuration: log-mel (N,T,128) float32 and frames (N,F,3,H,W) uint8, each in a
folder named by a hash of what it depends on, so that a changed picture size leaves the log-mels alone. They are
memory-mapped: trials on one machine share the pages. A folder appears by a rename once it is complete, under a lock, so
a killed or a second process never sees half of one. `AVSC_CACHE` moves the cache.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from avsc_core.config import Config, LogMel, Pictures, Pseudo
from avsc_core.data.demo import write_demo
from avsc_core.data.tau import Clip, DataSet, read_dataset
from avsc_core.errors import Fault, UserError
from avsc_core.files import write_json
from avsc_core.labels import EVENT_SCORES, object_scores
from avsc_core.processes import process_pool

Progress = Callable[[str, int, int], None]  # (what, done, total)
FORMAT = 1  # raised whenever the same settings give other bytes
CLIPS_PER_WORKER = 16  # fewer are not worth starting a process for


class Features(NamedTuple):
    """Memory-mapped features of a data set and its targets; row n belongs to `data.clips[n]`."""

    data: DataSet
    log_mel: np.ndarray  # (N,T,128) float32, not normalised
    frames: np.ndarray  # (N,F,3,H,W) uint8
    events: np.ndarray  # (N,E) uint8
    objects: np.ndarray  # (N,O) uint8


def silent(what: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


def cache_root() -> Path:
    """The user's cache folder for avsc; `AVSC_CACHE` replaces it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AVSC_CACHE") or Path(base) / "avsc").expanduser()


def embedded_scenes(progress: Progress) -> DataSet:
    """The data set that comes with avsc, written into the cache the first time it is asked for."""
    root = cache_root() / f"embedded-scenes-{FORMAT}"
    report = partial(progress, "writing the embedded scenes")
    once(root, lambda folder: write_demo(folder, progress=report))
    return read_dataset(root, embedded=True)


def open_data(root: Path | None, progress: Progress) -> DataSet:
    """The data set at `root`, or the embedded scenes."""
    return embedded_scenes(progress) if root is None else read_dataset(root)


def build_features(data: DataSet, config: Config, progress: Progress) -> Features:
    """The features of every clip, from the cache or computed now. Raises UserError naming every unreadable file, and
    when the labels of the data do not fit the configuration."""
    _check_labels(data, config)
    log_mel = clip_features(data.root, data.media, data.clips, config.log_mel, config.workers, progress)
    frames = clip_features(data.root, data.media, data.clips, config.pictures, config.workers, progress)
    return Features(data, log_mel, frames, *targets(data, config.pseudo))


def clip_features(
    root: Path, media: str, clips: list[Clip], section: LogMel | Pictures, workers: int, progress: Progress
) -> np.ndarray:
    """Log-mels (N,T,128) or frames (N,F,3,H,W) of clips, from the cache or computed now. Raises UserError."""
    if isinstance(section, LogMel):
        name, settings = "log_mel", _audio_settings(section)
    else:
        name, settings = "frames", section.model_dump()
    text = json.dumps([FORMAT, name, settings, media, str(root)], sort_keys=True)
    folder = cache_root() / "features" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    report = partial(progress, f"computing {name.replace('_', '-')}")
    once(folder, partial(_compute, clips, section, settings, workers, report))
    array: np.ndarray = np.load(folder / "array.npy", mmap_mode="r")
    return array


def _audio_settings(settings: LogMel) -> dict[str, Any]:
    """What the cached log-mel depends on: of the normalisations only `peak` comes before the logarithm."""
    return {**settings.model_dump(exclude={"normalise"}), "peak": settings.normalise == "peak"}


def targets(data: DataSet, settings: Pseudo) -> tuple[np.ndarray, np.ndarray]:
    """events (N,E), objects (N,O): the true labels, or the teachers' probabilities cut at the configured thresholds."""
    if not data.scores:
        return data.events, data.objects
    objects = data.scores[object_scores(settings.object_activation, settings.object_pooling)]
    events = data.scores[EVENT_SCORES] >= settings.event_threshold
    return events.astype(np.uint8), (objects >= settings.object_threshold).astype(np.uint8)


def _check_labels(data: DataSet, config: Config) -> None:
    """The label sets are the configured ones, and who varies a reading of teachers has labels from teachers."""
    sizes = {
        "audio": (config.audio.classes, len(data.event_names)),
        "visual": (config.visual.classes, len(data.object_names)),
    }
    faults = [
        Fault(f"{branch}.classes", f"{own} in the configuration, {found} in {data.title}", todo=f"set it to {found}")
        for branch, (own, found) in sizes.items()
        if own != found
    ]
    if not data.scores and config.pseudo != Pseudo():
        what = f"{data.title} has true labels, no teachers' probabilities to cut otherwise"
        faults.append(Fault("pseudo", what, todo="leave it out, or run `avsc-core pseudo`"))
    if faults:
        raise UserError(faults)


def once(folder: Path, build: Callable[[Path], None]) -> None:
    """Have `build` fill a new folder and rename it to `folder`, unless it is there; one process at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return
        temporary = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(temporary, ignore_errors=True)  # what a killed process left
        temporary.mkdir()
        build(temporary)
        os.replace(temporary, folder)


def _compute(
    clips: list[Clip],
    section: LogMel | Pictures,
    settings: dict[str, Any],
    workers: int,
    report: Callable[[int, int], None],
    folder: Path,
) -> None:
    """Fill `folder` with array.npy, row n from `clips[n]`, and the settings beside it."""
    array = None
    faults: list[Fault] = []
    for row, result in enumerate(_rows(clips, section, workers)):
        if isinstance(result, list):
            faults += result
        else:
            if array is None:
                shape = (len(clips), *result.shape)
                array = np.lib.format.open_memmap(folder / "array.npy", mode="w+", dtype=result.dtype, shape=shape)
            array[row] = result
        report(row + 1, len(clips))
    if faults or array is None:
        raise UserError(faults)
    array.flush()
    write_json(folder / "settings.json", settings)


def _rows(clips: list[Clip], section: LogMel | Pictures, workers: int) -> Iterator[np.ndarray | list[Fault]]:
    """The results in the order of the clips, computed in this process or in several."""
    workers = min(workers or os.cpu_count() or 1, len(clips) // CLIPS_PER_WORKER)
    if workers < 2:
        yield from map(partial(_row, section), clips)
        return
    with process_pool(workers) as pool:
        yield from pool.map(partial(_row, section), clips, chunksize=CLIPS_PER_WORKER // 2)


def _row(section: LogMel | Pictures, clip: Clip) -> np.ndarray | list[Fault]:
    """One clip's features; an unreadable file comes back as its faults, so that all of them are reported together."""
    from avsc_core.data.features import clip_frames, clip_log_mel  # torch: only who computes pays for its import

    try:
        return clip_log_mel(clip, section) if isinstance(section, LogMel) else clip_frames(clip, section)
    except UserError as error:
        return error.faults
