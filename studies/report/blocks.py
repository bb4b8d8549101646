"""What a report is made of: words, tables of text, pictures. `render.py` turns the same blocks into every format."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from avsc_core.resolve import format_value

INTERVAL = "95 %"  # the title of a column of intervals
NAMES = {
    "acc": "val Acc",
    "logloss": "val Logloss",
    "val_acc": "val Acc",
    "val_logloss": "val Logloss",
}
MISSING = "-"  # a cell that is wanted and not there


@dataclass(frozen=True)
class Words:
    """A heading with paragraphs under it."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table of text; `key` names its file."""

    key: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure, drawn when it is asked for; `key` names its file, `says` is for who cannot see it."""

    key: str
    title: str
    says: str
    draw: Callable[[], Figure]


Block = Words | Table | Picture


@dataclass(frozen=True)
class Report:
    """A whole report. `label` stands on every page, table and picture when figures are not of real streets."""

    name: str
    title: str
    label: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        return [block for block in self.blocks if isinstance(block, Table)]

    @property
    def pictures(self) -> list[Picture]:
        return [block for block in self.blocks if isinstance(block, Picture)]


def number(value: float, digits: int = 4) -> str:
    """A figure, or the mark of a missing one."""
    return MISSING if value != value else f"{value:.{digits}f}"


def signed(value: float, digits: int = 4) -> str:
    """A difference."""
    return MISSING if value != value else f"{value:+.{digits}f}"


def span(low: float, high: float, digits: int = 3) -> str:
    """An interval."""
    return MISSING if low != low else f"{low:.{digits}f} to {high:.{digits}f}"


def setting(value: Any) -> str:
    """A setting in a table; nothing where it does not exist."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else format_value(value)


def p_value(p: float) -> str:
    """A p value as journals print it."""
    if p != p:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
