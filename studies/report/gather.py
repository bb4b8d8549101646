"""A study as its record has it: rows of trials with what they said of every validation clip.

A row is a configuration, whatever the seed: an arm, the best of a search, an arm with the best settings of its own
search, a finalist of a ladder. Only trials that ran to their end are in it, and those of a ladder's lower rung stand
apart. What is planned and not there is named, never left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from avsc_core.errors import Fault, UserError
from avsc_core.evaluation.intervals import Clips
from avsc_core.metrics import parse_predictions, rank_key
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import CHEAP_RUNG, FULL_RUNG, TrialRecord
from avsc_core.record.winner import pick_best
from avsc_core.resolve import flatten, identify
from search_spaces.space import Space, list_inactive
from studies.study.metadata import configuration_key
from studies.study.plan import PUBLISHED_ARM, RETUNED, search_of
from studies.study.schema import SEARCH_ARM

BEST_ROW = "best of the search"


@dataclass(frozen=True)
class Row:
    """A configuration with its complete trials by seed."""

    name: str
    trials: Mapping[int, TrialRecord]
    wanted: int  # seeds that were asked for
    levels: Mapping[str, str] = field(default_factory=dict)  # factor -> level
    published: Mapping[str, Any] | None = None
    note: str = ""
    selected: bool = False  # the best of several by the figures it is shown with, which flatters it

    def mean(self, metric: str) -> float:
        """Over seeds, of the best epoch; nan without trials."""
        values = [trial.metrics[f"best_{metric}"] for trial in self.trials.values()]
        return float(np.mean(values)) if values else float("nan")


class Gathered:
    """A study read back. Raises UserError when the record has no such study, or none that can be reported."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        run = recorder.get_study(name)
        self.recorder, self.name, self.run_id = recorder, name, str(run.info.run_id)
        self.about: dict[str, Any] = recorder.read_json(self.run_id, "about.json")
        if not self.about:
            what = f"study {name} was recorded without what a report needs"
            raise UserError(
                Fault(name, what, todo="give its `avsc-search run` again: nothing is trained twice")
            )
        self.definition = recorder.read_definition(self.run_id)
        self.tags: dict[str, str] = dict(run.data.tags)
        self.trials = recorder.list_trials(name)
        self.retrained = [
            each for each in recorder.list_trials(name, "training") if each.outcome == "complete"
        ]
        self.metrics: list[str] = self.about["metrics"]
        self.seeds: list[int] = self.about["seeds"]
        self.complete = [trial for trial in self.trials if trial.outcome == "complete"]
        self._by_row: dict[str, dict[int, TrialRecord]] = {}
        for trial in self.complete:
            self._by_row.setdefault(configuration_key(trial.config), {})[trial.seed] = trial

    @property
    def metric(self) -> str:
        """The deciding one."""
        return self.metrics[0]

    @property
    def embedded(self) -> bool:
        """Whether all figures are of the embedded scenes, and must say so."""
        return self.tags.get("avsc.embedded") == "true"

    @property
    def title(self) -> str:
        """Of the data set."""
        return self.tags["avsc.data"]

    @cached_property
    def clips(self) -> Clips:
        """The validation clips."""
        lines = self.recorder.read_lines(self.run_id, "clips_val.tsv")[1:]
        names, scenes, places = zip(*(line.split("\t") for line in lines), strict=True)
        return Clips(
            names, np.array([self.scene_names.index(each) for each in scenes]), _codes(places)
        )

    @cached_property
    def scene_names(self) -> list[str]:
        """S names in the order of the probabilities."""
        header = self.recorder.read_lines(self.complete[0].run_id, "predictions_val.tsv")[0]
        return header.split("\t")[2:]

    @cached_property
    def arms(self) -> list[Row]:
        """The rows of the study's own table, in the order of its file; those of arms that are missing are empty."""
        rows = []
        for arm in self.about["arms"]:
            note = arm["missing"] or arm["note"]
            trials = {} if arm["missing"] else self._of(arm["row"])
            rows.append(
                Row(arm["name"], trials, len(self.seeds), arm["levels"], arm["published"], note)
            )
        return rows

    @cached_property
    def retuned(self) -> list[Row]:
        """For every arm with a search of its own: the best of that search, with every seed."""
        rows = []
        for search in self.about["searches"]:
            own = [trial for trial in self.trials if trial.arm == search["name"]]
            if search["name"] == SEARCH_ARM:
                continue
            (arm,) = [arm for arm in self.arms if search_of(arm.name) == search["name"]]
            candidates = [trial for trial in own if trial.outcome == "complete"]
            if search["has_arm"]:
                candidates += [trial for seed, trial in arm.trials.items() if seed == self.seeds[0]]
            # A search that found nothing new ends with fewer trials; then the study says that it is over.
            over = len(own) >= search["trials"] or self.tags.get("avsc.outcome") == "complete"
            trials = (
                self._of(configuration_key(pick_best(candidates, self.metric).config))
                if over and candidates
                else {}
            )
            rows.append(
                Row(RETUNED.format(arm.name), trials, len(self.seeds), arm.levels, None, "", True)
            )
        return rows

    @cached_property
    def searched(self) -> list[TrialRecord]:
        """The complete trials of the study's own search, and arms that are points of its space, the best first."""
        if all(search["name"] != SEARCH_ARM for search in self.about["searches"]):
            return []
        own = [trial for trial in self.complete if trial.arm == SEARCH_ARM or self._in_space(trial)]
        return sorted(own, key=lambda trial: rank_key(self.metric, trial.metrics, trial.key))

    @cached_property
    def best_row(self) -> Row | None:
        """The best of the study's own search, where values of full trainings are found by it."""
        found = [trial for trial in self.searched if trial.arm == SEARCH_ARM]
        if not found or self.about["ladder"]:
            return None
        return Row(BEST_ROW, self._of(configuration_key(found[0].config)), 1, selected=True)

    @cached_property
    def upper(self) -> list[Row]:
        """The rows of a ladder's upper rung: what is published, then finalists as the lower rung ranks them.

        A finalist's number in the record is that of its day: with more trials searched later, another may come first.
        """
        above = [trial for trial in self.trials if trial.tags.get("avsc.rung") == FULL_RUNG]
        found = {configuration_key(trial.config): trial for trial in above}
        finalists = {
            row: self._lower_rank(trial)
            for row, trial in found.items()
            if trial.arm != PUBLISHED_ARM
        }
        names = {row: PUBLISHED_ARM for row in found if row not in finalists}
        names |= {
            row: f"finalist {place}"
            for place, row in enumerate(sorted(finalists, key=finalists.__getitem__), 1)
        }
        return [
            Row(name, self._of(row), len(self.seeds), selected=row in finalists)
            for row, name in names.items()
        ]

    @property
    def rows(self) -> list[Row]:
        """Every row whose figures may stand side by side: full trainings."""
        if self.about["ladder"]:
            return self.upper
        return [*self.arms, *self.retuned, *([self.best_row] if self.best_row else [])]

    @cached_property
    def space(self) -> Space | None:
        """Of the search."""
        search = self.definition["search"]
        return Space.from_json(search["space"], self.definition["base"]) if search else None

    def lower_of(self, trial: TrialRecord) -> TrialRecord | None:
        """The trial of a ladder's lower rung that a trial of the upper one repeats in full."""
        found = (each for each in self.complete if each.key == trial.tags["avsc.origin"])
        return next((each for each in found if each.tags.get("avsc.rung") == CHEAP_RUNG), None)

    def _lower_rank(self, trial: TrialRecord) -> tuple[float, float, str]:
        """By what a trial of the upper rung is ranked among the lower one's; last when that is not in the record."""
        below = self.lower_of(trial)
        return (
            rank_key(self.metric, below.metrics, below.key)
            if below
            else (np.inf, np.inf, trial.key)
        )

    def probability(self, row: Row, seeds: list[int] | None = None) -> np.ndarray:
        """(R,N,S) of the validation clips, seeds in ascending order."""
        chosen = sorted(row.trials) if seeds is None else seeds
        return np.stack([self._predicted(row.trials[seed]) for seed in chosen])

    def _in_space(self, trial: TrialRecord) -> bool:
        """Whether a trial is the base but for the search's dimensions, and these have legal values."""
        if (
            self.space is None
            or trial.seed != self.seeds[0]
            or trial.tags.get("avsc.rung") == FULL_RUNG
        ):
            return False
        free = {"seed", *self.space.dimensions, *list_inactive(trial.config)}
        base, own = dict(flatten(self.definition["base"])), dict(flatten(identify(trial.config)))
        same = all(own.get(key) == value for key, value in base.items() if key not in free)
        return same and self.space.contains(dict(flatten(trial.config.model_dump())))

    def _of(self, row: str) -> dict[int, TrialRecord]:
        """The trials of a row with the study's seeds."""
        return {
            seed: trial for seed, trial in self._by_row.get(row, {}).items() if seed in self.seeds
        }

    def _predicted(self, trial: TrialRecord) -> np.ndarray:
        if trial.run_id not in self._tables:
            text = "\n".join(self.recorder.read_lines(trial.run_id, "predictions_val.tsv"))
            names, table = parse_predictions(text)
            if tuple(names) != self.clips.names:
                what = f"trial {trial.key[:6]} was validated on other clips than the study says"
                raise UserError(Fault(self.name, what))
            self._tables[trial.run_id] = table
        return self._tables[trial.run_id]

    @cached_property
    def _tables(self) -> dict[str, np.ndarray]:
        return {}


def _codes(names: tuple[str, ...]) -> np.ndarray:
    return np.unique(np.array(names), return_inverse=True)[1]
