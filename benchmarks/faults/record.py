"""Reads an SQLite record of MLflow by its tables, without MLflow and without avsc.

What the harness counts must not depend on the code that it tries.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

OVER = ("complete", "stopped", "diverged")

# What depends on the machine's speed.
NOT_COMPARED = ("seconds",)


class Run(NamedTuple):
    """A run of the record."""

    run_id: str
    status: str  # MLflow's
    tags: dict[str, str]
    values: dict[tuple[str, int], float]  # (metric, step) -> its last value

    @property
    def outcome(self) -> str:
        """How it ended, by its tag."""
        return self.tags.get("avsc.outcome", "")


class Snapshot(NamedTuple):
    """What a record has of its one study."""

    trials: dict[str, list[Run]]  # trial key -> its runs; more than one is wrong
    studies: list[Run]

    @property
    def finished(self) -> dict[str, Run]:
        """The trials that are over, by their keys."""
        found = {}
        for key, runs in self.trials.items():
            for run in runs:
                if run.outcome in OVER:
                    found[key] = run
        return found


def take_snapshot(database: Path) -> Snapshot:
    """Read a record; one that is not there, or has no tables yet, is empty."""
    trials: dict[str, list[Run]] = {}
    studies: list[Run] = []
    if database.is_file():
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as reader:
            for run in _read_runs(reader):
                kind = run.tags.get("avsc.kind")
                if kind == "trial":
                    trials.setdefault(run.tags.get("avsc.trial_key", ""), []).append(run)
                elif kind == "study":
                    studies.append(run)
    return Snapshot(trials, studies)


def _read_runs(reader: sqlite3.Connection) -> list[Run]:
    """Read all runs that are not deleted, in the order in which they were started."""
    try:
        rows = reader.execute(
            "SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time"
        ).fetchall()
    except sqlite3.OperationalError:  # no tables yet
        return []

    runs = []
    for run_id, status in rows:
        tags = dict(reader.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run_id,)))
        points = reader.execute(
            "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY timestamp", (run_id,)
        )
        values = {(key, step): value for key, step, value in points if key not in NOT_COMPARED}
        runs.append(Run(run_id, status, tags, values))
    return runs
