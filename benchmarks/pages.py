"""Tables that a benchmark writes into a page of the documentation, between marks that name it."""

from __future__ import annotations

import re
from pathlib import Path


def with_table(page: Path, benchmark: str, table: str) -> str:
    """The page's text with a table between the marks of a benchmark.

    :param benchmark: its file, such as `distributed.py`.
    :raises SystemExit: the page has no such marks.
    """
    marks = (f"(<!-- benchmarks/{re.escape(benchmark)} {word} -->)" for word in ("begins", "ends"))
    between = re.compile("(?:\n.*?)?\n".join(marks), re.DOTALL)
    text, found = between.subn(lambda found: f"{found[1]}\n{table}\n{found[2]}", page.read_text(encoding="utf-8"))
    if found != 1:
        raise SystemExit(f"{page}: expected one place between the marks of benchmarks/{benchmark}, found {found}")
    return text
