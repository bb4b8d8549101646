"""`avsc-core pseudo`: the pseudo-labels of every clip, made by two teachers (Section IV).

wav and mp4 files -> the teachers' logits (N,E) and (N,F,O), which go into the cache
                  -> probabilities (N,E) and (N,O), for every way to compute them (a *reading*)
                  -> labels, 1 where a probability reaches the threshold: the targets of Eq. 1 and 2
                  -> the label file that training reads

A run that was killed continues where it stopped; a changed or added clip costs the logits of that
clip. Other thresholds need no teacher.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from avsc_core.cache.store import compute_in_batches, load_or_compute, locate_array
from avsc_core.config import Config, LogMel, Pictures
from avsc_core.data.batches import copy_rows, normalise_frames, to_device
from avsc_core.data.dataset import hash_media
from avsc_core.data.features import load_clip_features, threshold_scores
from avsc_core.data.logmel import AUDIOSET, normalise
from avsc_core.data.tables import Clip
from avsc_core.data.tau import read_clips
from avsc_core.errors import UserError, collect_faults, make_error
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

MANY = 50  # positive classes of the median clip above which a threshold is probably too low


class Positives(NamedTuple):
    """How many classes are positive in the clips of one split."""

    kind: str  # events or objects
    split: str
    clips: int
    median: float
    mean: float
    without: float  # share of clips without any


class Labelling(NamedTuple):
    """The result of labelling a data set."""

    path: Path  # of the label file
    teachers: tuple[Teacher, Teacher]  # audio, visual
    positives: list[Positives]


class TeacherInput(NamedTuple):
    """What one teacher receives of every clip."""

    kind: str  # how the cache calls the logits
    contents: Sequence[str]  # N, SHA-256 of each clip's wav or mp4
    section: LogMel | Pictures  # settings of the features: log-mels or frames
    normalise: Callable[[Tensor], Tensor]  # of a batch of features


def label_clips(
    root: Path, config: Config, audio: str, visual: str, out: Path | None, progress: Progress
) -> Labelling:
    """Label every clip of the data set at `root`, and write the label file.

    `audio` and `visual` name the weights of the two teachers. The label file goes to `out`, by
    default to where training looks for it.

    Raises UserError with every fault before any work starts: those of the tables and of both
    teachers, and a label file of true labels that would be lost. Raises UserError that names every
    unreadable file later.
    """
    path = out or root / LABEL_FILE

    # Collect every fault of the tables, the teachers and the label file.
    clips, faults, _ = read_clips(root)
    audio_teacher = visual_teacher = None
    with collect_faults(faults):
        audio_teacher, log_mel = load_audio_teacher(audio, config.audio)
    with collect_faults(faults):
        visual_teacher = load_visual_teacher(visual)
    with collect_faults(faults):
        # True labels could not be made again.
        if path.exists() and not read_labels(path).scores:
            raise make_error(path, "holds true labels", todo="give --out, or move it away first")
    if faults or audio_teacher is None or visual_teacher is None:
        raise UserError(faults)

    # Let each teacher see every clip.
    sounds, films = hash_media(root, clips, progress)
    heard = TeacherInput("event_logits", sounds, log_mel, partial(normalise, scale=AUDIOSET))
    seen = TeacherInput("object_logits", films, config.pictures, normalise_frames)
    event_logits = _load_logits(audio_teacher, heard, clips, config, progress)
    object_logits = _load_logits(visual_teacher, seen, clips, config, progress)

    # Make probabilities of the logits, and labels of the probabilities.
    scores = compute_readings(event_logits, object_logits)
    events, objects = threshold_scores(scores, config.pseudo)
    names = [clip.name for clip in clips]
    write_labels(path, names, events, objects, audio_teacher.names, visual_teacher.names, scores)
    positives = count_positives("events", events, clips)
    positives += count_positives("objects", objects, clips)
    return Labelling(path, (audio_teacher, visual_teacher), positives)


def compute_readings(event_logits: ndarray, object_logits: ndarray) -> dict[str, ndarray]:
    """Turn logits (N,E) and (N,F,O) into probabilities (N,E) and (N,O), under their names."""
    scores = {EVENT_SCORES: torch.from_numpy(np.array(event_logits)).sigmoid().numpy()}
    for activation, pooling in OBJECT_READINGS:
        # Clip by clip, because the logits of all clips may not fit into memory.
        pooled = []
        for frames in object_logits:
            logits = torch.from_numpy(np.array(frames))  # (F,O)
            by_frame = logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1)
            pooled.append(by_frame.amax(0) if pooling == "max" else by_frame.mean(0))  # (O,)
        scores[name_object_scores(activation, pooling)] = torch.stack(pooled).numpy()
    return scores


def count_positives(kind: str, labels: ndarray, clips: Sequence[Clip]) -> list[Positives]:
    """Count each clip's positive classes in `labels` (N,C); summarise the counts of each split."""
    counts = labels.sum(1)
    splits = np.array([clip.split for clip in clips])
    rows = []
    for split in dict.fromkeys(splits.tolist()):
        split_counts = counts[splits == split]
        median = float(np.median(split_counts))
        mean = float(split_counts.mean())
        without = float((split_counts == 0).mean())
        rows.append(Positives(kind, split, len(split_counts), median, mean, without))
    return rows


def record_labelling(recorder: "Recorder", config: Config, labelling: Labelling) -> str:
    """Record settings, teachers and positives as a run of experiment `pseudo`; return its id."""
    tags = {"avsc.kind": "pseudo", "avsc.labels": str(labelling.path)}
    for branch, teacher in zip(("audio", "visual"), labelling.teachers, strict=True):
        tags[f"avsc.teacher.{branch}"] = teacher.file
        tags[f"avsc.teacher.{branch}.sha256"] = teacher.sha256

    metrics = {}
    for row in labelling.positives:
        for name in ("median", "mean", "without"):
            metrics[f"{row.kind}_{name}_{row.split}"] = getattr(row, name)

    run_id = recorder.begin_run("pseudo", config, tags)
    recorder.end_run(run_id, "complete", metrics)
    return run_id


def list_warnings(tables: Sequence[Positives]) -> list[str]:
    """Return a line for each threshold that leaves the median clip no positives, or too many."""
    warnings = []
    for row in tables:
        if row.median == 0:
            found = "no"
            todo = "lower"
        elif row.median > MANY:
            found = f"{row.median:.0f} or more"
            todo = "raise"
        else:
            continue
        threshold = f"pseudo.{row.kind.removesuffix('s')}_threshold"
        what = f"half of the {row.split} clips have {found} {row.kind}"
        warnings.append(f"{what}; {todo} {threshold}")
    return warnings


def _load_logits(
    teacher: Teacher,
    given: TeacherInput,
    clips: Sequence[Clip],
    config: Config,
    progress: Progress,
) -> ndarray:
    """Return a teacher's logits (N,...) of every clip, from the cache or computed now."""
    settings = (given.section, config.media)
    features = load_clip_features(clips, given.contents, *settings, config.workers, progress)
    batch_size = config.training.batch_size
    start_teacher = partial(_start_teacher, teacher, features, given.normalise, config)

    # The folder `pseudo` of earlier versions is not read: its rows do not say whose they are.
    dependencies = [teacher.sha256, teacher.heads, *(part.model_dump() for part in settings)]
    return load_or_compute(
        locate_array(given.kind, dependencies, given.contents),
        given.contents,
        compute=partial(
            compute_in_batches,
            start_teacher,
            batch_size,
            names=[clip.name for clip in clips],
            source=f"the teacher {teacher.layout}",
        ),
        report=partial(progress, f"asking {teacher.layout}"),
        block=batch_size,
    )


def _start_teacher(
    teacher: Teacher,
    features: ndarray,
    normalise_features: Callable[[Tensor], Tensor],
    config: Config,
) -> Callable[[ndarray], ndarray]:
    """Return a function that computes the logits (B,...) of the rows (B,)."""
    device = choose_device(config)
    module = teacher.module.to(device)

    @torch.inference_mode()
    def compute_logits(rows: ndarray) -> ndarray:
        inputs = normalise_features(to_device(copy_rows(features, rows, device), device))
        logits: ndarray = module(inputs).cpu().numpy()
        return logits

    return compute_logits
