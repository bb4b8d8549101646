"""A trained model on a split of a data set, or on single files: probabilities, scores, tables.

Protocol `clip` (the paper's) decides once for a 10-s clip, `segment` (the challenge's) once a second. The prediction
table has the form of the challenge's answer file: TAB-separated, `filename`, `scene_label`, then ten probabilities in
the order of the classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from avsc_core.config import Config, Media
from avsc_core.data.batches import Inputs, normalise_frames, to_device
from avsc_core.data.clip_features import compute_frames, compute_log_mel
from avsc_core.data.dataset import DataSet, hash_media, split_rows
from avsc_core.data.features import build_features, load_clip_features
from avsc_core.data.logmel import Scale, normalise
from avsc_core.data.tables import Clip
from avsc_core.data.tau import read_unlabelled
from avsc_core.errors import Fault, UserError
from avsc_core.evaluation.segments import SEGMENTS, predict_segments
from avsc_core.metrics import compute_scores
from avsc_core.model.network import AudioVisualNet
from avsc_core.processes import Progress
from avsc_core.trainer.device import autocast, choose_device
from avsc_core.trainer.frozen import find_colours
from avsc_core.trainer.loop import predict_rows
from avsc_core.weights.model_folder import load_model, save_model

FIT = Media(short="pad", long="crop")  # one's own clips may be of any length


class Trained(NamedTuple):
    """A saved model with what belongs to it."""

    model: AudioVisualNet
    config: Config
    scale: Scale  # log-mel normalisation
    event_names: list[str]
    object_names: list[str]
    scene_names: list[str]
    trained_on: str = ""  # the data set's title; empty in folders that do not hold it yet


class Evaluation(NamedTuple):
    """Scores of a model on clips, or on their seconds."""

    names: list[str]  # N
    probability: np.ndarray  # (N,S)
    scenes: np.ndarray  # (N,)
    locations: list[str]  # N
    metrics: dict[str, float]


def save_trained(folder: Path, trained: Trained) -> None:
    """Write a model folder: safetensors and JSON, nothing pickled."""
    names = {
        name: list(getattr(trained, name))
        for name in ("event_names", "object_names", "scene_names")
    }
    extra = {"scale": trained.scale._asdict(), **names, "trained_on": trained.trained_on}
    save_model(folder, trained.model, trained.config, extra)


def load_trained(folder: Path) -> Trained:
    """Read a model folder. Raises UserError when it is not one."""
    model, config, extra = load_model(folder)
    model.to(choose_device(config))
    names = (extra["event_names"], extra["object_names"], extra["scene_names"])
    return Trained(model, config, Scale(**extra["scale"]), *names, extra.get("trained_on", ""))


def evaluate_split(
    trained: Trained, data: DataSet, split: str, progress: Progress, protocol: str = "clip"
) -> Evaluation:
    """The model's scores on split `train`, `validation` or `test`, by protocol `clip` or `segment`."""
    features = build_features(data, trained.config, progress)
    parts = split_rows(data, trained.config.split)
    inputs = Inputs(features, trained.scale, find_colours(trained.config.visual.backbone))
    return evaluate_rows(trained.model, inputs, getattr(parts, split), trained.config, protocol)


def evaluate_rows(
    model: AudioVisualNet, inputs: Inputs, rows: np.ndarray, config: Config, protocol: str = "clip"
) -> Evaluation:
    """The model's scores on the given rows."""
    data = inputs.features.data
    scenes, clips = data.scenes[rows], [data.clips[row] for row in rows]
    names, locations = [clip.name for clip in clips], [clip.location for clip in clips]
    if protocol == "segment":
        probability = predict_segments(model, inputs, rows, config)
        scenes, locations = (
            np.repeat(scenes, SEGMENTS),
            [place for place in locations for _ in range(SEGMENTS)],
        )
        names = [f"{name}-{second}" for name in names for second in range(SEGMENTS)]
    else:
        probability, _ = predict_rows(model, inputs, rows, config)
    return Evaluation(names, probability, scenes, locations, compute_scores(probability, scenes))


@torch.inference_mode()
def answer_unlabelled(
    trained: Trained, root: Path, progress: Progress
) -> tuple[list[str], np.ndarray]:
    """File names and (N,S) probabilities for an evaluation set of unlabelled one-second clips."""
    clips, config = read_unlabelled(root), trained.config
    sounds, films = hash_media(root, clips, progress)
    one = config.pictures.model_copy(update={"frames": 1})
    log_mel = load_clip_features(
        clips, sounds, config.log_mel, config.media, config.workers, progress, seconds=1.0
    )
    frames = load_clip_features(
        clips, films, one, config.media, config.workers, progress, seconds=1.0
    )
    device, colours = (
        next(trained.model.parameters()).device,
        find_colours(config.visual.backbone),
    )
    parts = []
    for start in range(0, len(clips), config.training.batch_size):
        part = slice(start, start + config.training.batch_size)
        heard = normalise(to_device(np.array(log_mel[part]), device), trained.scale)
        seen = normalise_frames(to_device(np.array(frames[part]), device), colours)
        with autocast(config, device):
            outputs = trained.model.eval()(heard, seen)
        parts.append(outputs.scene_logits.double().softmax(1).cpu().numpy())
        progress("answering", min(part.stop, len(clips)), len(clips))
    return [f"{clip.name}.wav" for clip in clips], np.concatenate(parts)


@torch.inference_mode()
def predict_file(trained: Trained, audio: Path, video: Path) -> dict[str, Any]:
    """One clip outside any data set -> scene probabilities (S,), and the likeliest events and objects by name."""
    clip = Clip(video.stem, audio, video, 0, "", "")
    device = next(trained.model.parameters()).device
    mel = torch.from_numpy(compute_log_mel(clip, trained.config.log_mel, FIT)[0])[None].to(
        device
    )  # (1,T,128)
    frames = torch.from_numpy(compute_frames(clip, trained.config.pictures, FIT)[0])[None].to(
        device
    )  # (1,F,3,H,W)
    colours = find_colours(trained.config.visual.backbone)
    with autocast(trained.config, device):
        outputs = trained.model.eval()(
            normalise(mel, trained.scale), normalise_frames(frames, colours)
        )
    probability = outputs.scene_logits[0].double().softmax(0).tolist()
    return {
        "scenes": dict(zip(trained.scene_names, probability, strict=True)),
        "events": _likeliest(outputs.event_logits, trained.event_names),
        "objects": _likeliest(outputs.object_logits, trained.object_names),
    }


def find_pair(path: Path) -> tuple[Path, Path]:
    """The wav and mp4 of a clip, given either or their common name. Raises UserError when one is missing."""
    base = path.with_suffix("") if path.suffix in (".wav", ".mp4") else path
    pair = []
    for suffix, folder in ((".wav", "audio"), (".mp4", "video")):
        beside, across = (
            base.with_name(base.name + suffix),
            base.parent.parent / folder / (base.name + suffix),
        )
        found = next((candidate for candidate in (beside, across) if candidate.is_file()), None)
        if found is None:
            allowed = f"{beside} or {across}"
            raise UserError(
                Fault(
                    str(path), f"no {suffix} of that name", allowed, "a clip needs both wav and mp4"
                )
            )
        pair.append(found)
    return pair[0], pair[1]


def _likeliest(
    logits: torch.Tensor | None, names: Sequence[str], count: int = 5
) -> dict[str, float]:
    """The `count` likeliest classes of (1,C) logits, by name."""
    if logits is None:
        return {}
    values, places = logits[0].sigmoid().topk(min(count, len(names)))
    return {
        names[place]: float(value) for place, value in zip(places.tolist(), values, strict=True)
    }
