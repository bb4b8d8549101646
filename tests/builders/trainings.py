"""Trainings that are interrupted."""

from pathlib import Path

from avsc_core.config import Config
from avsc_core.data.dataset import SplitRows
from avsc_core.data.features import Features
from avsc_core.trainer.checkpoint import CheckpointFile
from avsc_core.trainer.loop import fit


def begin_training(
    config: Config, features: Features, parts: SplitRows, path: Path, epochs: int = 1
) -> list[dict[str, float]]:
    """Train a few epochs, with a checkpoint at `path` after the last. Returns their metrics."""
    checkpoint = CheckpointFile(path, minutes=0)
    running = fit(config, features, parts.train, parts.validation, checkpoint=checkpoint)
    metrics = [next(running).metrics for _ in range(epochs)]
    checkpoint.keep_last()
    running.close()
    return metrics
