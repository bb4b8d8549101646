"""The callback that writes what happens to trials into the record and onto the display.

Ray calls the methods of `RecordCallback` in the driver as trials report and end; nothing else
writes the record while a study runs. A trial's MLflow run is opened before the trial starts, and
closed with its outcome, the figures of the epochs that are selected, and their predictions.

The callback says what happened and waits for nothing; `avsc_core/record/delivery` delivers it.
While trials run, nothing is read back from the record, which may be away.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.errors import Fault
from avsc_core.files import remove_file
from avsc_core.metrics import find_figure, format_confusions, format_predictions
from avsc_core.record.address import locate_checkpoint
from avsc_core.record.delivery.writer import Writer
from avsc_core.record.environment import name_device
from avsc_core.record.trials import CHEAP_RUNG, FULL_RUNG, FinishedTraining, find_last_line
from avsc_core.terminal import err
from studies.engine.deaths import MOST_DEATHS, Death, Recovery
from studies.engine.display import Display
from studies.engine.strategy import BEGUN, ENDED, Strategy
from studies.engine.worker import locate_stacks
from studies.study.plan import PlannedTrial
from studies.study.schema import Study

LONGEST_ERROR = 4000  # characters of a traceback that fit into a tag
MOST_ALIKE = 5  # failures in a row with one and the same last line

# What only the callback reads of a report. Ray keeps the last result of every trial as long as a
# study runs, and statistics of each number in it, which is a hundred times as much memory.
TAKEN_OUT = (
    "metrics",
    "summary",
    "seconds",
    "environment",
    "probability",
    "peak",
    "missing",
    "notes",
)


@dataclass
class RunningTrial:
    """A trial that Ray has been given."""

    planned: PlannedTrial
    run: str  # its name for the writer
    recorded: int  # the last epoch that the record has
    seconds: float = 0.0  # of training, those of earlier invocations included
    worker: Any = None  # Ray's handle of its process
    has_environment: bool = False  # whether the record knows where it runs
    report: dict[str, Any] = field(default_factory=dict)  # the latest, as far as TAKEN_OUT


@dataclass(eq=False)
class RecordCallback(tune.Callback):  # type: ignore[misc]
    """Writes what happens to trials into the record and onto the display.

    Ray gives its methods everything by name; `info` takes what they do not need.
    """

    study: Study
    data: DataSet
    writer: Writer
    parent: str  # the id of the study's run
    strategy: Strategy
    display: Display
    recovery: Recovery
    # Key of an unfinished trial -> its epochs and seconds that the record has.
    begun: dict[str, tuple[int, float]] = field(default_factory=dict)
    running: dict[str, RunningTrial] = field(default_factory=dict)  # by Ray's trial id
    over: list[str] = field(default_factory=list)  # keys of trials that are over
    failed: int = 0
    alike: list[str] = field(default_factory=list)  # last lines of the failures in a row
    fault: str = ""  # that ends the study, in one line
    put_back: Counter[str] = field(default_factory=Counter)  # how often, by key
    devices: set[str] = field(init=False)  # with threads, that trials of the study were trained on

    def __post_init__(self) -> None:
        """Read from the record which devices the study has been on."""
        self.devices = {name_device(record.tags) for record in self.strategy.records} - {""}

    def __getstate__(self) -> dict[str, object]:
        """Leave everything out: Ray pickles its callbacks, for a restore that nobody asks for.

        A live table cannot be pickled, nor can the points that `brute_force` has not come to.
        """
        return {}

    def open_trial(self, trial_id: str, planned: PlannedTrial) -> None:
        """Open the run of a trial that is about to start, new or interrupted earlier."""
        run = self.strategy.run_ids.get(planned.key)
        if run is None:
            tags = self._make_tags(planned) | self._number(BEGUN)
            run = self.writer.begin(planned.config, tags, self.parent)
        else:
            self.writer.resume(run)
        recorded, seconds = self.begun.get(planned.key, (0, 0.0))
        self.running[trial_id] = RunningTrial(planned, run, recorded, seconds)
        self.display.update(planned, 0, None)

    def find_next(self) -> PlannedTrial | None:
        """Return the next trial to train; those before it that can be are taken over.

        None when nothing can start before a running trial is over.
        """
        while planned := self.strategy.next():
            source = self.strategy.find_elsewhere(planned)
            if source is None:
                return planned
            self.take_over(planned, source)
            self.display.skip(planned, source.study)
        return None

    def take_over(self, planned: PlannedTrial, source: FinishedTraining) -> None:
        """Take over a training that another study has finished: copy its run, tell the strategy."""
        tags = self._make_tags(planned) | self._number(BEGUN) | self._number(ENDED)
        self.writer.take_over(source, tags, self.parent)
        self.strategy.finish(planned, "complete", source.metrics)

    def on_trial_result(self, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Record an epoch that is over."""
        # Ray keeps what a callback leaves of a result.
        running = self.running[trial.trial_id]
        report = {name: result.pop(name) for name in TAKEN_OUT if name in result}
        running.report = report
        if not report:  # a trial that failed reports how it ended, and no epoch
            return
        running.seconds += report["seconds"]
        if not running.has_environment:
            self._note_environment(running, report["environment"])
        epoch = result["epoch"]
        for note in self._list_notes(running, epoch, report):
            err.print(f"note: trial {running.planned.label}: {note}", soft_wrap=True)
        # A continued trial reports its checkpoint's epoch again, which the record may have.
        if epoch > running.recorded:
            metrics = {**report["metrics"], "seconds": running.seconds}
            self.writer.log_epoch(running.run, epoch, metrics)
            running.recorded = epoch
            self.recovery.note_progress(trial, report["peak"])
            self.put_back.pop(running.planned.key, None)
        self.display.update(running.planned, epoch, result[self.study.metric])

    def on_trial_complete(self, trial: Any, **info: Any) -> None:
        """Close a trial that ended by itself, or because the scheduler stopped it."""
        result = trial.last_result | self.running[trial.trial_id].report
        outcome = result.get("outcome", "stopped")
        if outcome == "interrupted":
            self._leave_trial(trial.trial_id, result["error"])
        else:
            self._close_trial(trial.trial_id, outcome, result)

    def on_trial_recover(self, trial: Any, **info: Any) -> None:
        """Tell why a trial continues on another worker, and keep what the old one was doing."""
        running = self.running[trial.trial_id]
        death = self.recovery.take_death(trial)
        self._keep_stacks(running, death)
        running.has_environment = False  # the other worker may be on another machine
        if not death.counts:
            trial.max_failures += 1
        what = f"the worker of {running.planned.label} is replaced in epoch {running.recorded + 1}"
        begun = running.recorded > 0
        goes_on = "continues from its checkpoint" if begun else "begins again"
        err.print(f"note: {what}: {death.how}; the trial {goes_on}", soft_wrap=True)

    def on_trial_error(self, trial: Any, **info: Any) -> None:
        """Close a trial whose workers died too often in one epoch."""
        running = self.running[trial.trial_id]
        death = self.recovery.take_death(trial)
        self._keep_stacks(running, death)
        # Ray gives a trial up that no worker has begun, as when one dies between two trials.
        may_continue = trial.num_failures <= trial.max_failures
        if may_continue and self.put_back[running.planned.key] < MOST_DEATHS:
            what = f"the worker of {running.planned.label} was lost before it began"
            err.print(f"note: {what}: {death.how}; the trial waits for another", soft_wrap=True)
            self._put_back(trial.trial_id)
            return
        error = f"its worker was lost {MOST_DEATHS} times in one epoch: {death.how}"
        if death.environment:
            self._leave_trial(trial.trial_id, f"{running.planned.label}: {error}")
        else:
            self._close_trial(trial.trial_id, "failed", {"error": error})

    def on_trial_start(self, trial: Any, **info: Any) -> None:
        """Note which worker has a trial."""
        self.running[trial.trial_id].worker = trial.temporary_state.ray_actor

    def keep_states(self) -> None:
        """Have the last states of the running trials written, before Ray stops their workers."""
        for running in self.running.values():
            if running.worker:
                running.worker.keep_state.remote()
                running.worker = None  # once is enough

    def interrupt(self) -> None:
        """Mark what still runs as interrupted, so that it is continued later."""
        for running in self.running.values():
            self.writer.end(running.run, "interrupted")

    def remove_checkpoints(self) -> None:
        """Remove what workers wrote of trials while these were being closed.

        Only when the workers have ended nothing more can come.
        """
        for key in self.over:
            remove_file(self._locate_checkpoint(key))

    def _locate_checkpoint(self, key: str) -> Path:
        return locate_checkpoint(self.writer.recorder.uri, self.study.name, key)

    def _list_notes(
        self, running: RunningTrial, epoch: int, report: dict[str, Any]
    ) -> Iterator[str]:
        """Yield what a person has to know of a trial's checkpoints."""
        if epoch == 1 and running.recorded and report["missing"]:
            yield f"{report['missing']}; begins again at epoch 1"
        yield from report["notes"]

    def _note_environment(self, running: RunningTrial, environment: dict[str, str]) -> None:
        """Record where a trial runs; say so once when trials of the study ran elsewhere."""
        self.writer.add_environment(running.run, environment)
        running.has_environment = True
        device = name_device(environment)
        if self.devices and device not in self.devices:
            others = "; ".join(sorted(self.devices))
            what = f"trials of this study were trained on {others}, and others now on {device}"
            err.print(f"note: {what}: their digits differ", soft_wrap=True)
        self.devices.add(device)

    def _make_tags(self, planned: PlannedTrial) -> dict[str, str]:
        tags = {
            "avsc.kind": "trial",
            "avsc.study": self.study.name,
            "avsc.role": planned.role,
            "avsc.arm": planned.arm,
            "avsc.data": self.data.title,
            "avsc.data_fingerprint": self.data.fingerprint,
        }
        if self.study.final:
            tags["avsc.rung"] = FULL_RUNG if planned.origin else CHEAP_RUNG
            tags["avsc.origin"] = planned.origin
        return tags

    def _number(self, tag: str) -> dict[str, str]:
        """Return the tag that says when a trial began or ended, among all that began or ended."""
        return {tag: str(self.strategy.number_event())}

    def _leave_trial(self, trial_id: str, fault: str) -> None:
        """End the study by a fault of the environment, which a trial met: it continues later."""
        running = self.running.pop(trial_id)
        self.writer.end(running.run, "interrupted")
        self.fault = self.fault or fault

    def _put_back(self, trial_id: str) -> None:
        """Have a trial begin again, in the same run of the record, as the next one."""
        running = self.running.pop(trial_id)
        self.put_back[running.planned.key] += 1
        self.strategy.run_ids[running.planned.key] = running.run
        self.begun[running.planned.key] = (running.recorded, running.seconds)
        self.strategy.waiting.appendleft(running.planned)

    def _keep_stacks(self, running: RunningTrial, death: Death) -> None:
        """Keep what a worker was doing when it died, in a file for each epoch."""
        if death.stacks:
            name = f"stacks_epoch_{running.recorded + 1}.txt"
            self.writer.log_text(running.run, name, death.stacks)

    def _note_failure(self, trial: PlannedTrial, error: str) -> None:
        """End the study when several trials in a row have failed in the same way."""
        # Sizes and addresses may differ.
        line = re.sub(r"[0-9]+", "", find_last_line(error))
        self.alike = [*self.alike, line] if line in self.alike else [line]
        if len(self.alike) == MOST_ALIKE:
            what = f"{MOST_ALIKE} trials in a row failed alike, the last one {trial.label}"
            self.fault = str(Fault("study", what, find_last_line(error), "mend that"))

    def _close_trial(self, trial_id: str, outcome: str, result: dict[str, Any]) -> None:
        running = self.running.pop(trial_id)
        planned = running.planned

        # The outcome first: once it is on disk the trial is over, whatever happens after it.
        if outcome == "complete":
            self._log_predictions(running, result["probability"])
        tags = self._number(ENDED)
        if "error" in result:
            tags["avsc.error"] = result["error"][-LONGEST_ERROR:]
        metrics = result.get("summary", {})
        self.writer.end(running.run, outcome, metrics, tags)
        self.over.append(planned.key)
        checkpoint = self._locate_checkpoint(planned.key)
        remove_file(checkpoint)
        remove_file(locate_stacks(checkpoint))

        # Then the strategy, which tells the samplers, and the display.
        if outcome in ("failed", "diverged"):
            self.failed += 1
        if outcome == "failed":
            self._note_failure(planned, result["error"])
        else:
            self.alike = []
        self.strategy.finish(planned, outcome, metrics)
        value = find_figure(metrics, self.study.metric)
        why = find_last_line(result.get("error", ""))
        self.display.finish(planned, outcome, value, running.seconds, why)

    def _log_predictions(self, running: RunningTrial, probability: list[list[float]]) -> None:
        """Record the selected epochs' probabilities of the validation clips, and confusions.

        They are (N,S); when several epochs are averaged, those of one epoch stand after another.
        """
        rows = split_rows(self.data, running.planned.config.split).validation
        table = np.array(probability)  # (B*N,S), B epochs
        rows = np.tile(rows, len(table) // len(rows))  # (B*N,)
        names = [self.data.clips[row].name for row in rows]
        scene_names = self.data.scene_names
        predictions = format_predictions(names, table, scene_names)
        confusions = format_confusions(table, self.data.scenes[rows], scene_names)
        self.writer.log_text(running.run, "predictions_val.tsv", predictions)
        self.writer.log_text(running.run, "confusion_val.tsv", confusions)
