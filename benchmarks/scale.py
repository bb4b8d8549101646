"""How long do the commands take on a study of 100, 1,000 and 10,000 finished trials?

The record is synthetic but true to its schema: a study of a search is run for real until it has a
complete trial, a stopped one and an arm, and the rows that MLflow wrote of these are copied in bulk
with other values of the dimensions, because ten thousand trainings would take a night. All copies
share the artifacts of the trial that they come from.

Every figure is of a real command in a process of its own, imports included: seconds from start to
end, and seconds of CPU, which other work on the machine disturbs less. The exponent of growth is
that of the seconds of CPU from the last size but one to the last: 1 is linear.
"""

import math
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from avsc_core.resolve import format_value, list_settings
from benchmarks.report import keep
from search_spaces.sampling import Sampler
from studies.study.plan import PlannedTrial, make_plan
from studies.study.reading import read_study
from tests.builders.configs import TINY

SIZES = (100, 1_000, 10_000)
NAME = "scale"
EPOCHS = 9  # of every trial; asha's rungs are at 3 and 9
FIRST_RUNG = 3
OUTCOMES = {"complete": 4, "stopped": 6}  # of the copies, with their shares

# The runs of the completed trials of a search.
SEARCHED = """
    SELECT role.run_uuid FROM tags AS role JOIN tags AS outcome USING (run_uuid)
    WHERE role.key = 'avsc.role' AND role.value = 'search'
    AND outcome.key = 'avsc.outcome' AND outcome.value = 'complete'
"""

STUDY = """\
question: How long do the commands take?
base:
{settings}
arms:
  - name: all losses
search:
  space:
    loss_weights.event:
    loss_weights.object:
    loss_weights.scene:
    alignment.k: {{low: 1, high: 8}}
    training.learning_rate:
    training.weight_decay:
    fusion.dropout:
  trials: 8
  sampler: {sampler}
  scheduler: {scheduler}
"""

# What is measured: its name -> the command, where {trials} is how many trials the search has.
COMMANDS = {
    "status": ["status", NAME],
    "best": ["best", NAME],
    "export": ["export", NAME],
    "report": ["report", NAME],
    "run, nothing left": ["run", f"{NAME}.yaml", "--trials", "{trials}"],
    "run, one trial left": ["run", f"{NAME}.yaml", "--trials", "{one_more}"],
}


def main() -> None:
    """Make the records, time every command on each, and keep the result."""
    rows: list[dict[str, Any]] = [{"command": name} for name in COMMANDS]
    for trials in SIZES:
        with tempfile.TemporaryDirectory(prefix="avsc-scale-") as name:
            folder = Path(name)
            make_study(folder)
            multiply_trials(folder, trials)
            for row, command in zip(rows, COMMANDS.values(), strict=True):
                words = [word.format(trials=trials, one_more=trials + 1) for word in command]
                wall, cpu = time_command(folder, words)
                row |= {f"{trials} trials, s": wall, f"{trials} trials, s of CPU": cpu}

    few, many = SIZES[-2:]
    for row in rows:
        ratio = row[f"{many} trials, s of CPU"] / row[f"{few} trials, s of CPU"]
        row["exponent"] = math.log(ratio) / math.log(many / few)
    keep("scale", "How long do the commands take on a large study?", rows)


def make_study(folder: Path, sampler: str = "tpe", scheduler: str = "asha") -> None:
    """Run a small study in this folder, so that its record has trials of every outcome."""
    settings = "\n".join(f"  {item.replace('=', ': ')}" for item in TINY[:-1])
    settings += f"\n  training.epochs: {EPOCHS}"
    text = STUDY.format(settings=settings, sampler=sampler, scheduler=scheduler)
    (folder / f"{NAME}.yaml").write_text(text)
    run_command(folder, ["run", f"{NAME}.yaml"])


def multiply_trials(folder: Path, trials: int) -> None:
    """Copy a completed trial of the search in the record until the search has so many trials."""
    planned = plan_trials(folder, trials)
    rng = random.Random(0)
    with closing(sqlite3.connect(folder / "mlruns/mlflow.db")) as database, database:
        runs = database.execute(SEARCHED).fetchall()
        outcomes = rng.choices(list(OUTCOMES), list(OUTCOMES.values()), k=trials - len(runs))
        for outcome in outcomes:
            copy_trial(database, runs[0][0], next(planned), outcome, rng)


def plan_trials(folder: Path, trials: int) -> Iterator[PlannedTrial]:
    """Yield trials with random values of the study's dimensions."""
    study = read_study(folder / f"{NAME}.yaml", trials=trials)
    (search,) = make_plan(study).searches
    sampler = Sampler(search.space, "random", 1, ["max"])
    while proposal := sampler.ask():
        yield search.make_trial(proposal.values)


def copy_trial(
    database: sqlite3.Connection,
    source: str,  # the id of the run of a completed trial
    trial: PlannedTrial,
    outcome: str,
    rng: random.Random,
) -> None:
    """Copy the rows of a run, with the configuration of `trial` and figures that differ."""
    run_id = uuid.uuid4().hex
    name = f"search {trial.key[:6]}"
    settings = {key: format_value(value) for key, value in list_settings(trial.config).items()}
    tags = {
        "avsc.trial_key": trial.key,
        "avsc.config": trial.config.model_dump_json(),
        "avsc.outcome": outcome,
        "mlflow.runName": name,
    }

    (run,) = read_rows(database, "runs", source)
    run |= {"name": name, "start_time": run["start_time"] + rng.randrange(10**6)}
    write_rows(database, "runs", [run], run_id)
    for table, values in (("tags", tags), ("params", settings)):
        rows = read_rows(database, table, source)
        for row in rows:
            row["value"] = values.get(row["key"], row["value"])
        write_rows(database, table, rows, run_id)

    # A stopped trial has reported no epoch after the first rung.
    better = rng.uniform(-0.2, 0.2)
    rows = []
    for row in read_rows(database, "metrics", source):
        if outcome == "complete" or row["step"] <= FIRST_RUNG:
            if row["key"].endswith(("acc", "logloss")):
                row["value"] = abs(row["value"] + better)
            rows.append(row)
    write_rows(database, "metrics", rows, run_id)
    latest = {row["key"]: row for row in sorted(rows, key=lambda row: row["step"])}
    write_rows(database, "latest_metrics", list(latest.values()), run_id)


def read_rows(database: sqlite3.Connection, table: str, run_id: str) -> list[dict[str, Any]]:
    """Return the rows of a run in one of MLflow's tables, by column."""
    cursor = database.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run_id,))
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def write_rows(
    database: sqlite3.Connection, table: str, rows: list[dict[str, Any]], run_id: str
) -> None:
    """Write rows into one of MLflow's tables as those of the run `run_id`."""
    names = ", ".join(rows[0])
    marks = ", ".join(f":{name}" for name in rows[0])
    copies = [{**row, "run_uuid": run_id} for row in rows]
    database.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", copies)


def time_command(folder: Path, words: list[str]) -> tuple[float, float]:
    """Return how many seconds a command takes, and how many of CPU, its own processes included."""
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    start = time.perf_counter()
    run_command(folder, words)
    wall = time.perf_counter() - start
    return wall, sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before


def run_command(folder: Path, words: list[str]) -> None:
    """Run `avsc-search` in a folder, and raise what it says when it fails."""
    program = Path(sys.executable).parent / "avsc-search"
    done = subprocess.run([str(program), *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.returncode}: {done.stderr}")


if __name__ == "__main__":
    main()
