"""A trained model on a split of a data set, or on single files: probabilities, scores, tables.

Protocol `clip` (the paper's) decides once for a 10-s clip, `segment` (the challenge's) once a
second. The prediction table has the form of the challenge's answer file: TAB-separated, `filename`,
`scene_label`, then ten probabilities in the order of the classes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from torch import Tensor

from avsc_core.config import Config, Media
from avsc_core.data.batches import Inputs, check_inputs
from avsc_core.data.clip_features import compute_frames, compute_log_mel
from avsc_core.data.dataset import DataSet, hash_media, select_rows
from avsc_core.data.features import (
    build_features,
    find_branches_with_inputs,
    load_clip_features,
)
from avsc_core.data.logmel import Scale
from avsc_core.data.media import has_sound, is_video
from avsc_core.data.tables import VIDEO_ENDINGS, Clip
from avsc_core.data.tau import read_unlabelled
from avsc_core.errors import make_error
from avsc_core.evaluation.segments import SEGMENTS, count_frames, predict_segments
from avsc_core.finite import check_finite, is_finite
from avsc_core.metrics import compute_scores
from avsc_core.model.network import AudioVisualNet, Outputs
from avsc_core.processes import Progress
from avsc_core.resolve import find_given_encodings
from avsc_core.trainer.device import choose_device
from avsc_core.trainer.frozen import load_given_encodings
from avsc_core.trainer.inference import run_raw_clips, scene_probabilities
from avsc_core.trainer.loop import predict_rows
from avsc_core.weights.model_folder import DESCRIPTION, read_model_folder, write_model_folder
from avsc_core.weights.preparation import choose_pictures, find_colours

FIT = Media(short="pad", long="crop")  # one's own clips may be of any length
LIKELIEST = 5  # events, and objects, that `predict` names


class Provenance(NamedTuple):
    """What a model was trained on and for; empty in model folders of earlier versions."""

    splits: Sequence[str] = ()  # train; or train and validation, of a retrained winner
    fingerprint: str = ""  # of the data set
    encodings: Mapping[str, str] = {}  # branch -> SHA-256 of the encodings it was given

    # Of a retrained winner.
    study: str = ""
    trial: str = ""  # the id of its MLflow run
    trial_key: str = ""
    changed: Sequence[str] = ()  # settings that were given another value, as "key value"
    row: str = ""  # of the paper, that the trial's arm stands beside
    check: str = ""  # what `train --best --check` found


class Trained(NamedTuple):
    """A trained model with what is needed to use it on any clip."""

    model: AudioVisualNet
    config: Config
    scale: Scale  # log-mel normalisation
    event_names: list[str]  # E
    object_names: list[str]  # O
    scene_names: list[str]  # S
    trained_on: str = ""  # the data set's title; empty for model folders of earlier versions
    provenance: Provenance = Provenance()


class Evaluation(NamedTuple):
    """Scores of a model on N clips, or on their seconds."""

    names: list[str]  # N
    probability: ndarray  # (N,S)
    scenes: ndarray  # (N,)
    locations: list[str]  # N
    metrics: dict[str, float]


def save_trained(folder: Path, trained: Trained) -> None:
    """Write a model folder: safetensors and JSON, nothing pickled."""
    extra = trained._asdict()
    extra["scale"] = trained.scale._asdict()
    extra["provenance"] = trained.provenance._asdict()
    write_model_folder(folder, extra.pop("model"), extra.pop("config"), extra)


def load_trained(folder: Path) -> Trained:
    """Read a model folder. Raises UserError when it is not one."""
    model, config, extra = read_model_folder(folder)
    model.to(choose_device(config))
    extra["scale"] = Scale(**extra["scale"])
    numbers = [value for value in extra["scale"] if value is not None]
    scale = (str(folder / DESCRIPTION), "the scale of log-mels", np.array(numbers))
    check_finite([scale], todo="train the model again")
    provenance = _select_fields(extra.get("provenance", {}), Provenance)
    extra["provenance"] = Provenance(**provenance)
    return Trained(model, config, **_select_fields(extra, Trained))


def is_trained_on(trained: Trained, data: DataSet, split: str) -> bool:
    """Tell whether the model is known to have been trained on the clips of a split."""
    provenance = trained.provenance
    return provenance.fingerprint == data.fingerprint and split in provenance.splits


def evaluate_split(
    trained: Trained, data: DataSet, split: str, progress: Progress, protocol: str = "clip"
) -> Evaluation:
    """Score the model on split `train`, `validation` or `test`, by protocol `clip` or `segment`.

    Raises UserError for the validation clips of a model that was trained on them too.
    """
    if split == "validation" and is_trained_on(trained, data, split):
        raise make_error(
            "--split",
            "the model was trained on the validation clips too, so they tell nothing new",
            "test, or train for the figures of a training",
            "the validation figures of its configuration are those of the study's trial",
        )
    config = trained.config
    features = build_features(data, config, progress)
    colours = find_colours(config.visual.backbones[0])
    given = load_given_encodings(config, data)
    inputs = Inputs(features, trained.scale, colours, **given)
    rows = select_rows(data, config.split, split)
    return evaluate_rows(trained.model, inputs, rows, config, protocol)


def evaluate_rows(
    model: AudioVisualNet, inputs: Inputs, rows: ndarray, config: Config, protocol: str = "clip"
) -> Evaluation:
    """Score the model on the given rows, by protocol `clip` or `segment`."""
    data = inputs.features.data
    scenes = data.scenes[rows]
    names = [data.clips[row].name for row in rows]
    locations = [data.clips[row].location for row in rows]

    if protocol == "segment":
        check_has_encoders(config, "a second of a clip")
        probability = predict_segments(model, inputs, rows, config)  # (10 N,S)
        scenes = np.repeat(scenes, SEGMENTS)
        locations = np.repeat(locations, SEGMENTS).tolist()
        names = [f"{name}-{second}" for name in names for second in range(SEGMENTS)]
    else:
        probability, _ = predict_rows(model, inputs, rows, config)  # (N,S)

    # The features may be the reason; a model that was trained to its end is not.
    if not is_finite(probability):
        check_inputs(inputs, rows)
        _check_answers(names, probability)
    return Evaluation(names, probability, scenes, locations, compute_scores(probability, scenes))


def answer_unlabelled(
    trained: Trained, root: Path, progress: Progress
) -> tuple[list[str], ndarray]:
    """Return file names and (N,S) probabilities for N unlabelled one-second clips."""
    # features of one second with one picture
    config = trained.config
    check_has_encoders(config, "an unlabelled clip")
    clips = read_unlabelled(root)
    sounds, films = hash_media(root, clips, progress)
    common = (config.media, config.workers, progress, 1.0)
    branches = find_branches_with_inputs(config)
    log_mel = frames = None
    if "audio" in branches:
        # Kept without the padding up to ten seconds, which would be nine tenths of the cache.
        recorded = min(config.log_mel.frames, count_frames(config.log_mel))
        one_second = config.log_mel.model_copy(update={"frames": recorded})
        log_mel = load_clip_features(clips, sounds, one_second, *common)  # (N,T',128)
    if "visual" in branches:
        one_picture = choose_pictures(config).model_copy(update={"frames": 1})
        frames = load_clip_features(clips, films, one_picture, *common)  # (N,1,3,H,W)

    # decisions, batch by batch
    batch_size = config.training.batch_size
    probabilities = []
    for start in range(0, len(clips), batch_size):
        stop = min(start + batch_size, len(clips))
        sounds_batch = pictures_batch = None
        if log_mel is not None:
            padding = config.log_mel.frames - log_mel.shape[1]
            sounds_batch = np.pad(log_mel[start:stop], ((0, 0), (0, padding), (0, 0)))  # (B,T,128)
        if frames is not None:
            pictures_batch = np.array(frames[start:stop])  # a copy of what is memory-mapped
        outputs = _run_clips(trained, sounds_batch, pictures_batch)
        probabilities.append(scene_probabilities(outputs))  # (B,S)
        progress("answering", stop, len(clips))

    names = [f"{clip.name}.wav" for clip in clips]
    answers = np.concatenate(probabilities)  # (N,S)
    _check_answers(names, answers)
    return names, answers


def predict_file(trained: Trained, audio: Path, video: Path) -> dict[str, Any]:
    """Classify one clip outside any data set.

    Returns the probabilities of all scenes, and of the likeliest events and objects, by name.
    """
    config = trained.config
    check_has_encoders(config, "a new file")
    clip = Clip(video.stem, audio, video, 0, "", "")
    branches = find_branches_with_inputs(config)
    sounds = pictures = None
    if "audio" in branches:
        sounds = compute_log_mel(clip, config.log_mel, FIT)[0][None]  # (1,T,128)
    if "visual" in branches:
        pictures = compute_frames(clip, choose_pictures(config), FIT)[0][None]  # (1,F,3,H,W)
    outputs = _run_clips(trained, sounds, pictures)
    probability = scene_probabilities(outputs)  # (1,S)
    _check_answers([clip.name], probability)
    return {
        "scenes": dict(zip(trained.scene_names, probability[0].tolist(), strict=True)),
        "events": _find_likeliest(outputs.event_logits, trained.event_names),
        "objects": _find_likeliest(outputs.object_logits, trained.object_names),
    }


def check_has_encoders(config: Config, what: str) -> None:
    """Check that a model can encode `what`. Raises UserError where its encodings come from a file.

    The whole clips of that file are all that such a model can be used on.
    """
    given = find_given_encodings(config)
    if given:
        branch, file = next(iter(given.items()))
        raise make_error(
            f"{branch}.encodings",
            f"{file} has no encoding of {what}, and the model has no {branch} encoder",
            "whole clips that the file names",
            "evaluate by protocol clip, on the data set that it was trained on",
        )


def find_pair(path: Path) -> tuple[Path, Path]:
    """Find the wav and mp4 of a clip, given either or their common name.

    A video without a wav beside it is both, when it has sound of its own. Raises UserError when one
    is missing, the given one first.
    """
    is_sound = path.suffix.lower() == ".wav"
    is_file_name = is_sound or is_video(path)
    if is_file_name and not path.is_file():
        raise make_error(path, "no such file")
    base = path.with_suffix("") if is_file_name else path

    # A file that was named is one of the two, whatever else lies beside it.
    video = path if is_video(path) else _search_file(base, VIDEO_ENDINGS, "video")
    audio = path if is_sound else _search_file(base, (".wav",), "audio")
    if video and not audio and has_sound(video):
        audio = video
    for found, ending, folder in ((audio, ".wav", "audio"), (video, ".mp4", "video")):
        if found is None:
            what = f"no {ending} of that name"
            places = " or ".join(map(str, _list_places(base, ending, folder)))
            todo = "a clip needs both wav and mp4, or is a video with sound of its own"
            raise make_error(path, what, places, todo)
    assert audio is not None
    assert video is not None
    return audio, video


def _check_answers(names: Sequence[str], probability: ndarray) -> None:
    """Check that probabilities (N,S) are finite. Raises UserError that names each clip."""
    answers = zip(names, probability, strict=True)
    entries = ((name, "the model's answer", row) for name, row in answers)
    check_finite(entries, todo="training.precision fp16 can overflow; train with bf16 or float32")


def _select_fields(values: Mapping[str, Any], fields: type[NamedTuple]) -> dict[str, Any]:
    """Leave out what this version does not know: a later one may have written more."""
    return {name: value for name, value in values.items() if name in fields._fields}


def _run_clips(trained: Trained, log_mel: ndarray | None, frames: ndarray | None) -> Outputs:
    """Run the model on log-mels (B,T,128) and frames (B,F,3,H,W) that are not normalised."""
    config = trained.config
    colours = find_colours(config.visual.backbones[0])
    return run_raw_clips(trained.model, log_mel, frames, trained.scale, colours, config)


def _list_places(base: Path, suffix: str, folder: str) -> tuple[Path, Path]:
    """List where a file of the clip `base` may be: beside it, or in the folder of TAU's layout."""
    beside = base.with_name(base.name + suffix)
    return beside, base.parent.parent / folder / beside.name


def _search_file(base: Path, endings: Sequence[str], folder: str) -> Path | None:
    """Search a file of the clip `base`, its ending in capitals too; None if there is none."""
    for ending in (*endings, *map(str.upper, endings)):
        for candidate in _list_places(base, ending, folder):
            if candidate.is_file():
                return candidate
    return None


def _find_likeliest(logits: Tensor | None, names: Sequence[str]) -> dict[str, float]:
    """Return the likeliest classes of (1,C) logits by name, with their probabilities."""
    if logits is None:
        return {}
    values, classes = logits[0].sigmoid().topk(min(LIKELIEST, len(names)))
    likeliest = [names[number] for number in classes.tolist()]
    return dict(zip(likeliest, values.tolist(), strict=True))
