"""`avsc-core pseudo`: what events are heard and what objects are seen in every clip, as two teachers say (Section IV).

wav and mp4 files -> teachers' logits, kept in the cache as they come -> probabilities of every reading and thresholded
labels -> the label file that training reads its targets (Eq. 1 and 2) from. A run that was killed goes on where it
stopped; other thresholds later need no teacher.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from avsc_core.cache.arrays import Rows, filled
from avsc_core.config import Config
from avsc_core.data.batches import normalise_frames, to_device
from avsc_core.data.dataset import hash_media
from avsc_core.data.features import load_clip_features
from avsc_core.data.logmel import AUDIOSET, normalise
from avsc_core.data.tables import Clip
from avsc_core.data.tau import read_clips
from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.files import cache_root
from avsc_core.labels import (
    EVENT_SCORES,
    LABEL_FILE,
    OBJECT_READINGS,
    name_object_scores,
    read_labels,
    write_labels,
)
from avsc_core.processes import Progress
from avsc_core.teachers.taggers import Teacher, load_audio_teacher, load_visual_teacher
from avsc_core.trainer.device import choose_device

if TYPE_CHECKING:
    from avsc_core.record.recorder import Recorder

MANY = 50  # positives of a median clip above which a threshold says too little


class Positives(NamedTuple):
    """How many classes are positive in the clips of one split."""

    kind: str  # events or objects
    split: str
    clips: int
    median: float
    mean: float
    without: float  # share of clips without any


class Labelling(NamedTuple):
    """What a labelling left behind."""

    path: Path
    teachers: tuple[Teacher, Teacher]
    positives: list[Positives]


def label_clips(
    root: Path, config: Config, audio: str, visual: str, out: Path | None, progress: Progress
) -> Labelling:
    """Label every clip of the data set at `root` and write the label file, by default where training looks for it.

    Raises UserError with every fault before any work starts: the data set's, both teachers', a label file of true
    labels that would be lost.
    """
    path = out or root / LABEL_FILE
    clips, faults, _ = read_clips(root)
    listener = watcher = None
    with collect_faults(faults):
        listener, log_mel = load_audio_teacher(audio, config.audio)
    with collect_faults(faults):
        watcher = load_visual_teacher(visual)
    with collect_faults(faults):
        _check_target(path)
    if faults or listener is None or watcher is None:
        raise UserError(faults)
    sound_contents, film_contents = hash_media(root, clips, progress)
    device, step, workers = choose_device(config), config.training.batch_size, config.workers
    sounds = load_clip_features(clips, sound_contents, log_mel, config.media, workers, progress)

    def hear(rows: np.ndarray) -> torch.Tensor:
        return normalise(to_device(sounds[rows], device), AUDIOSET)

    event_logits = _ask(
        listener,
        hear,
        (sound_contents, log_mel.model_dump(), config.media.model_dump()),
        len(clips),
        step,
        device,
        progress,
    )
    frames = load_clip_features(
        clips, film_contents, config.pictures, config.media, workers, progress
    )

    def look(rows: np.ndarray) -> torch.Tensor:
        return normalise_frames(to_device(frames[rows], device))

    about = (film_contents, config.pictures.model_dump(), config.media.model_dump())
    object_logits = _ask(watcher, look, about, len(clips), step, device, progress)
    scores = compute_readings(event_logits, object_logits)
    settings = config.pseudo
    events = scores[EVENT_SCORES] >= settings.event_threshold
    objects = (
        scores[name_object_scores(settings.object_activation, settings.object_pooling)]
        >= settings.object_threshold
    )
    names = [clip.name for clip in clips]
    write_labels(path, names, events, objects, listener.names, watcher.names, scores)
    tables = count_positives("events", events, clips) + count_positives("objects", objects, clips)
    return Labelling(path, (listener, watcher), tables)


def compute_readings(event_logits: np.ndarray, object_logits: np.ndarray) -> dict[str, np.ndarray]:
    """Logits (N,E) and (N,F,O) -> probabilities (N,E) and (N,O) under the names the label file has for each reading."""
    scores = {EVENT_SCORES: torch.sigmoid(torch.from_numpy(np.array(event_logits))).numpy()}
    for activation, pooling in OBJECT_READINGS:
        pooled = [
            _read(torch.from_numpy(np.array(clip)), activation, pooling) for clip in object_logits
        ]
        scores[name_object_scores(activation, pooling)] = torch.stack(pooled).numpy()
    return scores


def count_positives(kind: str, labels: np.ndarray, clips: Sequence[Clip]) -> list[Positives]:
    """Positive classes per clip, by split."""
    counts, splits = labels.sum(1), np.array([clip.split for clip in clips])
    rows = []
    for split in dict.fromkeys(splits.tolist()):
        own = counts[splits == split]
        about = float(np.median(own)), float(own.mean()), float((own == 0).mean())
        rows.append(Positives(kind, split, len(own), *about))
    return rows


def record_labelling(recorder: "Recorder", config: Config, made: Labelling) -> str:
    """A run of its own in experiment `pseudo`: settings, teachers with their SHA-256, positives. Returns its id."""
    tags = {"avsc.kind": "pseudo", "avsc.labels": str(made.path)}
    for branch, teacher in zip(("audio", "visual"), made.teachers, strict=True):
        tags |= {
            f"avsc.teacher.{branch}": teacher.file,
            f"avsc.teacher.{branch}.sha256": teacher.sha256,
        }
    run_id = recorder.begin_run("pseudo", config, tags)
    metrics = {
        f"{row.kind}_{name}_{row.split}": value
        for row in made.positives
        for name, value in (("median", row.median), ("mean", row.mean), ("without", row.without))
    }
    recorder.end_run(run_id, "complete", metrics)
    return run_id


def list_warnings(tables: Sequence[Positives]) -> list[str]:
    """What a person should know of these labels before training on them."""
    return [
        f"half of the {row.split} clips have {'no' if row.median == 0 else f'{row.median:.0f} or more'} {row.kind}; "
        + ("lower" if row.median == 0 else "raise")
        + f" pseudo.{row.kind.removesuffix('s')}_threshold"
        for row in tables
        if row.median == 0 or row.median > MANY
    ]


def _read(logits: torch.Tensor, activation: str, pooling: str) -> torch.Tensor:
    """(F,O) logits of a clip's frames -> (O,) probabilities."""
    probability = logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1)
    return probability.amax(0) if pooling == "max" else probability.mean(0)


def _ask(
    teacher: Teacher,
    read: Callable[[np.ndarray], torch.Tensor],
    about: tuple[object, ...],
    count: int,
    step: int,
    device: torch.device,
    progress: Progress,
) -> np.ndarray:
    """Logits of a teacher for every clip, from the cache as far as they are there."""
    key = hashlib.sha256(json.dumps([teacher.sha256, *about]).encode()).hexdigest()[:16]
    report = partial(progress, f"asking {teacher.layout}")
    return filled(
        cache_root() / "pseudo" / f"{key}.npy",
        count,
        step,
        partial(_asker, teacher, read, device),
        report,
    )


def _asker(
    teacher: Teacher, read: Callable[[np.ndarray], torch.Tensor], device: torch.device
) -> Rows:
    module: nn.Module = teacher.module.to(device)

    @torch.inference_mode()
    def ask(rows: np.ndarray) -> np.ndarray:
        logits: np.ndarray = module(read(rows)).cpu().numpy()
        return logits

    return ask


def _check_target(path: Path) -> None:
    """True labels are not to be had again: they are never written over."""
    if path.exists() and not read_labels(path).scores:
        raise UserError(
            Fault(str(path), "holds true labels", todo="give --out, or move it away first")
        )
