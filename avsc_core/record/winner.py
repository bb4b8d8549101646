"""The best trial of a study, found in the record: what `best`, `report`, `export` and `train --best` agree on."""

from typing import NamedTuple

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError
from avsc_core.metrics import rank_key
from avsc_core.record.recorder import LOWER, Recorder, TrialRecord


class Winner(NamedTuple):
    """The best complete trial of a study."""

    study: str
    metric: str
    trial: TrialRecord


def find_winner(recorder: Recorder, study: str | None, where: str = "--study") -> Winner:
    """The winner of the study named at `where`, or of the latest one. Raises UserError when no trial is complete."""
    run = recorder.get_study(study, where)
    name, metric = run.data.tags["avsc.study"], run.data.tags["avsc.metric"]
    complete = select_full_trials(recorder.list_trials(name))
    if not complete:
        raise UserError(
            Fault(where, f"study {name} has no complete trial", todo="run it to its end first")
        )
    return Winner(name, metric, pick_best(complete, metric))


def find_pinned_winner(recorder: Recorder, own: str, source: str, where: str) -> tuple[str, Config]:
    """Key and configuration of the trial of `source` that study `own` starts from: its best when `own` first ran.

    Raises UserError when there is none of the study named at `where`.
    """
    run = recorder.find_study(own)
    pinned = (recorder.read_definition(run.info.run_id).get("best_of") or {}) if run else {}
    if pinned.get("study") == source:
        for trial in recorder.list_trials(source):
            if trial.key == pinned["key"]:
                return trial.key, trial.config
    trial = find_winner(recorder, source, where).trial
    return trial.key, trial.config


def select_full_trials(trials: list[TrialRecord]) -> list[TrialRecord]:
    """The trials that ran to their end, of a ladder those of the upper rung: values of less never stand beside them."""
    return [
        trial
        for trial in trials
        if trial.outcome == "complete" and trial.tags.get("avsc.rung") != LOWER
    ]


def pick_best(trials: list[TrialRecord], metric: str) -> TrialRecord:
    """The trial with the best value of its best epoch; which of equals, see `metrics.ranking`."""
    return min(trials, key=lambda trial: rank_key(metric, trial.metrics, trial.key))
