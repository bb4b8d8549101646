"""A study as a table: one row for each trial, for pandas, CSV and Parquet.

Columns: `run_id`, `key`, `role`, `arm`, `seed`, `outcome`, `data` and `rung`; then every setting
under its dotted key; then the metrics of the record: the last value of each, those by which the
trial counts as `selected_*`, and the best epoch's as `best_*`.
"""

import pandas as pd

from avsc_core.record.reading.record import Record
from avsc_core.record.trials import TrialRecord
from avsc_core.resolve import format_value, list_settings


def trial_frame(recorder: Record, name: str) -> pd.DataFrame:
    """Return all trials of a study, whatever their outcome, in the order they were started.

    Raises UserError when the record has no such study.
    """
    run = recorder.get_study(name)
    trials = recorder.list_trials(str(run.tags["avsc.study"]))
    frame = pd.DataFrame([_make_row(trial) for trial in trials])

    # Parquet has one type a column; a setting may have several, such as `none` and 2.
    mixed = [column for column in frame if frame[column].dropna().map(type).nunique() > 1]
    return frame.astype(dict.fromkeys(mixed, str))


def _make_row(trial: TrialRecord) -> dict[str, object]:
    """Return the values of one trial by column."""
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
