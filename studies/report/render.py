"""A report in every format: the terminal, Markdown, LaTeX, CSV, PNG, and one self-contained page.

All formats are made of the same blocks and show the same figures; the report's label stands in each
of them. What people wrote (questions, names of arms, notes) is shown as they wrote it, so every
format escapes what its own syntax would take for markup.
"""

import base64
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import rc_context
from rich.console import Console

from avsc_core.files import atomic_path, write_text
from avsc_core.terminal import make_table
from studies.report.blocks import (
    INTERVAL_TITLE,
    MISSING_CELL,
    POWER_TITLE,
    Picture,
    Report,
    Table,
    Words,
)

# The keys of all tables and pictures that a report can have: files of these names are a report's,
# any others a person's.
TABLE_KEYS = (
    *("results", "published", "settings", "comparisons", "looks", "effects", "retuned"),
    *("ladder", "test", "search", "importance", "pareto", "missing", "cost", "reproduce"),
)
PICTURE_KEYS = ("rows", "factors", "importance", "slices", "pareto", "curves", "confusion")

LATEX_ESCAPES = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "<": "$<$",
        ">": "$>$",
        "|": r"\textbar{}",  # unescaped, it is a dash in LaTeX's old fonts
    }
)
MARKDOWN_ESCAPES = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>&|#~$"})

# CSV: columns that describe the figure before them.
TITLES_OF_FIGURE = (INTERVAL_TITLE, "p", POWER_TITLE, "ours - it")
# What spreadsheets take for a formula; numbers with a sign are none.
FORMULA = re.compile(r"^[=+\-@\t\r](?![\d.]+(e[+-]?\d+)?\Z).+", re.DOTALL)


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write every file format into a folder, in place of an earlier report's files.

    Returns the paths of the three main files, the page first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Tables and pictures that an earlier report had and this one lacks.
    for key in _list_absent(TABLE_KEYS, [table.key for table in report.tables]):
        (folder / "tables" / f"{key}.csv").unlink(missing_ok=True)
    for key in _list_absent(PICTURE_KEYS, [picture.key for picture in report.pictures]):
        (folder / "figures" / f"{key}.png").unlink(missing_ok=True)

    main_files = {
        "report.html": to_html(report),
        "report.md": to_markdown(report),
        "report.tex": to_latex(report),
    }
    for name, text in main_files.items():
        write_text(folder / name, text)
    for table in report.tables:
        write_text(folder / "tables" / f"{table.key}.csv", to_csv(report, table))
    write_pictures(report, folder / "figures")
    return [folder / name for name in main_files]


def write_pictures(report: Report, folder: Path) -> list[Path]:
    """Write every picture as PNG. Returns their paths."""
    paths = []
    for picture in report.pictures:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{picture.key}.png"
        with atomic_path(path) as temporary:
            picture.figure.savefig(temporary, dpi=150, format="png")
        paths.append(path)
    return paths


def to_terminal(report: Report, console: Console) -> None:
    """Print words and tables; pictures are in the files."""
    console.print(report.title, style="bold")
    if report.label:
        console.print(report.label, style="red")
    for block in report.blocks:
        if isinstance(block, Words):
            console.print(f"\n{block.title}", style="bold")
            for line in block.lines:
                console.print(line)
        elif isinstance(block, Table):
            console.print(make_table(block.title, block.header, block.rows))
            if block.note:
                console.print(block.note, style="dim")
            if report.label:
                console.print(report.label, style="red")


def to_markdown(report: Report) -> str:
    """Render a report as Markdown, for a repository or a notebook."""
    parts = [f"# {_escape_markdown(report.title)}"]
    if report.label:
        parts.append(f"**{report.label}**")
    for block in report.blocks:
        parts.append(f"## {_escape_markdown(block.title)}")
        if isinstance(block, Words):
            parts += map(_escape_paragraph, block.lines)
        elif isinstance(block, Picture):
            parts.append(f"![{_escape_markdown(block.alt_text)}](figures/{block.key}.png)")
        else:
            parts.append(_render_markdown_table(block))
            if block.note:
                parts.append(_escape_paragraph(block.note))
            if report.label:
                parts.append(report.label)
    return "\n\n".join(parts) + "\n"


def to_latex(report: Report) -> str:
    """Render the tables of a report for a paper, with booktabs."""
    parts = [f"% {report.title}. Needs \\usepackage{{booktabs}}."]
    parts += [_render_latex_table(report, table) for table in report.tables]
    return "\n\n".join(parts) + "\n"


def to_csv(report: Report, table: Table) -> str:
    """Render one table for other tools.

    Every column has a name of its own. Both ends of an interval, and the seeds that are completed
    and wanted, have columns of their own. Missing figures are empty. When the figures are not of
    real streets, a last column says what they are of.
    """
    columns = list(_list_csv_columns(table))
    if report.label:
        columns.append(["our figures are of", *[report.label] * len(table.rows)])

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for line in zip(*columns, strict=True):
        # A quotation mark before a formula makes it text for a spreadsheet.
        writer.writerow([FORMULA.sub(r"'\g<0>", cell) for cell in line])
    return text.getvalue()


def to_html(report: Report) -> str:
    """Render one page with everything in it: no script, and nothing is loaded from outside."""
    environment = Environment(
        loader=PackageLoader("studies.report", ""), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("page.html.j2")
    return page.render(report=report, embed_picture=_embed_picture)


def _list_absent(keys: Sequence[str], present: Sequence[str]) -> set[str]:
    """List the keys that are not present, also those that begin with a table of the study.

    `table-ii-effects` may be absent where `table-ii-results` is present.
    """
    beginnings = {""}
    for name in present:
        beginnings |= {name.removesuffix(key) for key in keys if name.endswith(f"-{key}")}
    return {beginning + key for beginning in beginnings for key in keys} - set(present)


def _render_markdown_table(table: Table) -> str:
    lines = []
    for row in (table.header, *table.rows):
        cells = " | ".join(map(_escape_markdown, row))
        lines.append(f"| {cells} |")
    rule = " | ".join(["---"] * len(table.header))
    lines.insert(1, f"| {rule} |")
    return "\n".join(lines)


def _escape_markdown(text: str) -> str:
    return _join_lines(text).translate(MARKDOWN_ESCAPES)


def _escape_paragraph(text: str) -> str:
    """Escape a paragraph of Markdown, whose beginning could start a list or a rule."""
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", _escape_markdown(text))


def _render_latex_table(report: Report, table: Table) -> str:
    caption = " ".join(part for part in (f"{table.title}.", table.note, report.label) if part)
    lines = []
    for row in (table.header, *table.rows):
        cells = " & ".join(map(_escape_latex, row))
        lines.append(rf"{cells} \\")
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escape_latex(caption)}}}",
            rf"\label{{tab:{report.name}-{table.key}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.header)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _escape_latex(text: str) -> str:
    escaped = _join_lines(text).translate(LATEX_ESCAPES)
    # LaTeX would read [ or * at the beginning of a cell as an option of the line before it.
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def _list_csv_columns(table: Table) -> Iterator[list[str]]:
    """List the columns of a table as CSV has them, each with its title and its cells."""
    figure = ""  # the title of the last column that holds a figure of its own
    for place, (title, *cells) in enumerate(zip(table.header, *table.rows, strict=True)):
        if title in TITLES_OF_FIGURE:
            name = f"{figure} {title}"
        else:
            name = title or ("value" if place else "what")
            figure = title

        # Empty the cells of missing figures; but in columns of names, "-" may be a name.
        if place and title != "against":
            cells = ["" if cell == MISSING_CELL else cell for cell in cells]

        if title == INTERVAL_TITLE:
            yield from _split_column(cells, " to ", f"{name} low", f"{name} high")
        elif title.startswith("seeds") and any("/" in cell for cell in cells):
            # In one cell, a spreadsheet would read 3/3 as a date.
            yield from _split_column(cells, "/", name, f"{name} wanted")
        else:
            yield [name, *cells]


def _split_column(
    cells: list[str], separator: str, first_title: str, second_title: str
) -> Iterator[list[str]]:
    """Split a column of pairs into two columns with these titles."""
    parts = [cell.partition(separator) for cell in cells]
    yield [first_title, *(first for first, _, _ in parts)]
    yield [second_title, *(second for _, _, second in parts)]


def _embed_picture(picture: Picture) -> str:
    """Render a picture as SVG in an address; the same picture gives the same bytes."""
    content = io.BytesIO()
    # Matplotlib draws random ids for the parts of an SVG, unless it has a salt.
    with rc_context({"svg.hashsalt": picture.key}):
        picture.figure.savefig(content, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()
