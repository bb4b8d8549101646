"""A report in every format: the terminal, Markdown, LaTeX, CSV, PNG, and one HTML page that needs nothing else.

Formats differ in dress alone: all are made of the same blocks. The label of figures that are not of real streets stands
in each of them.
"""

import base64
import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import rc_context
from rich.console import Console

from avsc_core.files import atomic_path, write_text
from avsc_core.terminal import make_table
from studies.report.blocks import INTERVAL, MISSING, Picture, Report, Table, Words

TEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "<": "$<$",
        ">": "$>$",
    }
    | {"|": r"\textbar{}"}  # plain, it is a dash in LaTeX's old fonts
)
MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>&|#~$"})
OF_THE_FIGURE = (INTERVAL, "p", "ours - it")  # columns that say something of the figure before them
NAMED = ("against",)  # columns of names besides the first, where "-" may be a name
FORMULA = re.compile(
    r"^[=+\-@\t\r](?![\d.]+(e[+-]?\d+)?\Z).+", re.DOTALL
)  # what spreadsheets take for one; no numbers
# What reports can hold: a file of such a name is a report's, any other a person's.
TABLES = (
    *("results", "published", "settings", "comparisons", "effects", "retuned", "ladder", "test"),
    *("search", "importance", "pareto", "missing", "cost", "reproduce"),
)
FIGURES = ("rows", "factors", "importance", "slices", "pareto", "curves", "confusion")


def to_terminal(report: Report, console: Console) -> None:
    """Words and tables; pictures are in the files."""
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


def write_report(report: Report, folder: Path) -> list[Path]:
    """Every file format in a folder, in place of an earlier report's. Returns the main files, the page first."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_others(report, folder)
    main = [folder / name for name in ("report.html", "report.md", "report.tex")]
    for path, text in zip(
        main, (to_html(report), to_markdown(report), to_latex(report)), strict=True
    ):
        write_text(path, text)
    for table in report.tables:
        write_text(folder / "tables" / f"{table.key}.csv", to_csv(report, table))
    write_pictures(report, folder / "figures")
    return main


def write_pictures(report: Report, folder: Path) -> list[Path]:
    """Every picture as PNG."""
    paths = []
    for picture in report.pictures:
        paths.append(folder / f"{picture.key}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(paths[-1]) as temporary:
            picture.draw().savefig(temporary, dpi=150, format="png")
    return paths


def to_markdown(report: Report) -> str:
    """For a repository or a notebook. What people wrote is shown as text, whatever it would mean in Markdown."""
    parts = [f"# {_markdown(report.title)}"]
    if report.label:
        parts.append(f"**{report.label}**")
    for block in report.blocks:
        parts.append(f"## {_markdown(block.title)}")
        if isinstance(block, Words):
            parts += map(_paragraph, block.lines)
        elif isinstance(block, Picture):
            parts.append(f"![{_markdown(block.says)}](figures/{block.key}.png)")
        else:
            lines = [[_markdown(cell) for cell in row] for row in (block.header, *block.rows)]
            lines.insert(1, ["---"] * len(block.header))
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
            parts += [part for part in (_paragraph(block.note), report.label) if part]
    return "\n\n".join(parts) + "\n"


def to_latex(report: Report) -> str:
    """Tables for a paper, with booktabs."""
    parts = [f"% {report.title}. Needs \\usepackage{{booktabs}}."]
    for table in report.tables:
        caption = " ".join(part for part in (f"{table.title}.", table.note, report.label) if part)
        rows = [" & ".join(map(_latex, row)) + r" \\" for row in (table.header, *table.rows)]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{_latex(caption)}}}",
                    rf"\label{{tab:{report.name}-{table.key}}}",
                    rf"\begin{{tabular}}{{{'l' * len(table.header)}}}",
                    r"\toprule",
                    rows[0],
                    r"\midrule",
                    *rows[1:],
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def to_csv(report: Report, table: Table) -> str:
    """One table for other tools: every column with a name of its own, an interval's ends and the seeds that are there
    and wanted in two columns each, missing figures empty, and a last column that says what the figures are of when
    they are not of real streets."""
    columns: list[tuple[str, list[str]]] = []
    figure = ""
    for title, *cells in zip(table.header, *table.rows, strict=True):
        name = (
            f"{figure} {title}"
            if title in OF_THE_FIGURE
            else title or ("value" if columns else "what")
        )
        figure = figure if title in OF_THE_FIGURE else title
        if columns and title not in NAMED:
            cells = ["" if cell == MISSING else cell for cell in cells]
        if title == INTERVAL:
            columns += _halves(cells, " to ", f"{name} low", f"{name} high")
        elif title.startswith("seeds") and any("/" in cell for cell in cells):
            columns += _halves(
                cells, "/", name, f"{name} wanted"
            )  # 3/3 in one cell would be a date
        else:
            columns.append((name, cells))
    if report.label:
        columns.append(("our figures are of", [report.label] * len(table.rows)))
    text = io.StringIO()
    rows = zip(*([name, *cells] for name, cells in columns), strict=True)
    csv.writer(text, lineterminator="\n").writerows(
        [FORMULA.sub(r"'\g<0>", cell) for cell in row] for row in rows
    )
    return text.getvalue()


def to_html(report: Report) -> str:
    """One page with everything in it: no script, no address of anything outside."""
    environment = Environment(
        loader=PackageLoader("studies.report", ""), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html.j2").render(
        report=report, kind=_kind, source=_source
    )


def _kind(block: Words | Table | Picture) -> str:
    return type(block).__name__.lower()


def _source(picture: Picture) -> str:
    """A picture inside a page: SVG, the same bytes for the same picture."""
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": picture.key}):
        picture.draw().savefig(content, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()


def _remove_others(report: Report, folder: Path) -> None:
    """Remove an earlier report's tables and figures that this one does not have."""
    for pattern, keys, blocks in (
        ("tables/{}.csv", TABLES, report.tables),
        ("figures/{}.png", FIGURES, report.pictures),
    ):
        for key in set(keys) - {block.key for block in blocks}:
            (folder / pattern.format(key)).unlink(missing_ok=True)


def _halves(cells: Iterable[str], between: str, *names: str) -> list[tuple[str, list[str]]]:
    """A column of pairs as two columns."""
    pairs = [cell.partition(between)[::2] for cell in cells]
    return [(name, [pair[place] for pair in pairs]) for place, name in enumerate(names)]


def _latex(text: str) -> str:
    """Text in LaTeX. A cell that begins with [ or * would be an option of the line before it."""
    plain = _one_line(text).translate(TEX)
    return "{}" + plain if plain.startswith(("[", "*")) else plain


def _markdown(text: str) -> str:
    return _one_line(text).translate(MARKDOWN)


def _paragraph(text: str) -> str:
    """Text that stands by itself in Markdown, where its beginning may mean a list or a line."""
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", _markdown(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
