"""A study as a table: one row for each trial, for pandas, CSV and Parquet.

Columns: `run_id`, `key`, `role`, `arm`, `seed`, `outcome`, `data` and `rung`; then every setting
under its dotted key; then the metrics of the record: the last value of each, those by which the
trial counts as `selected_*`, and the best epoch's as `best_*`.
"""

import pandas as pd

from avsc_core.record.reading.record import Record
from avsc_core.record.trials import describe_trial


def trial_frame(recorder: Record, name: str) -> pd.DataFrame:
    """Return all trials of a study, whatever their outcome, in the order they were started.

    Raises UserError when the record has no such study.
    """
    run = recorder.get_study(name)
    trials = recorder.list_trials(str(run.tags["avsc.study"]))
    frame = pd.DataFrame([describe_trial(trial) for trial in trials])

    # Parquet has one type a column; a setting may have several, such as `none` and 2.
    mixed = [column for column in frame if frame[column].dropna().map(type).nunique() > 1]
    return frame.astype(dict.fromkeys(mixed, str))
