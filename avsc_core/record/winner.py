"""The best trial of a study, found in the record: what `best`, `report`, `export` and `train
--best` agree on."""

from typing import NamedTuple

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError
from avsc_core.metrics import rank_key
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import CHEAP_RUNG, TrialRecord


class Winner(NamedTuple):
    """The best completed trial of a study."""

    study: str
    metric: str
    trial: TrialRecord


def find_winner(recorder: Recorder, study: str | None, where: str = "--study") -> Winner:
    """Return the winner of the study named at `where`, or of the latest one.

    Raises UserError when the record has no such study, or no trial of it is complete.
    """
    run = recorder.get_study(study, where)
    name = run.data.tags["avsc.study"]
    metric = run.data.tags["avsc.metric"]
    trials = select_full_trials(recorder.list_trials(name))
    if not trials:
        todo = "run it to its end first"
        raise UserError(Fault(where, f"study {name} has no complete trial", todo=todo))
    return Winner(name, metric, pick_best(trials, metric))


def find_pinned_winner(
    recorder: Recorder, study: str, source: str, where: str
) -> tuple[str, Config]:
    """Return key and configuration of the trial of study `source` that study `study` starts from.

    This is the best trial of `source` when `study` first ran, which its definition has pinned.
    Raises UserError when the record has no trial of the study named at `where`.
    """
    run = recorder.find_study(study)
    pinned = (recorder.read_definition(run.info.run_id).get("best_of") or {}) if run else {}
    if pinned.get("study") == source:
        for trial in recorder.list_trials(source):
            if trial.key == pinned["key"]:
                return trial.key, trial.config
    winner = find_winner(recorder, source, where).trial
    return winner.key, winner.config


def select_full_trials(trials: list[TrialRecord]) -> list[TrialRecord]:
    """Select the completed trials, without those of a ladder's cheap rung.

    Figures of cheap and of full trainings are never compared with each other.
    """
    completed = [trial for trial in trials if trial.outcome == "complete"]
    return [trial for trial in completed if trial.tags.get("avsc.rung") != CHEAP_RUNG]


def pick_best(trials: list[TrialRecord], metric: str) -> TrialRecord:
    """Pick the trial with the best value at its best epoch; `metrics.rank_key` decides between
    equals."""
    return min(trials, key=lambda trial: rank_key(metric, trial.metrics, trial.key))
