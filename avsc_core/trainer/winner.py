"""The best trial of a study, found in the record: what `best`, `status` and `train --best` agree on."""

from typing import NamedTuple

from avsc_core.errors import Fault, UserError
from avsc_core.trainer.metrics import better
from avsc_core.trainer.recorder import Recorder, TrialRecord


class Winner(NamedTuple):
    """The best complete trial of a study."""

    study: str
    metric: str
    trial: TrialRecord


def find_winner(recorder: Recorder, study: str | None) -> Winner:
    """The winner of a study, or of the latest one. Raises UserError when no trial is complete."""
    run = recorder.study(study)
    name, metric = run.data.tags["avsc.study"], run.data.tags["avsc.metric"]
    complete = [trial for trial in recorder.trials(name) if trial.outcome == "complete"]
    if not complete:
        raise UserError(Fault("--study", f"study {name} has no complete trial", todo="run it to its end first"))
    return Winner(name, metric, best_of(complete, metric))


def best_of(trials: list[TrialRecord], metric: str) -> TrialRecord:
    """The trial with the best value of its best epoch; the earliest of equals."""
    best = trials[0]
    for trial in trials[1:]:
        if better(metric, trial.metrics[f"best_{metric}"], best.metrics[f"best_{metric}"]):
            best = trial
    return best
