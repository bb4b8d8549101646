"""The best configuration of a study, found in the record: what `status`, `best`, `report`,
`export`, `train --best` and `best-of` agree on.

A configuration is ranked by its mean over the study's seeds, never by its luckiest seed. It is
complete when it has a completed trial of every seed of the study; only while no configuration is,
those with the most seeds are ranked. Trials of a ladder's cheap rung never count.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError
from avsc_core.metrics import find_figure, rank_key
from avsc_core.record.reading.record import Record
from avsc_core.record.trials import CHEAP_RUNG, TrialRecord
from avsc_core.resolve import configuration_key

RANKED_BY = ("val_acc", "val_logloss")


class Winner(NamedTuple):
    """The best configuration of a study."""

    study: str
    metric: str
    trials: tuple[TrialRecord, ...]  # one for each seed, in the order of the study's seeds
    rule: str  # of the study: which epochs its figures are of

    @property
    def trial(self) -> TrialRecord:
        """The trial that stands for the configuration: that of the study's first seed."""
        return self.trials[0]

    @property
    def epochs(self) -> int:
        """How many epochs a retraining runs: the rounded mean over seeds."""
        epochs = average(self.trials, "epoch")
        return max(1, round(epochs))

    @property
    def figure(self) -> str:
        """The mean of the deciding metric, and over how many seeds, for people."""
        count = len(self.trials)
        seeds = f", mean over {count} seeds" if count > 1 else ""
        return f"{self.metric} {average(self.trials, self.metric):.4f}{seeds}"


def find_winner(recorder: Record, study: str | None, where: str = "--study") -> Winner:
    """Return the winner of the study named at `where`, or of the latest one.

    Raises UserError when the record has no such study, or no trial of it is complete.
    """
    run = recorder.get_study(study, where)
    name = run.tags["avsc.study"]
    metric = run.tags["avsc.metric"]
    definition = recorder.read_definition(run.run_id)
    trials = pick_best(recorder.list_trials(name), metric, definition.get("seeds", []))
    if not trials:
        todo = "run it to its end first"
        raise UserError(Fault(where, f"study {name} has no complete trial", todo=todo))
    return Winner(name, metric, trials, definition.get("select", "best"))


def find_pinned_winner(recorder: Record, study: str, source: str, where: str) -> tuple[str, Config]:
    """Return key and configuration of the trial of study `source` that study `study` starts from.

    This is the winner's trial of `source` when `study` first ran, which its definition has pinned.
    Raises UserError when the record has no trial of the study named at `where`.
    """
    run = recorder.find_study(study)
    pinned = (recorder.read_definition(run.run_id).get("best_of") or {}) if run else {}
    if pinned.get("study") == source:
        for trial in recorder.list_trials(source):
            if trial.key == pinned["key"]:
                return trial.key, trial.config
    winner = find_winner(recorder, source, where).trial
    return winner.key, winner.config


def select_full_trials(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Select the completed trials, without those of a ladder's cheap rung.

    Figures of cheap and of full trainings are never compared with each other.
    """
    completed = [trial for trial in trials if trial.outcome == "complete"]
    return [trial for trial in completed if trial.tags.get("avsc.rung") != CHEAP_RUNG]


def pick_best(
    trials: Iterable[TrialRecord], metric: str, seeds: Sequence[int]
) -> tuple[TrialRecord, ...]:
    """Pick the best configuration and return its trials in the order of `seeds`, the study's.

    It is empty when no trial is complete. Without `seeds` (a study that was cut off before they
    were written) every seed counts.
    """
    by_configuration: dict[str, dict[int, TrialRecord]] = defaultdict(dict)
    for trial in select_full_trials(trials):
        if trial.seed in seeds or not seeds:
            by_configuration[configuration_key(trial.config)][trial.seed] = trial

    # Complete configurations, or as long as there are none those with the most seeds.
    most = max(map(len, by_configuration.values()), default=0)
    candidates = []
    for by_seed in by_configuration.values():
        if len(by_seed) == most:
            order = [seed for seed in seeds or sorted(by_seed) if seed in by_seed]
            candidates.append(tuple(by_seed[seed] for seed in order))
    return min(candidates, key=lambda found: rank_trials(found, metric), default=())


def rank_trials(trials: Iterable[TrialRecord], metric: str) -> tuple[float, float, str]:
    """Return what configurations are sorted by, the best first, given the trials of one.

    Of configurations with equal means, the one with the smallest key of a trial is first.
    """
    trials = list(trials)
    means = {f"selected_{name}": average(trials, name) for name in RANKED_BY}
    return rank_key(metric, means, min(trial.key for trial in trials))


def average(trials: Iterable[TrialRecord], metric: str) -> float:
    """Average the figures by which trials count; nan without trials."""
    figures = [find_figure(trial.metrics, metric) for trial in trials]
    return float(np.mean(np.array(figures, float))) if figures else np.nan
