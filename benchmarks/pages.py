"""Tables in the documentation that a benchmark writes: each stands between two marks that name the program."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def publish(make: Callable[[], str], page: Path, program: str, *, save: bool) -> None:
    """Print a table, and if asked to write it into a page, whose marks are looked for before the table is made."""
    if save:
        # Now, and not after minutes of measuring.
        with_table(page, program, "")
    table = make()
    print(table)
    if save:
        page.write_text(with_table(page, program, table), encoding="utf-8")


def with_table(page: Path, program: str, table: str) -> str:
    """A page with a table between the marks of a program.

    :param program: as in ``<!-- benchmarks/distributed.py begins -->``.
    :raises SystemExit: the page has no such marks.
    """
    between = re.compile(rf"(<!-- {re.escape(program)} begins -->\n).*?(<!-- {re.escape(program)} ends -->)", re.DOTALL)
    changed, marks = between.subn(lambda marks: f"{marks[1]}{table}\n{marks[2]}", page.read_text(encoding="utf-8"))
    if marks != 1:
        raise SystemExit(f"{page}: expected one place between the marks of {program}, found {marks}")
    return changed
