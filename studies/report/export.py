"""A study's trials for other tools, and its best configuration.

The trials are written as CSV and Parquet, one line for each; the best configuration as YAML, for
`avsc-core train --config`.
"""

from pathlib import Path

import pandas as pd
import yaml

from avsc_core.files import atomic_path, write_text
from avsc_core.record.recorder import Recorder
from avsc_core.record.winner import Winner, find_winner
from avsc_core.resolve import flatten, format_value
from studies.report.study_results import best_value

TAGS = {"avsc.data": "data", "avsc.rung": "rung"}


def trial_frame(recorder: Recorder, name: str) -> pd.DataFrame:
    """One line a trial, whatever its outcome: what it is, its settings (dotted), its last and best figures."""
    run = recorder.get_study(name)
    lines = []
    for trial in recorder.list_trials(str(run.data.tags["avsc.study"])):
        line: dict[str, object] = {
            "run_id": trial.run_id,
            "key": trial.key,
            "arm": trial.arm,
            "seed": trial.seed,
        }
        line |= {"outcome": trial.outcome} | {
            short: trial.tags.get(tag, "") for tag, short in TAGS.items()
        }
        for key, value in flatten(trial.config.model_dump(mode="json")):
            line[key] = format_value(value) if isinstance(value, list) else value
        lines.append(line | trial.metrics)
    frame = pd.DataFrame(lines)
    mixed = [
        column for column in frame if len({type(value) for value in frame[column].dropna()}) > 1
    ]
    return frame.astype(dict.fromkeys(mixed, str))  # Parquet has one type a column


def export_study(recorder: Recorder, name: str, folder: Path) -> list[Path]:
    """Write trials.csv, trials.parquet and best.yaml. Returns their paths.

    Raises UserError when no trial is complete.
    """
    winner = find_winner(recorder, name, "NAME")
    frame = trial_frame(recorder, name)
    folder.mkdir(parents=True, exist_ok=True)

    csv_file = folder / "trials.csv"
    write_text(csv_file, frame.to_csv(index=False))
    parquet_file = folder / "trials.parquet"
    with atomic_path(parquet_file) as temporary:
        frame.to_parquet(temporary, index=False)
    best_file = folder / "best.yaml"
    write_text(best_file, _render_configuration(winner, name, best_file.name))
    return [csv_file, parquet_file, best_file]


def _render_configuration(winner: Winner, name: str, file_name: str) -> str:
    """Render the winner's configuration as YAML, with comments that say what it is."""
    trial = winner.trial
    figure = f"{best_value(trial, winner.metric):.4f} on {trial.tags['avsc.data']}"
    comments = [
        f"Best of study {name} by {winner.metric}: {figure}",
        f"{trial.name}, trial {trial.key}",
        f"avsc-core train --config {file_name}",
    ]
    head = "".join(map(_render_comment, comments))
    return head + yaml.safe_dump(trial.config.model_dump(mode="json"), sort_keys=False)


def _render_comment(text: str) -> str:
    """Render a YAML comment; a name may hold line ends and characters that YAML refuses."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return f"# {' '.join(printable.split())}\n"
