"""A study as its record has it: its metadata, its trials, and the rows of the report.

A *row* is one configuration with its trials by seed: an arm, the best of the search, an arm with
the best settings of its own search, a finalist of a ladder. Only completed trials are in a row, and
trials of a ladder's cheap rung never share a row with those of the full rung. A planned row without
trials stays, empty, so that the report can name what is missing.

This is the only module of the report that knows the record's documents, tags and names of arms. All
others ask `StudyResults` and the functions on trials at the end of the file.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from avsc_core.data.dataset import LABEL
from avsc_core.errors import Fault, UserError
from avsc_core.evaluation.intervals import LEVEL, Clips
from avsc_core.evaluation.sequential import find_thresholds
from avsc_core.metrics import find_figure, parse_predictions, rank_key
from avsc_core.record.environment import name_device
from avsc_core.record.reading.record import Record
from avsc_core.record.trials import (
    BASE,
    BEST_ROW,
    CHEAP_RUNG,
    FULL_RUNG,
    OWN_SEARCH,
    RETUNED,
    SEARCH,
    TrialRecord,
    name_row,
)
from avsc_core.record.winner import average, pick_best
from avsc_core.resolve import complete_settings, configuration_key, identify, list_settings
from search_spaces.inactive import list_inactive
from search_spaces.space import Space
from studies.study.metadata import CLIPS


@dataclass(frozen=True)
class ReportRow:
    """A configuration with its completed trials by seed."""

    name: str
    trials: Mapping[int, TrialRecord]
    seeds_wanted: int
    levels: Mapping[str, str] = field(default_factory=dict)  # factor -> level
    published: Mapping[str, Any] | None = None  # acc, logloss, and their table and row in the paper
    note: str = ""
    shared_with: tuple[str, ...] = ()  # rows of other tables that are the same training
    selected: bool = False  # the best of several by the figures it is shown with: optimistic

    @property
    def is_whole(self) -> bool:
        """Whether every seed that was asked for has a completed trial."""
        return len(self.trials) >= self.seeds_wanted

    @property
    def seed_count(self) -> str:
        """Count the seeds with a completed trial, of those wanted: "2/3"."""
        return f"{len(self.trials)}/{self.seeds_wanted}"

    def mean(self, metric: str) -> float:
        """Average a metric of the selected epochs over seeds; nan without trials."""
        return average(self.trials.values(), metric)

    def mean_of_best_epochs(self, metric: str) -> float:
        """Average a metric of each trial's best epoch over seeds, which is too good."""
        values = [trial.metrics[f"best_{metric}"] for trial in self.trials.values()]
        return float(np.mean(values)) if values else np.nan


class AskedSearch(NamedTuple):
    """A search as the study asked for it."""

    name: str  # OWN_SEARCH, or the arm that is retuned
    trials: int
    has_arm: bool  # whether the configuration that it searches around is a point of its space

    @property
    def title(self) -> str:
        """What people call it."""
        return name_row(SEARCH, self.name)


class StudyResults:
    """A study read back from the record.

    Raises UserError when the record has no such study, or not the metadata that a report needs.
    """

    def __init__(self, recorder: Record, name: str) -> None:
        run = recorder.get_study(name)
        self.name = name
        self._recorder = recorder
        self._run_id = run.run_id

        # The documents and tags of the study's run.
        document = recorder.read_study_document(self._run_id)
        metadata = document.get("metadata")
        if not metadata:
            what = f"study {name} was recorded without what a report needs"
            todo = "give its `avsc-search run` again: nothing is trained twice"
            raise UserError(Fault(name, what, todo=todo))
        self._take_metadata(metadata)
        self._take_definition(document["definition"])
        self.looks_taken: list[dict[str, Any]] = document.get("looks", [])
        # How many seeds the study had each time before seeds were added.
        self.earlier_seed_counts: list[int] = document.get("earlier_seed_counts", [])

        # Figures of the embedded scenes must say so on every page, table and picture.
        tags = run.tags
        self.data_title = tags["avsc.data"]
        self.label = LABEL if tags.get("avsc.embedded") == "true" else ""
        # The last invocation ended with nothing left to train.
        self.is_finished = tags.get("avsc.outcome") == "complete"

        # Invocations with the same command and versions as the one before are left out.
        self.invocations = [invocation for invocation, _ in groupby(document["invocations"])]
        # The costs that were estimated before the last invocation, as `avsc-search plan` has them.
        self.cost_estimate: dict[str, Any] | None = document["cost"]

        # Its trials, and the completed ones with the study's seeds by configuration and seed.
        self.trials = recorder.list_trials(name)
        self.completed = [trial for trial in self.trials if trial.outcome == "complete"]
        self._trials_by_row: dict[str, dict[int, TrialRecord]] = defaultdict(dict)
        for trial in self.completed:
            if trial.seed in self.seeds:
                self._trials_by_row[configuration_key(trial.config)][trial.seed] = trial
        self._probabilities: dict[str, np.ndarray] = {}  # run id -> (B,N,S)

    def _take_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Take over what was asked, as the study file said when it last ran."""
        self.question: str = metadata["question"]
        self.source: str = metadata["source"] or ""  # where the paper asks the same
        self.file_name: str = metadata["file"]

        self.metrics: list[str] = metadata["metrics"]
        self.metric = self.metrics[0]  # the deciding one: "val_acc" or "val_logloss"
        self.short_metric = self.metric.removeprefix("val_")  # as estimates call it
        self.seeds: list[int] = metadata["seeds"]  # the first is that of the searches
        # The numbers of seeds at which differences are looked at, when seeds are added until told.
        self.looks: list[int] = metadata.get("looks", [])

        # Arms and searches. A factorial has all combinations of the levels of its factors. A
        # ladder searches with short trainings (cheap rung) and repeats a few in full (full rung).
        self.is_factorial: bool = metadata["design"] == "factorial"
        self.is_ladder: bool = metadata["ladder"]
        self.retuning_trials: int = metadata["retune"]  # of each arm's own search; 0 without
        self.asked_searches = [AskedSearch(**search) for search in metadata["searches"]]
        self._asked_arms: list[dict[str, Any]] = metadata["arms"]
        # Published systems that are no arm of the study; earlier versions recorded none.
        self.other_systems = _make_systems(metadata.get("published", {}))

        # The tables of a study whose arms come from several study files.
        self._asked_tables: list[dict[str, Any]] = metadata.get("tables", [])
        self.table_title = ""  # of one of them (`tables`)

        # The base is a preset with some changes, or the best trial of another study.
        self.preset: str = metadata["preset"]
        self.preset_changes: list[str] = metadata["changed"]  # "key value"
        self.base_trial: tuple[str, str] | None = metadata["best_of"]  # (study, key)

    def _take_definition(self, definition: Mapping[str, Any]) -> None:
        """Take over settings, search and data: what the study's identity is made of."""
        # Settings are dotted. Those of the base are, of a ladder, those of its cheap rung.
        self.base_settings = complete_settings(definition["base"])
        full_rung = definition["final"]
        self.full_rung_settings = complete_settings(full_rung) if full_rung else {}
        self.data_fingerprint: str = definition["data"]
        # How a trial's epochs are selected. Versions that did not say took the best, and did not
        # repeat the best of a search with the other seeds.
        self.rule: str = definition.get("select", "best")
        self.repeats_best = "select" in definition

        search = definition["search"] or {}
        self.space = Space({}, {})  # without a search, it has no dimensions
        if search:
            self.space = Space.from_json(search["space"], self.base_settings)
        self.space_hash: str = search.get("space_hash", "")
        self.search_options = {}  # sampler, scheduler, seed and others that are set
        for name, value in search.items():
            if name not in ("space", "space_hash") and value:
                self.search_options[name] = value

    @cached_property
    def difference_level(self) -> float:
        """The level of each interval of a difference.

        When seeds were added until told it is so high that the intervals of all looks together
        hold the truth with probability LEVEL (Jennison and Turnbull 1989).
        """
        if not self.looks:
            return LEVEL
        thresholds = find_thresholds(self.looks, 1 - LEVEL)
        return 1 - float(thresholds[self.looks.index(len(self.seeds))])

    @cached_property
    def clips(self) -> Clips:
        """The N validation clips with scene and location, in the order of the probabilities."""
        lines = self._recorder.read_lines(self._run_id, CLIPS)[1:]
        names, scenes, places = zip(*(line.split("\t") for line in lines), strict=True)
        scene_numbers = np.array([self.scene_names.index(scene) for scene in scenes])  # (N,)
        place_numbers = np.unique(places, return_inverse=True)[1]  # (N,)
        return Clips(names, scene_numbers, place_numbers)

    @cached_property
    def scene_names(self) -> list[str]:
        """The S scenes in the order of the probabilities."""
        lines = self._recorder.read_lines(self.completed[0].run_id, "predictions_val.tsv")
        return lines[0].split("\t")[2:]

    @cached_property
    def retrainings(self) -> list[tuple[TrialRecord, bool]]:
        """The completed retrainings of the study's winners, the only trainings that were tested.

        Winners are trained again on training and validation clips. The bool tells whether it is
        the current winner.
        """
        # Any seed of the configuration will do: earlier versions retrained the luckiest. The run
        # itself may be gone, with `run --again`.
        winner = pick_best(self.trials, self.metric, self.seeds)
        run_ids = [trial.run_id for trial in winner]
        configurations = {configuration_key(trial.config) for trial in winner}
        retrainings = []
        for trial in self._recorder.list_trials(self.name, "training"):
            if trial.outcome == "complete":
                is_current = trial.tags.get("avsc.winner") in run_ids
                is_current = is_current or configuration_key(trial.config) in configurations
                retrainings.append((trial, is_current))
        return retrainings

    @cached_property
    def devices(self) -> Counter[str]:
        """The devices, with numbers of threads, and how many completed trials each has trained.

        Trials of earlier versions do not say where they were trained.
        """
        names = map(name_device, (trial.tags for trial in self.completed))
        return Counter(name for name in names if name)

    # The rows of the report.

    @cached_property
    def tables(self) -> list["StudyResults"]:
        """The tables of a study that took its arms over from other files, each as a study.

        Each has the arms of its table alone, under their own names. Other studies have none.
        """
        tables = []
        for asked in self._asked_tables:
            title = asked["title"]
            table = copy(self)
            table._asked_tables = []
            table.table_title = title
            table.question = asked["question"]
            table.is_factorial = asked["design"] == "factorial"
            table.other_systems = _make_systems(asked.get("published", {}))
            # What this study has worked out by now is of all of its arms.
            for name, value in vars(StudyResults).items():
                if isinstance(value, cached_property):
                    vars(table).pop(name, None)
            table._asked_arms = []
            for arm in self._asked_arms:
                if arm["table"] == title:
                    others = self._list_rows_sharing(arm)
                    name = arm["name"].removeprefix(f"{title}: ")
                    table._asked_arms.append({**arm, "name": name, "shared_with": others})
            tables.append(table)
        return tables

    @property
    def rows(self) -> list[ReportRow]:
        """Every row whose figures may stand side by side: those of full trainings."""
        if self.is_ladder:
            return self.full_rung_rows
        rows = [*self.arms, *(retuned for _, retuned in self.retuned_pairs)]
        if self.best_row:
            rows.append(self.best_row)
        return rows

    @cached_property
    def arms(self) -> list[ReportRow]:
        """The arms in the order of the study file; arms that the data cannot serve are empty."""
        rows = []
        for arm in self._asked_arms:
            row = ReportRow(
                name=arm["name"],
                trials={} if arm["missing"] else self._trials_by_row[arm["row"]],
                seeds_wanted=len(self.seeds),
                levels=arm["levels"],
                published=arm["published"],
                note=arm["missing"] or arm["note"],
                shared_with=tuple(arm.get("shared_with", ())),
            )
            rows.append(row)
        return rows

    @property
    def asked_trainings(self) -> tuple[int, int]:
        """The number of rows, and of different configurations among them."""
        asked = [arm["row"] for arm in self._asked_arms if not arm["missing"]]
        return len(asked), len(set(asked))

    @cached_property
    def retuned_pairs(self) -> list[tuple[ReportRow, ReportRow]]:
        """Every arm with a search of its own, and the best of that search with every seed."""
        arms = {arm.name: arm for arm in self.arms}
        pairs = []
        for search in self.asked_searches:
            if search.name == OWN_SEARCH:
                continue
            arm = arms[search.name]
            best = self._find_best_of_retuning(search, arm)
            retuned = ReportRow(
                name=name_row(RETUNED, arm.name),
                trials=self._trials_by_row[configuration_key(best.config)] if best else {},
                seeds_wanted=len(self.seeds),
                levels=arm.levels,
                selected=True,
            )
            pairs.append((arm, retuned))
        return pairs

    @cached_property
    def searched(self) -> list[TrialRecord]:
        """The completed trials of the search, and arms that are points of its space, best first."""
        if not any(search.name == OWN_SEARCH for search in self.asked_searches):
            return []
        trials = []
        for trial in self.completed:
            if is_of_own_search(trial) or self._in_space(trial):
                trials.append(trial)
        return sorted(trials, key=self._rank)

    @cached_property
    def stopped(self) -> list[TrialRecord]:
        """The trials of the study's own search that a scheduler stopped early."""
        trials = filter(is_of_own_search, self.trials)
        return [trial for trial in trials if trial.outcome == "stopped"]

    @cached_property
    def lost(self) -> list[TrialRecord]:
        """The trials of the study's own search that diverged or failed."""
        trials = filter(is_of_own_search, self.trials)
        return [trial for trial in trials if trial.outcome in ("diverged", "failed")]

    @cached_property
    def best_row(self) -> ReportRow | None:
        """The best of the search; None without one, and for ladders, whose searches are cheap."""
        found = [trial for trial in self.searched if is_of_own_search(trial)]
        if not found or self.is_ladder:
            return None
        trials = self._trials_by_row[configuration_key(found[0].config)]
        seeds_wanted = len(self.seeds) if self.repeats_best else 1
        return ReportRow(BEST_ROW, trials, seeds_wanted, selected=True)

    @cached_property
    def full_rung_rows(self) -> list[ReportRow]:
        """The rows of a ladder's full rung: the base, then finalists as the cheap rung ranks them.

        A finalist's number in the record is the rank it had when it was trained. With more trials
        searched later, another may come first, so finalists are numbered again.
        """
        # Any seed of a configuration will do: name and rank are those of the configuration.
        trials = {}
        for trial in self.trials:
            if _rung_of(trial) == FULL_RUNG:
                trials[configuration_key(trial.config)] = trial

        rows = []
        finalists = 0
        for row in sorted(trials, key=lambda row: self._rank_at_cheap_rung(trials[row])):
            is_finalist = trials[row].role != BASE
            finalists += is_finalist
            name = f"finalist {finalists}" if is_finalist else trials[row].name
            completed = self._trials_by_row[row]
            rows.append(ReportRow(name, completed, len(self.seeds), selected=is_finalist))
        return rows

    def list_trials_of(self, search: AskedSearch) -> list[TrialRecord]:
        """List the trials that a search asked for, of any outcome."""
        return [trial for trial in self.trials if is_searched(trial) and trial.arm == search.name]

    def find_cheap_trial(self, trial: TrialRecord) -> TrialRecord | None:
        """Find the trial of the cheap rung that a trial of the full rung repeats in full."""
        for other in self.completed:
            if other.key == trial.tags["avsc.origin"] and _rung_of(other) == CHEAP_RUNG:
                return other
        return None

    # Predictions and curves.

    def read_probabilities(self, row: ReportRow, seeds: list[int] | None = None) -> np.ndarray:
        """Read a row's probabilities of the validation clips: (R,B,N,S), R seeds in order.

        B is the number of epochs whose figures are averaged: 1 but with rule `last 3`. Raises
        UserError when a trial was validated on other clips than the study says.
        """
        chosen = seeds or sorted(row.trials)
        return np.stack([self._read_trial_probabilities(row.trials[seed]) for seed in chosen])

    def read_curve(self, trial: TrialRecord, metric: str) -> list[tuple[int, float]]:
        """Read a metric of every epoch: (epoch, value), in order."""
        return self._recorder.read_history(trial.run_id, metric)

    def read_curves(
        self, trials: Sequence[TrialRecord], metric: str
    ) -> list[list[tuple[int, float]]]:
        """Read the curve of each of many trials, in far less time than one after another."""
        return self._recorder.read_histories([trial.run_id for trial in trials], metric)

    def find_largest(self, row: ReportRow, metrics: Sequence[str]) -> float | None:
        """Find the largest value of several metrics over the epochs of a row's trials.

        None without trials, and when a trial lacks a metric: its configuration has no such module,
        or an earlier version recorded it.
        """
        values = []
        for trial in row.trials.values():
            for metric in metrics:
                if metric not in trial.metrics:
                    return None
                values += [value for _, value in self.read_curve(trial, metric)]
        return max(values, default=None)

    def count_epochs(self, trials: Sequence[TrialRecord]) -> int:
        """Count the epochs that some trials ran, in all."""
        curves = self.read_curves(trials, "train_total")
        return sum(max((epoch for epoch, _ in curve), default=0) for curve in curves)

    def _list_rows_sharing(self, arm: Mapping[str, Any]) -> list[str]:
        """List the rows of other tables that are the same training as this arm."""
        names = []
        for other in self._asked_arms:
            if other["row"] == arm["row"] and other["table"] != arm["table"]:
                names.append(other["name"])
        return names

    def _find_best_of_retuning(self, search: AskedSearch, arm: ReportRow) -> TrialRecord | None:
        """Find the best trial of an arm's own search; None while that search is not over."""
        trials = self.list_trials_of(search)
        candidates = [trial for trial in trials if trial.outcome == "complete"]
        first_seed = self.seeds[0]
        if search.has_arm and first_seed in arm.trials:
            candidates.append(arm.trials[first_seed])

        # A search that finds nothing new to try ends with fewer trials than asked for. Then the
        # study's own outcome says that it is over.
        is_over = len(trials) >= search.trials or self.is_finished
        if not is_over:
            return None
        return min(candidates, key=self._rank, default=None)

    def _rank(self, trial: TrialRecord) -> tuple[float, float, str]:
        """Return what single trials of one seed are sorted by, the best first."""
        return rank_key(self.metric, trial.metrics, trial.key)

    def _in_space(self, trial: TrialRecord) -> bool:
        """Tell whether a trial is the base but for legal values of the search's dimensions."""
        if trial.seed != self.seeds[0] or _rung_of(trial) == FULL_RUNG:
            return False
        free_keys = {"seed", *self.space.dimensions, *list_inactive(trial.config)}
        settings = complete_settings(identify(trial.config))
        for key, value in self.base_settings.items():
            if key not in free_keys and settings.get(key) != value:
                return False
        return self.space.contains(list_settings(trial.config))

    def _rank_at_cheap_rung(self, trial: TrialRecord) -> tuple[float, float, str]:
        """Rank a trial of the full rung by its cheap one; the base is first.

        A trial whose cheap one is not in the record is last.
        """
        if trial.role == BASE:
            return (-np.inf, 0.0, trial.key)
        cheap = self.find_cheap_trial(trial)
        if cheap is None:
            return (np.inf, 0.0, trial.key)
        return self._rank(cheap)

    def _read_trial_probabilities(self, trial: TrialRecord) -> np.ndarray:
        """Read (B,N,S) probabilities once, for many tables and figures ask for them."""
        if trial.run_id not in self._probabilities:
            text = "\n".join(self._recorder.read_lines(trial.run_id, "predictions_val.tsv"))
            names, table = parse_predictions(text)
            # The file has one epoch after another.
            epochs = max(1, len(names) // len(self.clips.names))
            if tuple(names) != epochs * self.clips.names:
                what = f"trial {trial.key[:6]} was validated on other clips than the study says"
                raise UserError(Fault(self.name, what))
            self._probabilities[trial.run_id] = table.reshape(epochs, len(self.clips.names), -1)
        return self._probabilities[trial.run_id]


def _make_systems(published: Mapping[str, Mapping[str, Any]]) -> list[ReportRow]:
    """Make the rows of published systems that are no arm."""
    return [
        ReportRow(name=name, trials={}, seeds_wanted=0, published=figures)
        for name, figures in published.items()
    ]


def best_value(trial: TrialRecord, metric: str) -> float:
    """Return the value of `metric` by which a trial counts, at the epochs that are selected."""
    value = find_figure(trial.metrics, metric)
    assert value is not None  # every completed trial has it
    return value


def is_searched(trial: TrialRecord) -> bool:
    """Tell whether a sampler suggested a trial, for the search or for an arm's own search."""
    return trial.role == SEARCH


def is_of_own_search(trial: TrialRecord) -> bool:
    """Tell whether the sampler of the study's own search suggested a trial."""
    return trial.role == SEARCH and trial.arm == OWN_SEARCH


def read_error(trial: TrialRecord) -> str:
    """Return the last line of the error that ended a trial; empty when the record has none."""
    lines = trial.tags.get("avsc.error", "").strip().splitlines()
    return lines[-1] if lines else ""


def _rung_of(trial: TrialRecord) -> str | None:
    return trial.tags.get("avsc.rung")
