"""Features and targets of a data set, shared by every trial.

Log-mels (N,T,128) and frames (N,F,3,H,W) uint8 come from the store, where they are computed once for each clip and
setting and memory-mapped: trials on one machine share the pages. `AVSC_CACHE` moves the cache.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from avsc_core.cache.store import count_notes, load_or_compute
from avsc_core.config import Config, LogMel, Media, Pictures, PseudoLabels
from avsc_core.data.dataset import DataSet, read_dataset
from avsc_core.data.tables import Clip
from avsc_core.data.tau import CLIP_SECONDS
from avsc_core.demo.scenes import write_demo
from avsc_core.errors import Fault, UserError
from avsc_core.files import cache_root
from avsc_core.labels import EVENT_SCORES, name_object_scores
from avsc_core.processes import Progress

FORMAT = 1  # raised whenever the same settings give other bytes


class Features(NamedTuple):
    """Memory-mapped features of a data set and its targets; row n belongs to `data.clips[n]`."""

    data: DataSet
    log_mel: np.ndarray  # (N,T,128) float32, not normalised
    frames: np.ndarray  # (N,F,3,H,W) uint8
    events: np.ndarray  # (N,E) uint8
    objects: np.ndarray  # (N,O) uint8


def open_embedded_scenes(progress: Progress) -> DataSet:
    """The data set that comes with avsc, written into the cache the first time it is asked for."""
    root = cache_root() / f"embedded-scenes-{FORMAT}"
    report = partial(progress, "writing the embedded scenes")
    build_once(root, lambda folder: write_demo(folder, progress=report))
    return read_dataset(root, embedded=True, progress=progress)


def open_data(root: Path | None, progress: Progress) -> DataSet:
    """The data set at `root`, or the embedded scenes."""
    return open_embedded_scenes(progress) if root is None else read_dataset(root, progress=progress)


def build_features(data: DataSet, config: Config, progress: Progress) -> Features:
    """The features of every clip, from the cache or computed now. Raises UserError naming every unreadable file, and
    when the labels of the data do not fit the configuration."""
    _check_labels(data, config)
    workers = config.workers
    log_mel = load_clip_features(
        data.clips, data.sounds, config.log_mel, config.media, workers, progress
    )
    frames = load_clip_features(
        data.clips, data.films, config.pictures, config.media, workers, progress
    )
    return Features(data, log_mel, frames, *select_labels(data, config.pseudo))


def load_clip_features(
    clips: Sequence[Clip],
    content: Sequence[str],  # SHA-256 of each clip's wav or mp4
    section: LogMel | Pictures,
    media: Media,
    workers: int,
    progress: Progress,
    seconds: float = CLIP_SECONDS,
) -> np.ndarray:
    """Log-mels (N,T,128) or frames (N,F,3,H,W) of clips, from the store or computed now. Raises UserError."""
    folder = locate_feature_folder(content, section, media, seconds)
    report = partial(
        progress, f"computing {'log-mel' if isinstance(section, LogMel) else 'frames'}"
    )
    return load_or_compute(
        folder, clips, content, partial(_compute, section, media, seconds), workers, report
    )


def count_odd_lengths(data: DataSet, config: Config) -> dict[str, int]:
    """How many recordings were padded and cropped because `media.short` and `media.long` say so."""
    counts = [count_notes(folder) for folder in locate_features(data, config)]
    return {note: sum(count[note] for count in counts) for note in counts[0]}


def locate_features(data: DataSet, config: Config) -> tuple[Path, Path]:
    """Where the log-mels and the frames of a data set are kept."""
    log_mel = locate_feature_folder(data.sounds, config.log_mel, config.media)
    return log_mel, locate_feature_folder(data.films, config.pictures, config.media)


def locate_feature_folder(
    content: Sequence[str], section: LogMel | Pictures, media: Media, seconds: float = CLIP_SECONDS
) -> Path:
    """Where the features of files with this content are kept: settings, then the list of clips, as hashes."""
    log_mel = isinstance(section, LogMel)
    settings = section.model_dump(exclude={"normalise"} if log_mel else set())
    if isinstance(section, LogMel):  # of the normalisations only `peak` comes before the logarithm
        settings["peak"] = section.normalise == "peak"
    name = "log_mel" if log_mel else "frames"
    hashes = [
        hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        for about in ([FORMAT, settings, media.model_dump(), seconds], list(content))
    ]
    return cache_root() / "features" / "-".join((name, *hashes))


def select_labels(data: DataSet, settings: PseudoLabels) -> tuple[np.ndarray, np.ndarray]:
    """events (N,E), objects (N,O): the true labels, or the teachers' probabilities cut at the configured thresholds."""
    if not data.scores:
        return data.events, data.objects
    objects = data.scores[name_object_scores(settings.object_activation, settings.object_pooling)]
    events = data.scores[EVENT_SCORES] >= settings.event_threshold
    return events.astype(np.uint8), (objects >= settings.object_threshold).astype(np.uint8)


def _check_labels(data: DataSet, config: Config) -> None:
    """The label sets are the configured ones, and who varies a reading of teachers has labels from teachers."""
    sizes = {
        "audio": (config.audio.classes, len(data.event_names)),
        "visual": (config.visual.classes, len(data.object_names)),
    }
    faults = [
        Fault(
            f"{branch}.classes",
            f"{own} in the configuration, {found} in {data.title}",
            todo=f"set it to {found}",
        )
        for branch, (own, found) in sizes.items()
        if own != found
    ]
    if config.scenes != len(data.scene_names):
        what = f"{config.scenes} in the configuration, {len(data.scene_names)} in {data.title}"
        faults.append(Fault("scenes", what, todo=f"set it to {len(data.scene_names)}"))
    if not data.scores and config.pseudo != PseudoLabels():
        what = f"{data.title} has true labels, no teachers' probabilities to cut otherwise"
        faults.append(Fault("pseudo", what, todo="leave it out, or run `avsc-core pseudo`"))
    if faults:
        raise UserError(faults)


def build_once(folder: Path, build: Callable[[Path], None]) -> None:
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
    section: LogMel | Pictures, media: Media, seconds: float, clip: Clip
) -> tuple[np.ndarray, str]:
    from avsc_core.data.clip_features import (  # torch: only who computes pays for its import
        compute_frames,
        compute_log_mel,
    )

    if isinstance(section, LogMel):
        return compute_log_mel(clip, section, media, seconds)
    return compute_frames(clip, section, media, seconds)
