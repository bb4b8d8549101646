"""A study's trials for other tools: CSV, Parquet, and its best configuration for `avsc-core train --config`."""

from pathlib import Path

import yaml

from avsc_core.files import atomic_path, write_text
from avsc_core.record.frame import trial_frame
from avsc_core.record.recorder import Recorder
from avsc_core.record.winner import find_winner


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
