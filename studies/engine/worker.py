"""One trial in a worker process: Ray calls `step` once an epoch and gets that epoch's figures.

A worker runs one trial after another (`reset_config`), so nothing of a trial may stay behind: the
training loop seeds everything itself, and the object below keeps only the loop's generator. A
trial's own error is returned as a value, so that it costs this trial and not the worker. An error
that the process cannot get over is raised: Ray then starts another worker for the trial.
"""

import faulthandler
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.data.features import build_features
from avsc_core.errors import Diverged, EnvironmentFault, UserError
from avsc_core.processes import no_progress, read_peak_memory
from avsc_core.record.environment import describe_environment
from studies.engine.blame import Unfit, judge

if TYPE_CHECKING:
    from avsc_core.trainer.checkpoint import CheckpointFile
    from avsc_core.trainer.loop import Epoch

# Bytes of a GPU that CUDA itself takes in each process, beside torch's tensors.
CUDA_BYTES = 600 * 2**20

DUMP_SIGNAL = signal.SIGUSR1  # makes a worker write its stack


class StudyTrial(tune.Trainable):  # type: ignore[misc]
    """Ray's interface to `trainer.loop.fit`."""

    def setup(
        self,
        config: dict[str, Any],
        data: DataSet,
        metric: str,
        rule: str,  # that selects epochs
        cpus: float,
        gpus: float,
        checkpoint_bytes: int,  # about, of one checkpoint
    ) -> None:
        """Start the first trial of a worker process."""
        self.data = data
        self.metric = metric
        self.rule = rule
        self.cpus = cpus
        self.gpus = gpus
        self.checkpoint_bytes = checkpoint_bytes
        self.prepared = False
        self.stacks: TextIOWrapper | None = None
        self.checkpoint: CheckpointFile | None = None  # of the trial, from its first step on
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start a trial.

        `config` is its resolved configuration as JSON, `checkpoint` the path of its checkpoint.
        """
        if self.checkpoint:
            self.checkpoint.remove()  # of the trial before, which is over
        self._begin(new_config)
        return True

    def keep_state(self) -> None:
        """Write the state of the last epoch, if that takes a few seconds at most.

        The driver calls it before a study that was interrupted stops its workers.
        """
        if self.checkpoint:
            self.checkpoint.keep_last()

    def step(self) -> dict[str, Any]:
        """Train one epoch. Returns its number, metrics and seconds; at the end the predictions.

        Raises Unfit when another worker process may get further than this one.
        """
        try:
            self._prepare_process()
            start = time.perf_counter()
            epoch = next(self.epochs)
            peak = read_peak_memory()
        except Diverged as error:
            return {"done": True, "outcome": "diverged", "error": str(error)}
        except Exception as error:
            return self._end_with(error)

        selection = epoch.selection
        assert selection is not None  # a study always has validation clips
        assert self.checkpoint is not None
        result = {
            "epoch": epoch.number,
            "metrics": epoch.metrics,
            "summary": selection.summarise(self.rule),
            "seconds": time.perf_counter() - start,
            "peak": peak,
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
        self.settings = Config.model_validate_json(new_config["config"])
        self.path = Path(new_config["checkpoint"])
        self.checkpoint = None
        self.epochs = self._train()
        self._write_stacks_to(locate_stacks(self.path))

    def _prepare_process(self) -> None:
        """Import what training needs, and limit the process to what it was given, once.

        This waits for the first step, where an error is sorted like any other. The driver imports
        this file too and should start fast; and imports are no part of an epoch's seconds.
        """
        if self.prepared:
            return
        import torch

        import avsc_core.trainer.loop  # noqa: F401
        from avsc_core.trainer.device import find_gpu_fault

        torch.set_num_threads(max(1, int(self.cpus)))
        # `auto` would train on the CPU, and nobody would notice.
        if self.gpus and (fault := find_gpu_fault("GPU")):
            raise Unfit(str(fault), environment=True)
        # Ray only counts fractions of a GPU; this makes them a limit of memory.
        if 0 < self.gpus < 1:
            for_cuda = CUDA_BYTES / torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(max(self.gpus / 2, self.gpus - for_cuda))
        self.prepared = True

    def _train(self) -> "Iterator[Epoch]":
        from avsc_core.trainer.checkpoint import CheckpointFile
        from avsc_core.trainer.loop import fit

        minutes = self.settings.compute.checkpoint_minutes
        self.checkpoint = CheckpointFile(self.path, minutes)
        self.environment = describe_environment(self.settings)
        rows = split_rows(self.data, self.settings.split)
        # The driver has had all features, so what is wrong with them has happened since.
        try:
            features = build_features(self.data, self.settings, no_progress)
        except UserError as error:
            raise EnvironmentFault(error.faults) from None
        yield from fit(
            self.settings,
            features,
            rows.train,
            rows.validation,
            metric=self.metric,
            checkpoint=self.checkpoint,
        )

    def _end_with(self, error: Exception) -> dict[str, Any]:
        """Return how the trial ends by an error. Raises Unfit where another worker may help."""
        if isinstance(error, Unfit):
            raise error
        folder = self.path.parent
        verdict = judge(error, folder, self.checkpoint_bytes, self.cpus, self.gpus)
        if verdict.replace:
            raise Unfit(verdict.line, verdict.environment) from None
        if verdict.environment:
            return {"done": True, "outcome": "interrupted", "error": verdict.line}
        return {"done": True, "outcome": "failed", "error": traceback.format_exc() + verdict.line}

    def _write_stacks_to(self, path: Path) -> None:
        """Have the process write its stack there when it crashes, or is asked to by a signal."""
        before = self.stacks
        with suppress(OSError):  # a full disk; the trial finds that out by itself
            path.parent.mkdir(parents=True, exist_ok=True)
            self.stacks = path.open("w")
            faulthandler.enable(self.stacks)
            faulthandler.register(DUMP_SIGNAL, self.stacks)
            if before:
                before.close()


def locate_stacks(checkpoint: Path) -> Path:
    """Return where a worker writes its stack when it crashes or hangs, beside the checkpoint."""
    return checkpoint.with_suffix(".stack")
