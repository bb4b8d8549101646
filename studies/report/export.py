"""A study's trials for other tools: CSV, Parquet, and its best configuration for `avsc-core train --config`."""

from pathlib import Path

import pandas as pd
import yaml

from avsc_core.files import atomic_path, write_text
from avsc_core.record.recorder import Recorder
from avsc_core.record.winner import find_winner
from avsc_core.resolve import flatten, format_value

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


def export(recorder: Recorder, name: str, folder: Path) -> list[Path]:
    """Write trials.csv, trials.parquet and best.yaml. Raises UserError when no trial is complete."""
    winner = find_winner(recorder, name, "NAME")
    frame = trial_frame(recorder, name)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / each for each in ("trials.csv", "trials.parquet", "best.yaml")]
    write_text(paths[0], frame.to_csv(index=False))
    with atomic_path(paths[1]) as temporary:
        frame.to_parquet(temporary, index=False)
    value = winner.trial.metrics[f"best_{winner.metric}"]
    head = _comment(
        f"Best of study {name} by {winner.metric}: {value:.4f} on {winner.trial.tags['avsc.data']}"
    )
    head += _comment(f"{winner.trial.arm}, trial {winner.trial.key}")
    head += _comment(f"avsc-core train --config {paths[2].name}")
    write_text(
        paths[2],
        head + yaml.safe_dump(winner.trial.config.model_dump(mode="json"), sort_keys=False),
    )
    return paths


def _comment(text: str) -> str:
    """A comment in YAML. A name may hold line ends and characters that YAML refuses."""
    return (
        "# "
        + " ".join("".join(char if char.isprintable() else " " for char in text).split())
        + "\n"
    )
