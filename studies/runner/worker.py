"""One trial in a worker process: Ray calls `step` once an epoch and gets that epoch's figures back.

A worker serves one trial after another (`reset_config`), so nothing of a trial may stay behind: the training loop seeds
everything itself and the object below keeps only its generator. A fault inside a trial comes back as a value, so that
it costs that trial and not the worker.
"""

import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.data.features import build_features
from avsc_core.errors import Diverged
from avsc_core.processes import no_progress

if TYPE_CHECKING:
    from avsc_core.trainer.loop import Epoch


class StudyTrial(tune.Trainable):  # type: ignore[misc]
    """Ray's interface to `trainer.loop.fit`."""

    def setup(
        self, config: dict[str, Any], data: DataSet, metric: str, threads: int, gpus: float
    ) -> None:
        """Called once per worker process and then as the start of its first trial."""
        import torch  # here, not above: the driver imports this file too and should start at once

        import avsc_core.trainer.loop  # noqa: F401 - before the first epoch is timed

        torch.set_num_threads(threads)
        if 0 < gpus < 1:  # Ray's fractions are book-keeping; this makes them a limit
            torch.cuda.set_per_process_memory_fraction(gpus)
        self.data, self.metric = data, metric
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The start of a trial: `config` is the resolved configuration as JSON, `checkpoint` its file."""
        self.settings = Config.model_validate_json(new_config["config"])
        self.epochs = self._train(Path(new_config["checkpoint"]))
        return True

    def step(self) -> dict[str, Any]:
        """One epoch: its number, metrics and seconds; at the end the best epoch and its predictions too."""
        began = time.perf_counter()
        try:
            epoch = next(self.epochs)
        except Diverged as error:
            return {"done": True, "outcome": "diverged", "error": str(error)}
        except Exception:
            return {"done": True, "outcome": "failed", "error": traceback.format_exc()}
        assert epoch.best is not None  # a study always has validation clips
        result = {
            "epoch": epoch.number,
            "metrics": epoch.metrics,
            "best": {"epoch": epoch.best.epoch, **epoch.best.metrics},
            "seconds": time.perf_counter() - began,
            self.metric: epoch.metrics[self.metric],  # what the scheduler compares
        }
        if epoch.number == self.settings.training.epochs:
            result |= {
                "done": True,
                "outcome": "complete",
                "probability": epoch.best.probability.tolist(),
            }
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to add: the loop writes its own checkpoint after every epoch; a retried trial continues from it."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""

    def _train(self, checkpoint: Path) -> "Iterator[Epoch]":
        from avsc_core.trainer.loop import fit

        features = build_features(self.data, self.settings, no_progress)
        parts = split_rows(self.data, self.settings.split)
        yield from fit(
            self.settings,
            features,
            parts.train,
            parts.validation,
            metric=self.metric,
            checkpoint=checkpoint,
        )
