"""Writes Markdown tables, and text that Markdown shows unchanged."""

import re
from typing import Iterable, Sequence

#: What Markdown may read as markup. An underscore inside a word is not markup.
_MARKUP = re.compile(r"[\\`*\[\]<|&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def escape(text: object) -> str:
    """Escape everything in a text that Markdown would read as a cell border, a tag or emphasis.

    Args:
        text: The text, or an object whose `str` is used.

    Returns:
        The escaped text on one line.
    """
    return _MARKUP.sub(lambda found: "\\" + found.group(), " ".join(str(text).split()))


def table(headings: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table. The first column is aligned left, the others right.

    Args:
        headings: One heading per column.
        rows: The rows, each with one cell per column.

    Returns:
        The table, without a final newline.
    """
    rule = " | ".join(["---"] + ["---:"] * (len(headings) - 1))
    lines = [" | ".join(map(escape, row)) for row in [headings] + list(rows)]
    return "\n".join(f"| {line} |" for line in lines[:1] + [rule] + lines[1:])
