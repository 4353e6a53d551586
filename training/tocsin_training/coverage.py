"""What the corpus covers: labels against split, register, length, decade and region, and which of these meet nowhere.

The writers of the first batches named no country. Where the text itself tells it, the region is inferred
(``gazetteer``): a count beside the stated one, for these tables only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import SPLITS, Line, Record
from tocsin_training.gazetteer import Accuracy, infer_country, measure
from tocsin_training.regions import NOWHERE, UNKNOWN, region
from tocsin_training.report import Grid

_LENGTHS = ((10, "to 10"), (25, "11-25"), (40, "26-40"), (75, "41-75"))

Column = Callable[[Line], str]


@dataclass(frozen=True)
class Coverage:
    """Records by label, or by reason for having none, and one other property."""

    by: str
    values: tuple[str, ...]
    rows: tuple[str, ...]
    stated: Mapping[tuple[str, str], int]
    """(row, value) -> records; what is missing is none."""
    inferred: Mapping[tuple[str, str], int]
    """Likewise, of the records that state no value."""

    def cells(self) -> list[tuple[str, str]]:
        """Rows and values that ought to meet."""
        return [(row, value) for row in self.rows for value in known(self.values)]

    def empty(self) -> list[tuple[str, str]]:
        """Those that no record has together."""
        return [cell for cell in self.cells() if not self._count(*cell)]

    def _count(self, row: str, value: str) -> int:
        return self.stated.get((row, value), 0) + self.inferred.get((row, value), 0)

    def grid(self) -> Grid:
        """Counts; inferred ones stand after a plus, and what could not be inferred stays in the column "?"."""
        heads = ("", *self.values, "all")
        return Grid(f"records by {self.by}", heads, [self._cells(row) for row in self.rows])

    def _cells(self, row: str) -> tuple[str, ...]:
        total = sum(self.stated.get((row, value), 0) for value in self.values)
        return (row, *(self._cell(row, value) for value in self.values), str(total))

    def _cell(self, row: str, value: str) -> str:
        stated, inferred = self.stated.get((row, value), 0), self.inferred.get((row, value), 0)
        if value == UNKNOWN:
            # Those whose value was inferred are counted there, and are no longer unknown.
            stated -= sum(self.inferred.get((row, other), 0) for other in self.values)
        return f"{stated} + {inferred}" if inferred else str(stated or "-")


def measure_coverage(lines: Sequence[Line], taxonomy: Taxonomy) -> list[Coverage]:
    """Split, register, words, decade and region, each against the labels and reasons."""
    columns: dict[str, Column] = {
        "split": lambda line: line.split,
        "register": lambda line: line.record.text_register,
        "words": lambda line: length_band(line.record.text),
        "decade": lambda line: line.record.decade or UNKNOWN,
        "region": lambda line: region(line.record.country),
    }
    # A text that its writer put somewhere, or nowhere, stays there.
    inferred: dict[str, Column] = {
        "region": lambda line: UNKNOWN if line.record.country else region(infer_country(line.record.text))
    }
    return [_coverage(by, column, inferred.get(by), lines, taxonomy) for by, column in columns.items()]


def _coverage(by: str, column: Column, inferred: Column | None, lines: Sequence[Line], taxonomy: Taxonomy) -> Coverage:
    stated: Counter[tuple[str, str]] = Counter()
    guessed: Counter[tuple[str, str]] = Counter()
    for line in lines:
        value = column(line)
        guess = inferred(line) if inferred is not None else UNKNOWN
        for row in row_names(line.record):
            stated[row, value] += 1
            guessed[row, guess] += guess != UNKNOWN
    names = {value for _, value in [*stated, *guessed]}
    rows = (*taxonomy.names, *sorted({row for row, _ in stated} - set(taxonomy.names)))
    return Coverage(by, ordered(by, names), rows, stated, guessed)


def ordered(by: str, names: set[str]) -> tuple[str, ...]:
    """Values of a property in the order in which a reader looks for them."""
    known = {"split": SPLITS, "words": (*(name for _, name in _LENGTHS), "more")}.get(by, sorted(names))
    return tuple(name for name in known if name in names)


def known(values: Iterable[str]) -> list[str]:
    """The values of a property that a corpus ought to cover: neither unknown nor nowhere, which is no region."""
    return [value for value in values if value not in (UNKNOWN, region(NOWHERE))]


def row_names(record: Record) -> tuple[str, ...]:
    """The rows that a record is counted in: its labels, or its reason for having none."""
    return record.labels or (f"none: {record.reason}",)


def region_of(line: Line) -> str:
    """The region its writer named, inferred where none did."""
    return region(line.record.country or infer_country(line.record.text))


def length_band(text: str) -> str:
    """How long a text is, in words, as one of a few bands."""
    words = len(text.split())
    return next((name for limit, name in _LENGTHS if words <= limit), "more")


def empty_grid(coverages: Sequence[Coverage]) -> Grid:
    """Every pair that no record has, by property."""
    rows = [_empty_row(coverage) for coverage in coverages]
    return Grid("what meets nowhere", ("label or reason with", "cells", "empty", "which"), rows)


def _empty_row(coverage: Coverage) -> tuple[str, ...]:
    cells, empty = coverage.cells(), coverage.empty()
    which = "; ".join(f"{row} / {value}" for row, value in empty)
    return coverage.by, str(len(cells)), str(len(empty)), which or "-"


def accuracy_grid(accuracy: Accuracy) -> Grid:
    """How far the inferred regions can be trusted."""
    row = (
        f"{accuracy.records:,}",
        f"{accuracy.guessed_share:.1%}",
        f"{accuracy.error:.1%}",
        f"{accuracy.region_error:.1%}",
    )
    heads = ("records with a country by their writer", "guessed", "country wrong", "region wrong")
    return Grid("the inferred country, where the stated one is known", heads, [row])


def grids(lines: Sequence[Line], taxonomy: Taxonomy) -> list[Grid]:
    """All tables of two properties; ``joint_coverage`` has those of three."""
    coverages = measure_coverage(lines, taxonomy)
    accuracy = measure([line.record for line in lines])
    return [*(coverage.grid() for coverage in coverages), empty_grid(coverages), accuracy_grid(accuracy)]
