"""One trial in a worker process: Ray calls `step` once an epoch and gets that epoch's figures.

A worker runs one trial after another (`reset_config`), so nothing of a trial may stay behind: the
training loop seeds everything itself, and the object below keeps only the loop's generator. An
error inside a trial is returned as a value, so that it costs this trial and not the worker.
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
from avsc_core.record.environment import describe_environment

if TYPE_CHECKING:
    from avsc_core.trainer.checkpoint import CheckpointFile
    from avsc_core.trainer.loop import Epoch


class StudyTrial(tune.Trainable):  # type: ignore[misc]
    """Ray's interface to `trainer.loop.fit`."""

    def setup(
        self,
        config: dict[str, Any],
        data: DataSet,
        metric: str,
        rule: str,  # that selects epochs
        threads: int,
        gpus: float,
    ) -> None:
        """Prepare the worker process, and start its first trial."""
        # These imports stand here because the driver imports this file too and should start fast.
        # The loop is imported before the first epoch is timed.
        import torch

        import avsc_core.trainer.loop  # noqa: F401

        torch.set_num_threads(threads)
        # Ray only counts fractions of a GPU; this makes them a limit of memory.
        if 0 < gpus < 1:
            torch.cuda.set_per_process_memory_fraction(gpus)
        self.data = data
        self.metric = metric
        self.rule = rule
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start a trial.

        `config` is its resolved configuration as JSON, `checkpoint` the path of its checkpoint.
        """
        self.checkpoint.remove()  # of the trial before, which is over
        self._begin(new_config)
        return True

    def keep_state(self) -> None:
        """Write the state of the last epoch, if that takes a few seconds at most.

        The driver calls it before a study that was interrupted stops its workers.
        """
        self.checkpoint.keep_last()

    def step(self) -> dict[str, Any]:
        """Train one epoch. Returns its number, metrics and seconds; at the end the predictions."""
        start = time.perf_counter()
        try:
            epoch = next(self.epochs)
        except Diverged as error:
            return {"done": True, "outcome": "diverged", "error": str(error)}
        except Exception:
            return {"done": True, "outcome": "failed", "error": traceback.format_exc()}

        selection = epoch.selection
        assert selection is not None  # a study always has validation clips
        result = {
            "epoch": epoch.number,
            "metrics": epoch.metrics,
            "summary": selection.summarise(self.rule),
            "seconds": time.perf_counter() - start,
            "environment": self.environment,
            "missing": self.checkpoint.missing,
            "notes": self.checkpoint.take_notes(),
            self.metric: epoch.metrics[self.metric],  # what the scheduler compares
        }
        if epoch.number == self.settings.training.epochs:
            result["done"] = True
            result["outcome"] = "complete"
            result["probability"] = selection.select(self.rule).probability.tolist()
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: a trial writes its own checkpoint, from which it continues when retried."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing, as `save_checkpoint`."""

    def _begin(self, new_config: dict[str, Any]) -> None:
        from avsc_core.trainer.checkpoint import CheckpointFile

        self.settings = Config.model_validate_json(new_config["config"])
        minutes = self.settings.compute.checkpoint_minutes
        self.checkpoint = CheckpointFile(Path(new_config["checkpoint"]), minutes)
        self.epochs = self._train(self.checkpoint)

    def _train(self, checkpoint: "CheckpointFile") -> "Iterator[Epoch]":
        from avsc_core.trainer.loop import fit

        self.environment = describe_environment(self.settings)
        features = build_features(self.data, self.settings, no_progress)
        rows = split_rows(self.data, self.settings.split)
        yield from fit(
            self.settings,
            features,
            rows.train,
            rows.validation,
            metric=self.metric,
            checkpoint=checkpoint,
        )
