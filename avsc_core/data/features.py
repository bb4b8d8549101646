"""Features and targets of a data set, shared by every trial.

Features are the model's inputs: log-mels (N,T,128) and frames (N,F,3,H,W). They come from the
cache, where they are computed once for each clip and setting and memory-mapped, so that trials on
one machine share the pages. Targets are events (N,E) and objects (N,O) of 0 and 1. The environment
variable `AVSC_CACHE` moves the cache.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from avsc_core.cache.folders import build_once
from avsc_core.cache.store import (
    BLOCK,
    FORMAT,
    compute_in_batches,
    compute_in_processes,
    count_notes,
    load_or_compute,
    locate_array,
)
from avsc_core.config import Config, LogMel, Media, Pictures, PseudoLabels
from avsc_core.data.dataset import DataSet, read_dataset
from avsc_core.data.tables import Clip
from avsc_core.data.tau import CLIP_SECONDS
from avsc_core.demo.scenes import write_demo
from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.files import cache_root, make_cache
from avsc_core.finite import check_finite
from avsc_core.labels import EVENT_SCORES, check_coarse, name_object_scores
from avsc_core.processes import Progress
from avsc_core.resolve import find_given_encodings
from avsc_core.weights.preparation import choose_pictures


class Features(NamedTuple):
    """Memory-mapped features of a data set and its targets; row n belongs to `data.clips[n]`.

    A model without a branch for sound has no log-mels, and one without a branch for pictures no
    frames.
    """

    data: DataSet
    log_mel: ndarray | None  # (N,T,128) float32 or float16, not normalised
    frames: ndarray | None  # (N,F,3,H,W) uint8
    events: ndarray  # (N,E) uint8
    objects: ndarray  # (N,O) uint8
    sums: ndarray | None = None  # (N,3) float64, with `log_mel.normalise: dataset`; `sum_log_mel`


def open_embedded_scenes(progress: Progress) -> DataSet:
    """Read the data set that comes with avsc; the first call writes it into the cache."""
    root = cache_root() / f"embedded-scenes-{FORMAT}"
    report = partial(progress, "writing the embedded scenes")
    build_once(root, lambda folder: write_demo(folder, progress=report))
    return read_dataset(root, embedded=True, progress=progress)


def open_data(root: str | Path | None, progress: Progress) -> DataSet:
    """Read the data set at `root`, or the embedded scenes.

    Raises UserError, also where no features could be kept.
    """
    make_cache()
    if root is None:
        return open_embedded_scenes(progress)
    return read_dataset(Path(root), progress=progress)


def build_features(data: DataSet, config: Config, progress: Progress) -> Features:
    """Return the features of every clip, from the cache or computed now, with the targets.

    Only what the model takes is computed and read: log-mels for sound, frames for pictures. Raises
    UserError that names every unreadable file, and when labels of the data do not fit the
    configuration.
    """
    _check_labels(data, config)
    common = (config.media, config.workers, progress)
    branches = find_branches_with_inputs(config)
    log_mel = frames = sums = None
    if "audio" in branches:
        log_mel = load_clip_features(data.clips, data.sounds, config.log_mel, *common)
        if config.log_mel.normalise == "dataset":
            sums = _load_sums(data, config, log_mel, progress)
    if "visual" in branches:
        frames = load_clip_features(data.clips, data.films, choose_pictures(config), *common)
    events, objects = select_labels(data, config.pseudo)
    return Features(data, log_mel, frames, events, objects, sums)


def find_branches_with_inputs(config: Config) -> set[str]:
    """Return the branches that take features of clips, and not encodings computed elsewhere."""
    return set(config.modality.split("-")) - find_given_encodings(config).keys()


def sum_log_mel(log_mel: ndarray) -> ndarray:
    """Sum up what a clip's log-mel (T,128) adds to the mean and deviation of a data set.

    Returns (3,) float64: the number of values in recorded frames, their sum, that of their squares.
    """
    values = log_mel.astype(np.float64)
    recorded = values[values.any(1)]  # frames that are not padding
    return np.array([recorded.size, recorded.sum(), (recorded**2).sum()])


def load_clip_features(
    clips: Sequence[Clip],
    contents: Sequence[str],  # SHA-256 of each clip's wav or mp4
    section: LogMel | Pictures,
    media: Media,
    workers: int,
    progress: Progress,
    seconds: float = CLIP_SECONDS,  # length that clips are padded or cropped to
) -> ndarray:
    """Return log-mels (N,T,128) or frames (N,F,3,H,W) of clips, from the cache or computed now.

    Raises UserError that names every unreadable file.
    """
    folder = locate_feature_folder(contents, section, media, seconds)
    function = partial(_compute_clip_features, section, media, seconds)
    compute = partial(compute_in_processes, function, clips, workers)
    name = "log-mel" if isinstance(section, LogMel) else "frames"
    return load_or_compute(folder, contents, compute, partial(progress, f"computing {name}"))


def count_odd_lengths(data: DataSet, config: Config) -> dict[str, int]:
    """Count the recordings that were padded and cropped, as `media.short` and `media.long` say."""
    counts: Counter[str] = Counter()
    for folder in locate_features(data, config):
        counts.update(count_notes(folder))
    return dict(counts)


def locate_features(data: DataSet, config: Config) -> list[Path]:
    """Return the folders of a data set's log-mels and frames, as far as a model takes them."""
    branches = find_branches_with_inputs(config)
    folders = []
    if "audio" in branches:
        folders.append(locate_feature_folder(data.sounds, config.log_mel, config.media))
    if "visual" in branches:
        folders.append(locate_feature_folder(data.films, choose_pictures(config), config.media))
    return folders


def locate_feature_folder(
    contents: Sequence[str], section: LogMel | Pictures, media: Media, seconds: float = CLIP_SECONDS
) -> Path:
    """Return the folder of the log-mels or frames of files with these SHA-256."""
    settings = section.model_dump()
    # Settings that came after version 0.1.0 and change nothing are not in a folder's name.
    for name in section.ADDED:
        if settings[name] == type(section).model_fields[name].default:
            del settings[name]
    if isinstance(section, LogMel):
        # Log-mels are kept before normalisation; only `peak` acts earlier, on the samples.
        settings["peak"] = settings.pop("normalise") == "peak"
        kind = "log_mel"
    else:
        del settings["preparation"]  # the other settings say what it led to
        kind = "frames"
    return locate_array(kind, [settings, media.model_dump(), seconds], contents)


def select_labels(data: DataSet, settings: PseudoLabels) -> tuple[ndarray, ndarray]:
    """Return events (N,E) and objects (N,O): the true labels, or those of the teachers."""
    return threshold_scores(data.scores, settings) if data.scores else (data.events, data.objects)


def threshold_scores(
    scores: Mapping[str, ndarray], settings: PseudoLabels
) -> tuple[ndarray, ndarray]:
    """Return events (N,E) and objects (N,O): 1 where a probability reaches its threshold, uint8."""
    object_scores = name_object_scores(settings.object_activation, settings.object_pooling)
    events = scores[EVENT_SCORES] >= settings.event_threshold
    objects = scores[object_scores] >= settings.object_threshold
    return events.astype(np.uint8), objects.astype(np.uint8)


def _check_labels(data: DataSet, config: Config) -> None:
    """Raise UserError where the configuration's classes or `pseudo` do not fit the data set."""
    sizes = {
        "audio.classes": (config.audio.classes, len(data.event_names)),
        "visual.classes": (config.visual.classes, len(data.object_names)),
        "scenes": (config.scenes, len(data.scene_names)),
    }
    faults = []
    for setting, (configured, found) in sizes.items():
        if configured != found:
            what = f"{configured} in the configuration, {found} in {data.title}"
            faults.append(Fault(setting, what, todo=f"set it to {found}"))

    if not data.scores and config.pseudo != PseudoLabels():
        what = f"{data.title} has true labels, no teachers' probabilities to apply thresholds to"
        faults.append(Fault("pseudo", what, todo="leave it out, or run `avsc-core pseudo`"))

    if config.losses.coarse:
        with collect_faults(faults):
            check_coarse(data.scene_names, data.title)

    if faults:
        raise UserError(faults)


def check_log_mels(data: DataSet, log_mel: ndarray, rows: ndarray) -> None:
    """Check that the log-mels (N,T,128) of `rows` are finite. Raises UserError that names each."""
    todo = f"`avsc-core features {data.root} --verify` computes it again"
    check_finite(list_rows(data, rows, "its log-mel in the cache", log_mel), todo)


def list_rows(
    data: DataSet, rows: ndarray, what: str, array: ndarray
) -> Iterator[tuple[str, str, ndarray]]:
    """Yield (name of the clip, what its row is, the row) of an array (N,...)."""
    for row in rows:
        yield data.clips[row].name, what, array[row]


def _load_sums(data: DataSet, config: Config, log_mel: ndarray, progress: Progress) -> ndarray:
    """Return the sums (N,3) of `sum_log_mel` of every clip, from the cache or computed now.

    Trials of a study share them: the log-mels of TAU's training split fill 4.5 GB.
    """

    def measure(rows: ndarray) -> ndarray:
        check_log_mels(data, log_mel, rows)
        return np.stack([sum_log_mel(log_mel[row]) for row in rows])

    source = locate_feature_folder(data.sounds, config.log_mel, config.media)
    return load_or_compute(
        locate_array("log_mel_sums", [source.name.rsplit("-", 1)[0]], data.sounds),
        data.sounds,
        compute=partial(compute_in_batches, lambda: measure, BLOCK),
        report=partial(progress, "measuring log-mels"),
    )


def _compute_clip_features(
    section: LogMel | Pictures, media: Media, seconds: float, clip: Clip
) -> tuple[ndarray, str]:
    """Compute one clip's row, and "padded", "cropped" or ""."""
    # Imported here because it imports torch: who only reads the cache should not pay for that.
    from avsc_core.data.clip_features import compute_frames, compute_log_mel

    if isinstance(section, LogMel):
        return compute_log_mel(clip, section, media, seconds)
    return compute_frames(clip, section, media, seconds)
