"""A trial as the record knows it, and the role that it plays in its study.

A study trains configurations for several reasons. The role says which one, the arm says for whom:

    role       arm                   the trial
    arm        the arm's name        fills a row of the study's table
    search     "search"              was suggested by the sampler of the study's own search
    search     the arm's name        was suggested by the sampler that retunes this arm
    retuned    the arm's name        repeats the best of that search with the study's other seeds
    repeated   "search"              repeats the best of the study's own search with its other seeds
    base       "base"                is the base of a ladder, at its cheap or its full rung
    finalist   "finalist 1", ...     repeats one of a ladder's best cheap trials at the full rung

The MLflow tag `avsc.role` holds the role. Records of version 0.1.0 have no such tag: there the
name of the arm holds it (`search: ARM`, `ARM retuned`, `published configuration`), which
`read_role` understands.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from avsc_core.config import Config
from avsc_core.resolve import format_value, list_settings

ARM = "arm"
SEARCH = "search"
RETUNED = "retuned"
REPEATED = "repeated"
BASE = "base"
FINALIST = "finalist"

OWN_SEARCH = "search"  # the arm of the trials of a study's own search
BEST_ROW = "best of the search"  # what people call those of role `repeated`
OUTCOMES = {
    "complete": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}  # the tag `avsc.outcome` of a trial that has ended -> the status of its MLflow run
LONGEST_RUN_NAME = 250  # that MLflow's databases hold
CHEAP_RUNG = "lower"  # values of the tag `avsc.rung`
FULL_RUNG = "upper"


FINISHED = ("complete", "stopped", "diverged")  # final; a failed trial is tried again


class TrialRecord(NamedTuple):
    """A trial as the record knows it."""

    run_id: str
    key: str  # avsc_core.resolve.trial_key
    role: str
    arm: str
    seed: int
    outcome: str  # one of OUTCOMES, or "running"
    config: Config
    metrics: dict[str, float]  # the last value of each; selected_* and best_* of its summary
    tags: dict[str, str]
    started: float  # seconds since 1970

    @property
    def can_continue(self) -> bool:
        """Whether its checkpoint can be of use: version 0.1.0 wrote checkpoints of another form."""
        return "avsc.config" in self.tags

    @property
    def error(self) -> str:
        """Why it failed or diverged, in one line; else empty.

        A trial that failed once and is complete now has the error still in its tags.
        """
        failed = self.outcome in ("failed", "diverged")
        return find_last_line(self.tags.get("avsc.error", "")) if failed else ""

    @property
    def taken_from(self) -> str:
        """The study that trained it, where it was taken over from another one; else empty."""
        return self.tags.get("avsc.taken_from_study", "")

    @property
    def name(self) -> str:
        """What people call the row that this trial belongs to."""
        return name_row(self.role, self.arm)

    @property
    def label(self) -> str:
        """The name, and where several trials share it, the beginning of the key."""
        return f"{self.name} {self.key[:6]}" if self.role == SEARCH else self.name


class FinishedTraining(NamedTuple):
    """A completed trial of some study, which another study can take over."""

    run_id: str
    study: str
    key: str  # avsc_core.resolve.trial_key
    metrics: Mapping[str, float] = {}  # the last value of each


def describe_trial(trial: TrialRecord) -> dict[str, object]:
    """Describe a trial by the columns of a study's table (`frame.py`)."""
    row: dict[str, object] = {
        "run_id": trial.run_id,
        "key": trial.key,
        "role": trial.role,
        "arm": trial.arm,
        "seed": trial.seed,
        "outcome": trial.outcome,
        "data": trial.tags.get("avsc.data", ""),
        "rung": trial.tags.get("avsc.rung", ""),
    }
    for key, value in list_settings(trial.config).items():
        row[key] = format_value(value) if isinstance(value, list) else value
    return row | trial.metrics


def count_once(trials: Iterable[TrialRecord]) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Divide the trials of a study into those that count and further runs of the same ones.

    Two processes that shared no lease, or two hosts that lost their server for a while, may have
    trained one trial twice. A complete run counts before any other one, then one that has ended
    otherwise, then one that can continue; among equals the first in the order of `trials`.
    """
    by_key: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        by_key.setdefault(trial.key, []).append(trial)

    counted = []
    others = []
    for runs in by_key.values():
        first, *rest = sorted(runs, key=_rank_run)
        counted.append(first)
        others += rest
    return counted, others


def _rank_run(trial: TrialRecord) -> tuple[bool, bool, bool]:
    """Return what several runs of one trial are sorted by."""
    return trial.outcome != "complete", trial.outcome not in FINISHED, not trial.can_continue


def find_last_line(error: str) -> str:
    """Return the last line of an error, which of a traceback is what went wrong."""
    return error.strip().rpartition("\n")[2]


def name_row(role: str, arm: str) -> str:
    """Return what people call the trials with this role and arm."""
    if role == SEARCH and arm != OWN_SEARCH:
        return f"search of {arm}"
    if role == RETUNED:
        return f"{arm} retuned"
    if role == REPEATED:
        return BEST_ROW
    return arm


def name_run(row: str, key: str) -> str:
    """Name the run of a trial, of the row it belongs to and its key; long names end in "…"."""
    room = LONGEST_RUN_NAME - len(" 123456")
    shown = row if len(row) <= room else f"{row[: room - 1]}…"
    return f"{shown} {key[:6]}"


def read_role(tags: Mapping[str, str]) -> tuple[str, str]:
    """Return (role, arm) from the tags of a trial's run, of any version."""
    arm = tags.get("avsc.arm", "")
    if "avsc.role" in tags:
        return tags["avsc.role"], arm

    # Version 0.1.0 wrote the role into the arm's name.
    if arm == OWN_SEARCH:
        return SEARCH, OWN_SEARCH
    if arm.startswith("search: "):
        return SEARCH, arm.removeprefix("search: ")
    if arm.endswith(" retuned"):
        return RETUNED, arm.removesuffix(" retuned")
    if "avsc.rung" in tags and arm in ("base", "published configuration"):
        return BASE, "base"
    if "avsc.rung" in tags and arm.startswith("finalist "):
        return FINALIST, arm
    return ARM, arm
