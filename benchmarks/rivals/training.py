"""The training of one trial, which the rivals in Python share."""

from collections.abc import Iterator
from functools import lru_cache

import torch

from avsc_core.data.dataset import split_rows
from avsc_core.data.features import Features, build_features, open_data
from avsc_core.processes import no_progress
from avsc_core.resolve import Override, resolve
from avsc_core.trainer.loop import fit

EPOCHS = 3
SEARCHED = ("loss_weights.event", "loss_weights.object", "loss_weights.scene")
LOW, HIGH = 0.01, 1.0


def train(settings: dict[str, float]) -> Iterator[dict[str, float]]:
    """Train preset `demo` with some settings changed; yield each epoch's metrics."""
    torch.set_num_threads(1)
    chosen = [Override(name, value, "benchmark") for name, value in settings.items()]
    config = resolve("demo", [Override("training.epochs", EPOCHS, "benchmark"), *chosen])
    features = load_features()
    rows = split_rows(features.data, config.split)
    for epoch in fit(config, features, rows.train, rows.validation):
        yield epoch.metrics


@lru_cache
def load_features() -> Features:
    """Load the features, once in a process; the searched settings do not change them."""
    return build_features(open_data(None, no_progress), resolve("demo"), no_progress)
