"""What does an epoch cost when both backbones are frozen (preset `frozen`), and how much of it is SF?

8,646 clips, the training split of TAU, as cached features of random numbers; heads, fusion, losses and optimiser are
the real ones at the paper's sizes, fed by the real batches. The same steps with Eq. 5 as it is written for comparison.
One core on a CPU.
"""

import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from avsc_core.data.batches import IMAGENET, Inputs, iterate_batches, shuffle_rows
from avsc_core.data.dataset import DataSet
from avsc_core.data.features import Features
from avsc_core.data.logmel import AUDIOSET
from avsc_core.data.tables import Clip
from avsc_core.labels import SCENES
from avsc_core.model import build_model, fusion
from avsc_core.model.losses import build_losses
from avsc_core.resolve import resolve
from avsc_core.trainer.loop import targets
from avsc_core.trainer.optim import build_optimiser
from benchmarks.cross_attention import DEVICE, literal
from benchmarks.report import keep

CLIPS = 8646
STEPS_OF_LITERAL = 8  # an epoch of it would take half an hour


def inputs() -> Inputs:
    """Random features and labels of 8,646 clips."""
    rng = np.random.default_rng(0)
    config = resolve("frozen")
    clips = [Clip(str(row), Path(), Path(), row % 10, str(row), "train") for row in range(CLIPS)]
    events, objects = (
        (rng.random((CLIPS, classes)) < 5 / classes).astype(np.uint8)
        for classes in (config.audio.classes, config.visual.classes)
    )
    data = DataSet(Path(), clips, events, objects, [], [], SCENES, {}, [], [], "", embedded=True)
    features = Features(data, np.empty(0), np.empty(0), events, objects)
    audio, visual = (
        rng.standard_normal((CLIPS, width), dtype=np.float32)
        for width in (config.audio.width, config.visual.dims[-1])
    )
    return Inputs(features, AUDIOSET, IMAGENET, audio, visual)


def steps(given: Inputs, limit: int) -> tuple[float, int]:
    """Seconds and number of the first `limit` training steps of an epoch."""
    config, device = resolve("frozen"), torch.device(DEVICE)
    torch.manual_seed(0)
    model = build_model(config, frozenset({"audio", "visual"})).to(device).train()
    optimiser, losses = build_optimiser(model, config.training), build_losses(config)
    done, start = 0, time.perf_counter()
    for batch in iterate_batches(
        given, shuffle_rows(np.arange(CLIPS), 0, 1), config.training.batch_size, device
    ):
        if done == limit:
            break
        total = losses(model, model(batch.log_mel, batch.frames), *targets(batch), None)["total"]
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        optimiser.step()
        done += 1
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, done


def main() -> None:
    torch.set_num_threads(1)
    given = inputs()
    steps(given, 5)  # warms up
    seconds, count = steps(given, CLIPS)
    with patch.object(fusion, "cross_attention", lambda *tensors: literal(*tensors[:6])):
        steps(given, 1)
        theirs, few = steps(given, STEPS_OF_LITERAL)
    rows = [
        {
            "form": "ours",
            "steps": count,
            "ms a step": 1000 * seconds / count,
            "s an epoch": seconds,
            "times ours": 1.0,
        },
        {
            "form": "literal SF",
            "steps": few,
            "ms a step": 1000 * theirs / few,
            "s an epoch": theirs / few * count,
            "times ours": (theirs / few) / (seconds / count),
        },
    ]
    keep("frozen_epoch", f"an epoch over cached features of {CLIPS} clips, batches of 16", rows)


if __name__ == "__main__":
    main()
