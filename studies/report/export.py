"""A study's trials for other tools, and its best configuration.

The trials are written as CSV and Parquet, one line for each; the best configuration as YAML, for
`avsc-core train --config`.
"""

from pathlib import Path

import yaml

from avsc_core.files import atomic_path, write_text
from avsc_core.record.frame import trial_frame
from avsc_core.record.reading.record import Record
from avsc_core.record.winner import Winner, find_winner


def export_study(recorder: Record, name: str, folder: Path) -> list[Path]:
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
    write_text(best_file, _render_configuration(winner, best_file.name))
    return [csv_file, parquet_file, best_file]


def _render_configuration(winner: Winner, file_name: str) -> str:
    """Render the winner's configuration as YAML, with comments that say what it is."""
    trial = winner.trial
    comments = [
        f"Best of study {winner.study}: {winner.figure} on {trial.tags['avsc.data']}",
        f"{trial.name}, trial {trial.key}",
        f"avsc-core train --config {file_name}",
    ]
    head = "".join(map(_render_comment, comments))
    return head + yaml.safe_dump(trial.config.model_dump(mode="json"), sort_keys=False)


def _render_comment(text: str) -> str:
    """Render a YAML comment; a name may hold line ends and characters that YAML refuses."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return f"# {' '.join(printable.split())}\n"
