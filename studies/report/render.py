"""A report in every format: the terminal, Markdown, LaTeX, CSV, PNG, and one HTML page that needs nothing else.

Formats differ in dress alone: all are made of the same blocks. The label of figures that are not of real streets stands
in each of them.
"""

import base64
import csv
import io
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import rc_context
from rich.console import Console

from avsc_core.files import atomic_path, write_text
from studies.report.blocks import INTERVAL, MISSING, Picture, Report, Table, Words
from studies.runner.display import table_of

TEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": "$<$", ">": "$>$"}
)


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
            console.print(table_of(block.title, block.header, block.rows))
            if block.note:
                console.print(block.note, style="dim")


def write_report(report: Report, folder: Path) -> list[Path]:
    """Every file format in a folder. Returns the main files, the page first."""
    folder.mkdir(parents=True, exist_ok=True)
    main = [folder / name for name in ("report.html", "report.md", "report.tex")]
    for path, text in zip(main, (to_html(report), to_markdown(report), to_latex(report)), strict=True):
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
    """For a repository or a notebook."""
    parts = [f"# {report.title}"]
    if report.label:
        parts.append(f"**{report.label}**")
    for block in report.blocks:
        parts.append(f"## {block.title}")
        if isinstance(block, Words):
            parts += block.lines
        elif isinstance(block, Picture):
            parts.append(f"![{block.says}](figures/{block.key}.png)")
        else:
            lines = (block.header, ["---"] * len(block.header), *block.rows)
            parts.append("\n".join(map(_markdown_row, lines)))
            parts += [part for part in (block.note, report.label) if part]
    return "\n\n".join(parts) + "\n"


def to_latex(report: Report) -> str:
    """Tables for a paper, with booktabs."""
    parts = [f"% {report.title}. Needs \\usepackage{{booktabs}}."]
    for table in report.tables:
        caption = " ".join(part for part in (f"{table.title}.", table.note, report.label) if part)
        rows = [" & ".join(str(cell).translate(TEX) for cell in row) + r" \\" for row in (table.header, *table.rows)]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{caption.translate(TEX)}}}",
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
    """One table: an interval's ends in two columns, missing cells empty, and a last column that says what the figures
    are of when they are not of real streets."""
    extra = [["data"], [report.label]] if report.label else [[], []]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for place, row in enumerate((table.header, *table.rows)):
        cells: list[str] = []
        for title, cell in zip(table.header, row, strict=True):
            ends = ["95 % low", "95 % high"] if place == 0 else [*cell.split(" to "), ""][:2]
            cells += ends if title == INTERVAL else [cell]
        writer.writerow([*("" if cell == MISSING else cell for cell in cells), *extra[place > 0]])
    return text.getvalue()


def to_html(report: Report) -> str:
    """One page with everything in it: no script, no address of anything outside."""
    environment = Environment(loader=PackageLoader("studies.report", ""), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html.j2").render(report=report, kind=_kind, source=_source)


def _kind(block: Words | Table | Picture) -> str:
    return type(block).__name__.lower()


def _source(picture: Picture) -> str:
    """A picture inside a page: SVG, the same bytes for the same picture."""
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": picture.key}):
        picture.draw().savefig(content, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()


def _markdown_row(cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"  # type: ignore[attr-defined]
