"""What the corpus covers: labels against split, register, length, decade and region, as tables for people."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import SPLITS, Record
from tocsin_training.validate import read_lines

_LENGTHS = ((10, "to 10"), (25, "11-25"), (40, "26-40"), (75, "41-75"))
_REGIONS = Path(__file__).with_name("regions.toml")

Column = Callable[[Record, str], str]


def coverage_tables(records: Sequence[tuple[Record, str]], taxonomy: Taxonomy) -> list[Table]:
    """One table per dimension; a row per label or reason, a column per value, counts of records.

    :param records: each with the split it lies in.
    """
    columns: dict[str, Column] = {
        "split": lambda record, split: split,
        "register": lambda record, split: record.text_register,
        "words": lambda record, split: length_band(record.text),
        "decade": lambda record, split: record.decade or "?",
        "region": lambda record, split: region(record.country),
    }
    return [_table(title, column, records, taxonomy) for title, column in columns.items()]


def _table(title: str, column: Column, records: Sequence[tuple[Record, str]], taxonomy: Taxonomy) -> Table:
    cells: Counter[tuple[str, str]] = Counter()
    for record, split in records:
        for row in record.labels or (f"none: {record.reason}",):
            cells[row, column(record, split)] += 1
    names = {name for _, name in cells}
    values = [split for split in SPLITS if split in names] if title == "split" else sorted(names)
    table = Table("", *values, "all", title=f"records by {title}")
    rows = [*taxonomy.names, *sorted({row for row, _ in cells} - set(taxonomy.names))]
    for row in rows:
        counts = [cells[row, value] for value in values]
        table.add_row(row, *(str(count or "-") for count in counts), str(sum(counts)))
    for cell in table.columns[1:]:
        cell.justify = "right"
    return table


def length_band(text: str) -> str:
    """How long a text is, in words, as one of a few bands."""
    words = len(text.split())
    return next((name for limit, name in _LENGTHS if words <= limit), "more")


def region(country: str | None) -> str:
    """World region of an ISO 3166 alpha-3 code, by the table in ``regions.toml``; "?" for an unknown one."""
    return _regions().get(country or "", "?")


@cache
def _regions() -> dict[str, str]:
    table = tomllib.loads(_REGIONS.read_text(encoding="utf-8"))
    return {code: name for name, codes in table.items() for code in codes.split()}


def main(folder: Path, taxonomy: Path, console: Console) -> None:
    """Print the tables of a corpus folder."""
    lines, _ = read_lines(folder)
    for table in coverage_tables([(line.record, line.split) for line in lines], Taxonomy.load(taxonomy)):
        console.print(table)
