"""Puts right what a kill left in the record between two writes, at the start of an invocation.

Who calls this has the study's lease, so that whatever still runs by the record is dead:

    a trial or study without outcome     interrupted, and its MLflow run KILLED
    an outcome without the status        the status that belongs to it
    a trial without its params           the params of its configuration
    a copy of another study's trial      deleted: it is not whole, and is copied again
    the checkpoint of a trial            deleted when the trial is over
"""

import json

from avsc_core.files import remove_path
from avsc_core.record.address import locate_checkpoint
from avsc_core.record.reading.record import COPY
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import OUTCOMES
from avsc_core.resolve import read_recorded

# What is left open: by MLflow's status, or by the outcome alone.
OPEN_RUNS: tuple[tuple[dict[str, str], str], ...] = (
    ({}, "RUNNING"),
    ({"avsc.outcome": "running"}, ""),
)


def repair_study(recorder: Recorder, study: str) -> None:
    """Put right what a kill left of a study."""
    for run in recorder.find_runs(study, COPY):
        recorder.delete_run(run.run_id)

    for wanted, status in OPEN_RUNS:
        trials = recorder.find_runs(study, "trial", wanted, status)
        for run in trials:
            # Version 0.1.0 wrote no such tag, and all params in one call.
            if text := run.tags.get("avsc.config"):
                recorder.write_params(run.run_id, read_recorded(json.loads(text)))

        # Outcomes decide: they are written before the status.
        for run in [*trials, *recorder.find_runs(study, "study", wanted, status)]:
            outcome = run.tags.get("avsc.outcome")
            outcome = outcome if outcome in OUTCOMES else "interrupted"
            recorder.end_run(run.run_id, outcome, {})

    _remove_checkpoints(recorder, study)


def _remove_checkpoints(recorder: Recorder, study: str) -> None:
    """Remove checkpoints of trials that are over, and those that were not written to the end."""
    folder = locate_checkpoint(recorder.uri, study, "").parent
    for path in sorted(folder.glob("*")):  # stacks of workers too
        key = path.name.partition(".")[0]
        if not key or _is_over(recorder, study, key):
            remove_path(path)


def _is_over(recorder: Recorder, study: str, key: str) -> bool:
    """Tell whether the trial with this key has ended, other than by an interruption."""
    runs = recorder.find_runs(study, "trial", {"avsc.trial_key": key})
    outcomes = {run.tags["avsc.outcome"] for run in runs}
    return bool(outcomes & (set(OUTCOMES) - {"interrupted"}))
