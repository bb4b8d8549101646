"""The end of every benchmark: a table for people and a JSON file to keep."""

import os
import platform
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from avsc_core import __version__
from avsc_core.files import write_json

RESULTS = Path(__file__).parent / "results"


def keep(name: str, question: str, rows: list[dict[str, Any]]) -> None:
    """Print `rows` as a table and write them, with device and versions, to results/NAME.json."""
    # For people.
    table = Table(*rows[0], title=question)
    for row in rows:
        table.add_row(*map(_format_cell, row.values()))
    Console().print(table)

    # To keep.
    setting = {
        "device": _name_device(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "avsc": __version__,
    }
    content = {"question": question, "setting": setting, "rows": rows}
    write_json(RESULTS / f"{name}.json", content)


def _format_cell(value: Any) -> str:
    """Format a value of a row, numbers with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _name_device() -> str:
    """Name the GPU, or the number of CPU cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores"
