"""A report's formats: each has the same figures and the label, and shows what people wrote."""

import csv
import html.parser
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from matplotlib.figure import Figure

from avsc_core.data.dataset import LABEL
from avsc_core.record.recorder import Recorder
from avsc_core.terminal import err, out
from studies import report as package
from studies.report.blocks import INTERVAL_TITLE, MISSING_CELL, Picture, Report, Table, Words
from studies.report.export import export_study
from studies.report.render import (
    PICTURE_KEYS,
    TABLE_KEYS,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_terminal,
    write_report,
)
from tests.builders import reports
from tests.builders.studies import MODULES, SEARCH

PAIR = "question: q\narms: [{{name: {}}}, {{name: other, set: {{fusion.kind: none}}}}]\n"


def report_of(
    *rows: list[str], header: tuple[str, ...] = ("arm", "val Acc"), label: str = LABEL
) -> Report:
    """A report with one table."""
    return Report("x", "Study x", label, [Table("results", "Results", header, rows)])


def csv_rows(report: Report) -> list[list[str]]:
    return list(csv.reader(io.StringIO(to_csv(report, report.tables[0]))))


class Page(html.parser.HTMLParser):
    """A page's elements, everything it would fetch or run, and the text of its cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.resources: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.resources += [f"<{tag}>"] if tag in ("script", "iframe", "object") else []
        self.resources += [
            value or "" for name, value in attributes if name in ("src", "href", "srcset")
        ]
        self.elements.append((tag, dict(attributes)))
        if tag in ("th", "td"):
            self.cells.append((tag, ""))

    def handle_data(self, data: str) -> None:
        if self.cells and self.elements[-1][0] in ("th", "td"):
            self.cells[-1] = (self.cells[-1][0], self.cells[-1][1] + data.strip("\n"))


def test_every_format_says_the_same_and_what_it_is_of(study: Callable[..., Report], tmp_path: Path):
    report = study(MODULES.replace("SF:", "'S<b>&F_%|':"))
    assert report.label == LABEL
    paths = write_report(report, tmp_path / "out")
    page, markdown, latex = (path.read_text() for path in paths)
    assert all(
        each.startswith(("#", "data:")) for each in Page(page).resources
    )  # needs nothing else
    assert "S<b>" not in page
    assert "S&lt;b&gt;&amp;F_%|" in page
    acc = reports.table(report, "results")[0]["val Acc"]
    for text in (page, markdown, latex):
        assert acc in text
        assert text.count(LABEL) >= len(report.tables)
    assert r"S$<$b$>$\&F\_\%\textbar{}" in latex
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == len(report.tables)
    assert r"S\<b\>\&F\_%\|" in markdown
    for each in report.tables:
        rows = list(
            csv.reader(io.StringIO((tmp_path / "out" / "tables" / f"{each.key}.csv").read_text()))
        )
        assert len({len(row) for row in rows}) == 1
        assert all(row[-1] == LABEL for row in rows[1:])
    pictures = sorted(path.name for path in (tmp_path / "out" / "figures").iterdir())
    assert pictures == sorted(f"{picture.key}.png" for picture in report.pictures)
    again = Report(report.name, report.title, report.label, list(map(replace, report.blocks)))
    assert to_html(again) == page  # the same bytes for the same record, drawn anew


def test_what_people_write_is_shown_as_they_wrote_it(study: Callable[..., Report]):
    name = "[/bold] :bug: <b>50 %</b> & a_b | c"
    report = study(f"question: '{name}'\n" + PAIR.format(f"'{name}'").split("\n", 1)[1])
    with out.capture() as terminal:
        to_terminal(report, out)
    assert terminal.get().count("[/bold] :bug:") >= 3  # the question, the row, the difference
    assert terminal.get().count(LABEL) == 1 + len(report.tables)
    page = to_html(report)
    assert name not in page
    assert ("th", name) in Page(page).cells
    assert r"{}[/bold] :bug: $<$b$>$50 \%$<$/b$>$ \& a\_b \textbar{} c & " in to_latex(report)
    assert r"| \[/bold\] :bug: \<b\>50 %\</b\> \& a\_b \| c |" in to_markdown(report)
    assert csv_rows(report)[1][0] == name


def test_no_emoji_for_words_between_colons():
    for console in (out, err):
        with console.capture() as terminal:
            console.print("the :bug: arm")
        assert terminal.get() == "the :bug: arm\n"


def test_a_row_of_latex_never_begins_with_an_option():
    text = to_latex(report_of(["[2pt] a", "1"], ["* b", "2"], ["c\n\nd", "3"]))
    lines = text.splitlines()
    start = lines.index(r"\midrule")
    assert lines[start + 1 : start + 4] == [r"{}[2pt] a & 1 \\", r"{}* b & 2 \\", r"c d & 3 \\"]


def test_csv_has_a_name_for_every_column(study: Callable[..., Report]):
    figures = "{table: II, row: 1, acc: 0.5, logloss: 1.0}"
    published = f"  published: {{'SF without, CEOA without': {figures}}}\n  factors:"
    for text in (
        MODULES.replace("  factors:", published),
        MODULES.replace("factorial", "leave_one_out") + SEARCH + "retune: 2\n",
    ):
        report = study(text, embedded=False)
        for table in report.tables:
            header = next(csv.reader(io.StringIO(to_csv(report, table))))
            assert len(set(header)) == len(header), table.key
    shared = ("arm", "val Acc", INTERVAL_TITLE, "ours - it", "val Logloss", INTERVAL_TITLE, "p")
    names = csv_rows(
        report_of(["a", "1", "0.1 to 2", "-", "1", "-", "0.1"], header=shared, label="")
    )
    assert names[0] == [
        *("arm", "val Acc", "val Acc 95 % low", "val Acc 95 % high", "val Acc ours - it"),
        *("val Logloss", "val Logloss 95 % low", "val Logloss 95 % high", "val Logloss p"),
    ]
    assert names[1] == ["a", "1", "0.1", "2", "", "1", "", "", "0.1"]


def test_csv_in_a_spreadsheet_is_what_it_says():
    texts = [
        "=HYPERLINK(1)",
        "+cmd",
        "-2+3",
        "@sum",
        "-0.25",
        "+1e-05",
        "3/3",
        "plain = text",
        MISSING_CELL,
    ]
    rows = csv_rows(report_of(*([text, text] for text in texts), label=""))[1:]
    shown = ["'=HYPERLINK(1)", "'+cmd", "'-2+3", "'@sum", "-0.25", "+1e-05", "3/3", "plain = text"]
    assert [row[1] for row in rows] == [*shown, ""]  # a figure that is missing
    assert [row[0] for row in rows] == [*shown, "-"]  # an arm of that name
    seeds = csv_rows(
        report_of(
            ["a", "3/3", "-"], ["b", "0/3", "a"], header=("arm", "seeds", "against"), label=""
        )
    )
    assert seeds == [
        ["arm", "seeds", "seeds wanted", "against"],
        ["a", "3", "3", "-"],
        ["b", "0", "3", "a"],
    ]


def test_markdown_takes_nothing_for_markup():
    question = "# no\n\nheading ![i](http://x/y.png) *a* _b_ `c` <i>d</i> &amp; \\|"
    table = Table(
        "results", "Results", ("arm", "note"), [["a\nb", "c | *d*"]], "- no list\nof *two*"
    )
    text = to_markdown(
        Report("x", "Study x", "", [Words("Question", [question, "1. no list"]), table])
    )
    plain = r"\# no heading !\[i\](http://x/y.png) \*a\* \_b\_ \`c\` \<i\>d\</i\> \&amp; \\\|"
    assert text.split("\n\n")[2:4] == [plain, r"1\. no list"]
    assert "| a b | c \\| \\*d\\* |" in text.splitlines()
    assert text.endswith("\n\n\\- no list of \\*two\\*\n")


def test_an_earlier_reports_files_do_not_stay(tmp_path: Path):
    picture = Picture("factors", "Factors", "what", lambda: Figure(figsize=(1, 1)))
    first = report_of(["a", "1"])
    first.blocks.extend([Table("missing", "Missing", ("what",), [["b"]]), picture])
    write_report(first, tmp_path)
    assert (tmp_path / "figures" / "factors.png").is_file()
    own = [
        tmp_path / "tables" / "mine.csv",
        tmp_path / "figures" / "mine.png",
        tmp_path / "missing.csv",
    ]
    for path in own:
        path.write_text("a person's")
    write_report(report_of(["a", "1"]), tmp_path)
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "mine.csv",
        "results.csv",
    ]
    assert all(path.is_file() for path in own)
    assert not (tmp_path / "figures" / "factors.png").exists()


def test_every_file_of_a_report_is_known_to_be_one():
    """What removes an earlier report's files has to know the key of each table and picture."""
    source = "".join(path.read_text() for path in Path(package.__path__[0]).rglob("*.py"))
    assert set(re.findall(r'\bTable\(\s*"(\w+)"', source)) == set(TABLE_KEYS)
    assert set(re.findall(r'\bPicture\(\s*key="(\w+)"', source)) == set(PICTURE_KEYS)


def test_the_page_is_read_without_eyes_or_mouse():
    bare = Table("reproduce", "How to repeat it", ("", ""), [["command", "avsc-search"]])
    half = Table("cost", "Cost", ("", "measured"), [["trials", "3"]])
    text = to_html(Report("x", "Study x", "", [bare, half]))
    page = Page(text)
    assert "section { scroll-margin-top: " in text  # a heading jumped to is not under the label
    assert page.cells[:2] == [("th", "command"), ("td", "avsc-search")]
    assert page.cells[2:] == [("td", ""), ("th", "measured"), ("th", "trials"), ("td", "3")]
    assert [own["scope"] for tag, own in page.elements if tag == "th"] == ["row", "col", "row"]
    (first, second) = [own for _, own in page.elements if own.get("class") == "wide"]
    assert (first["tabindex"], first["role"], first["aria-label"]) == (
        "0",
        "region",
        "How to repeat it",
    )
    assert second["aria-label"] == "Cost"


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as WCAG 2 defines it."""
    digits = colour.lstrip("#")
    pairs = (
        [digits[n : n + 2] for n in (0, 2, 4)]
        if len(digits) == 6
        else [2 * digit for digit in digits]
    )
    values = [int(pair, 16) / 255 for pair in pairs]
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values
    ]
    return sum(
        weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


@pytest.mark.parametrize(
    ("scheme", "canvas"), [(0, "#fff"), (1, "#1c1b22")]
)  # the lightest dark canvas of browsers
def test_small_print_has_contrast(scheme: int, canvas: str):
    page = to_html(report_of(["a", "1"]))
    for name in ("quiet", "warn"):
        colours = re.findall(rf"--{name}: (#\w+)", page)
        dark, light = sorted((luminance(colours[scheme]), luminance(canvas)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_an_exported_configuration_can_be_read_whatever_its_arm_is_called(
    study: Callable[..., Report], recorder: Recorder, tmp_path: Path
):
    name = "'a: [ #'"
    report = study(
        PAIR.format(name), outcome=lambda trial: "failed" if trial.arm == "other" else "complete"
    )
    best = export_study(recorder, report.name, tmp_path)[2]
    assert yaml.safe_load(best.read_text())["fusion"]["kind"] == "semantic"
    assert best.read_text().splitlines()[1].startswith("# a: [ #, trial ")
