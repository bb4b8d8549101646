"""What every benchmark ends with: a table for people and a JSON file to keep."""

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
    """Print `rows` as a table and write them to results/NAME.json with what they were measured on."""
    table = Table(*rows[0], title=question)
    for row in rows:
        table.add_row(
            *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values())
        )
    Console().print(table)
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    )
    setting = {
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "avsc": __version__,
    }
    write_json(RESULTS / f"{name}.json", {"question": question, "setting": setting, "rows": rows})
