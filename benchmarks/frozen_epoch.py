"""What does an epoch with frozen backbones (preset `frozen`) cost, and how much of it is SF?

The cached encodings of 8,646 clips, as many as TAU's training split has, are random numbers. Heads,
fusion, losses and optimiser are the real ones at the paper's sizes, in the training loop's own
step, fed by the real batches. The rival takes the same steps with Eq. 5 as it is written. On a CPU
both use one core.
"""

import time
from itertools import islice
from math import ceil
from unittest.mock import patch

import numpy as np
import torch

from avsc_core.data.batches import Inputs, iterate_batches, shuffle_rows
from avsc_core.data.features import Features
from avsc_core.data.logmel import AUDIOSET
from avsc_core.model import build_model, fusion
from avsc_core.resolve import resolve
from avsc_core.trainer.step import build_training, train_step
from avsc_core.weights.preparation import IMAGENET
from benchmarks.cross_attention import DEVICE, literal
from benchmarks.data import make_data
from benchmarks.report import keep

CLIPS = 8646
STEPS_OF_LITERAL = 8  # an epoch of it would take half an hour


def main() -> None:
    """Time an epoch with our form of Eq. 5, a few steps with the literal one, and keep both."""
    torch.set_num_threads(1)
    inputs = make_inputs()

    # A whole epoch of ours, after a few steps to warm up.
    time_steps(inputs, 5)
    seconds, steps = time_steps(inputs, CLIPS)
    our_step = seconds / steps

    # A few steps of the rival, in place of our form in the fusion module.
    with patch.object(fusion, "cross_attention", lambda *tensors: literal(*tensors[:6])):
        time_steps(inputs, 1)
        literal_seconds, literal_steps = time_steps(inputs, STEPS_OF_LITERAL)
    literal_step = literal_seconds / literal_steps

    rows = [
        {
            "form": "ours",
            "steps": steps,
            "ms a step": 1000 * our_step,
            "s an epoch": seconds,
            "times ours": 1.0,
        },
        {
            "form": "literal SF",
            "steps": literal_steps,
            "ms a step": 1000 * literal_step,
            "s an epoch": literal_step * steps,
            "times ours": literal_step / our_step,
        },
    ]
    question = f"an epoch over cached features of {CLIPS} clips, batches of 16"
    keep("frozen_epoch", question, rows)


def make_inputs() -> Inputs:
    """Make random encodings and labels of 8,646 clips."""
    rng = np.random.default_rng(0)
    config = resolve("frozen")
    events = make_labels(rng, config.audio.classes)
    objects = make_labels(rng, config.visual.classes)

    # With encodings, the step reads neither log-mels nor frames.
    features = Features(
        data=make_data(events, objects),
        log_mel=np.empty(0),
        frames=np.empty(0),
        events=events,
        objects=objects,
    )
    return Inputs(
        features=features,
        scale=AUDIOSET,
        colours=IMAGENET,
        audio=rng.standard_normal((CLIPS, config.audio.width), dtype=np.float32),
        visual=rng.standard_normal((CLIPS, config.visual.dims[-1]), dtype=np.float32),
    )


def make_labels(rng: np.random.Generator, classes: int) -> np.ndarray:
    """Make random labels (N,C), five classes a clip on average."""
    return (rng.random((CLIPS, classes)) < 5 / classes).astype(np.uint8)


def time_steps(inputs: Inputs, limit: int) -> tuple[float, int]:
    """Time the first `limit` training steps of an epoch: the seconds and the number of steps."""
    # A new model each time, so that both forms start alike.
    config = resolve("frozen")
    device = torch.device(DEVICE)
    batch_size = config.training.batch_size
    torch.manual_seed(0)
    model = build_model(config, frozenset({"audio", "visual"})).to(device).train()
    parts = build_training(config, model, steps_per_epoch=ceil(CLIPS / batch_size))
    order = shuffle_rows(np.arange(CLIPS), seed=0, epoch=1)

    batches = iterate_batches(inputs, order, batch_size, device)
    steps = 0
    start = time.perf_counter()
    for batch in islice(batches, limit):
        train_step(parts, batch)
        steps += 1
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, steps


if __name__ == "__main__":
    main()
