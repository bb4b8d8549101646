"""How dense is the code, folder by folder? `python -m benchmarks.density [FOLDER]...`

The columns, for each folder of the packages and for all of them together:

    lines     blank ones included
    tokens    without comments and layout
    a line    tokens over lines
    compr.    comprehensions per 100 statements
    pairs     assignments of several values to as many names, like `a, b = x, y`
    comments  lines that are only a comment, per 1,000 lines
    long      functions above 40 lines

Nothing is timed or kept, so `python -m benchmarks` does not run it.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

PACKAGES = ("avsc_core", "search_spaces", "studies")
COLUMNS = ("lines", "tokens", "a line", "compr.", "pairs", "comments", "long")
LONG = 40  # lines of a function

LAYOUT = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    """Count the code of every folder and print a table."""
    table = Table("folder", *COLUMNS, box=None, pad_edge=False)

    total: Counter[str] = Counter()
    for folder in list_folders(sys.argv[1:] or PACKAGES):
        counts: Counter[str] = Counter()
        for path in sorted(folder.glob("*.py")):
            counts += count_file(path)
        table.add_row(str(folder), *format_counts(counts))
        total += counts

    table.add_row("all", *format_counts(total))
    Console().print(table)


def list_folders(roots: list[str] | tuple[str, ...]) -> Iterator[Path]:
    """List the roots and the folders in them that hold Python files."""
    for root in roots:
        folders = {path.parent for path in Path(root).rglob("*.py")}
        yield from sorted(folders)


def count_file(path: Path) -> Counter[str]:
    """Count what one file holds, by name."""
    text = path.read_text(encoding="utf-8")
    counts: Counter[str] = Counter()

    for line in text.splitlines():
        counts["lines"] += 1
        counts["comments"] += line.lstrip().startswith("#")

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        counts["tokens"] += token.type not in LAYOUT

    for node in ast.walk(ast.parse(text)):
        counts["statements"] += isinstance(node, ast.stmt)
        counts["comprehensions"] += isinstance(node, COMPREHENSIONS)
        counts["pairs"] += is_pair(node)
        counts["long"] += is_long_function(node)
    return counts


def is_pair(node: ast.AST) -> bool:
    """Tell whether a node assigns several values to as many names, as `a, b = x, y` does."""
    if not isinstance(node, ast.Assign):
        return False
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def is_long_function(node: ast.AST) -> bool:
    """Tell whether a node is a function above 40 lines."""
    if not isinstance(node, FUNCTIONS):
        return False
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1 > LONG


def format_counts(counts: Counter[str]) -> list[str]:
    """Format a row of the table."""
    lines = max(1, counts["lines"])
    tokens_a_line = counts["tokens"] / lines
    comments = 1000 * counts["comments"] / lines
    comprehensions = 100 * counts["comprehensions"] / max(1, counts["statements"])
    return [
        str(counts["lines"]),
        str(counts["tokens"]),
        f"{tokens_a_line:.1f}",
        f"{comprehensions:.1f}",
        str(counts["pairs"]),
        f"{comments:.1f}",
        str(counts["long"]),
    ]


if __name__ == "__main__":
    main()
