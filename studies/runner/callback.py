"""What happens to a study's trials, written into the record and onto the display; only the driver does this.

Ray calls the methods of `Ledger` as trials report and end. Each trial's MLflow run is opened before the trial starts
and closed with its outcome, the figures of its best epoch, and the predictions of that epoch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.metrics import format_confusions, format_predictions
from avsc_core.record.recorder import CHECKPOINTS, LOWER, UPPER, Recorder
from studies.runner.display import Display
from studies.runner.strategy import Strategy
from studies.study.plan import PlannedTrial
from studies.study.schema import Study


@dataclass
class Running:
    """A trial that Ray has been given."""

    planned: PlannedTrial
    run_id: str
    recorded: int  # the last epoch that the record has
    seconds: float = 0.0  # of training, those of earlier sittings included


class RecordCallback(tune.Callback):  # type: ignore[misc]
    """What happens to trials, written into the record and onto the display."""

    def __init__(
        self,
        study: Study,
        data: DataSet,
        recorder: Recorder,
        parent: str,
        strategy: Strategy,
        display: Display,
    ):
        self.study, self.data, self.recorder, self.parent = study, data, recorder, parent
        self.strategy, self.display = strategy, display
        self.running: dict[str, Running] = {}  # by Ray's trial id
        self.failed = 0

    def open(self, trial_id: str, planned: PlannedTrial) -> None:
        """A trial is about to start: its run is there before it does anything."""
        run_id = self.strategy.run_ids.get(planned.key)
        recorded = self.recorder.resume_run(run_id) if run_id else 0
        told = self.recorder.read_history(run_id, "seconds") if run_id else []
        if run_id is None:
            tags = {
                "avsc.kind": "trial",
                "avsc.study": self.study.name,
                "avsc.arm": planned.arm,
                "avsc.data": self.data.title,
                "avsc.data_fingerprint": self.data.fingerprint,
            }
            if self.study.final:
                tags["avsc.rung"] = UPPER if planned.origin else LOWER
                tags["avsc.origin"] = planned.origin
            run_id = self.recorder.begin_run(self.study.name, planned.config, tags, self.parent)
        self.running[trial_id] = Running(planned, run_id, recorded, told[-1][1] if told else 0.0)
        self.display.update(planned, 0, None)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch is over."""
        running = self.running[trial.trial_id]
        if "metrics" in result:
            running.seconds += result["seconds"]
            if result["epoch"] > running.recorded:
                metrics = {**result["metrics"], "seconds": running.seconds}
                self.recorder.log_epoch(running.run_id, result["epoch"], metrics)
                running.recorded = result["epoch"]
            self.display.update(running.planned, result["epoch"], result[self.study.metric])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial is over: by itself, or because the scheduler stopped it."""
        result = trial.last_result
        self._close(trial.trial_id, result.get("outcome", "stopped"), result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died for the second time."""
        self._close(
            trial.trial_id, "failed", {"error": f"the worker process died: {trial.get_error()}"}
        )

    def interrupt(self) -> None:
        """What still runs can be continued."""
        for running in self.running.values():
            self.recorder.end_run(running.run_id, "interrupted", {})

    def _close(self, trial_id: str, outcome: str, result: dict[str, Any]) -> None:
        running = self.running.pop(trial_id)
        planned, run_id, best = running.planned, running.run_id, dict(result.get("best", {}))
        tags = {"avsc.error": result["error"][-4000:]} if "error" in result else {}
        if outcome == "complete":
            self._tables(run_id, planned, result["probability"])
        metrics = {f"best_{name}": value for name, value in best.items()}
        self.recorder.end_run(run_id, outcome, metrics, tags)
        locate_checkpoint(self.study.name, planned.key).unlink(missing_ok=True)
        self.failed += outcome in ("failed", "diverged")
        self.strategy.finish(planned, outcome, metrics)
        value = metrics.get(f"best_{self.study.metric}")
        self.display.finish(planned, outcome, value, running.seconds, self.strategy.total)

    def _tables(self, run_id: str, planned: PlannedTrial, probability: list[list[float]]) -> None:
        rows = split_rows(self.data, planned.config.split).validation
        names, scenes, table = (
            [self.data.clips[row].name for row in rows],
            self.data.scenes[rows],
            np.array(probability),
        )
        self.recorder.log_text(
            run_id, "predictions_val.tsv", format_predictions(names, table, self.data.scene_names)
        )
        self.recorder.log_text(
            run_id, "confusion_val.tsv", format_confusions(table, scenes, self.data.scene_names)
        )


def locate_checkpoint(study: str, key: str) -> Path:
    """Where a trial keeps its checkpoint; an absolute path, because workers have their own current folder."""
    return (CHECKPOINTS / study / f"{key}.pt").resolve()
