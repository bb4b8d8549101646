"""What a report is made of: words, tables of text, and pictures.

Every section of a report is one of these blocks, and `render.py` turns the same blocks into every
format. So all formats show the same figures, which are formatted here, once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

from avsc_core.evaluation.intervals import Estimate
from avsc_core.resolve import format_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTERVAL_TITLE = "95 %"  # of a column of intervals
POWER_TITLE = "80 % power"  # of a column of differences that could have been told
METRIC_TITLES = {
    "acc": "val Acc",
    "logloss": "val Logloss",
    "val_acc": "val Acc",
    "val_logloss": "val Logloss",
}
MISSING_CELL = "-"  # a figure that is wanted and not in the record


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
    """A figure that is drawn when the first format asks for it; `key` names its file."""

    key: str
    title: str
    alt_text: str  # for readers who cannot see it
    draw: "Callable[[], Figure]"

    @cached_property
    def figure(self) -> "Figure":
        """The figure, with its parts in their places.

        To place them takes as long as to write a file, so it is done once for all formats.
        """
        figure = self.draw()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return figure


Block = Words | Table | Picture


@dataclass(frozen=True)
class Report:
    """A whole report.

    When its figures are not of real streets, `label` says so on every page, table and picture.
    """

    name: str
    title: str
    label: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        """The tables in the order of the report."""
        return [block for block in self.blocks if isinstance(block, Table)]

    @property
    def pictures(self) -> list[Picture]:
        """The pictures in the order of the report."""
        return [block for block in self.blocks if isinstance(block, Picture)]


def format_number(value: float, digits: int = 4, sign: str = "") -> str:
    """Format a figure, or the mark of a missing one for nan; with `sign` "+", always its sign.

    What rounds to 0 is never negative.
    """
    return MISSING_CELL if value != value else f"{value:{sign}z.{digits}f}"


def format_smallest(difference: float, digits: int = 4) -> str:
    """Format the smallest difference that can be told; inf is one that Acc cannot have."""
    return "over 1" if difference == inf else format_number(difference, digits)


def format_interval(figure: Estimate) -> str:
    """Format the interval of an estimate: "0.512 to 0.634"."""
    return MISSING_CELL if figure.low != figure.low else f"{figure.low:z.3f} to {figure.high:z.3f}"


def format_p(p: float) -> str:
    """Format a p value as journals print it."""
    if p != p:
        return MISSING_CELL
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_setting(value: Any) -> str:
    """Format the value of a setting; empty where the setting does not exist."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else format_value(value)


def make_cells(figure: Estimate, sign: str = "") -> list[str]:
    """Make the two cells of an estimate, value and interval; differences have the `sign` "+"."""
    return [format_number(figure.value, sign=sign), format_interval(figure)]
