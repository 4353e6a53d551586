"""Whether the corpus holds enough of everything: what is there against what is wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import REASONS, Line, count_pairs
from tocsin_training.regions import NOWHERE


@dataclass(frozen=True)
class Minima:
    """How many there must be at least, of each label and reason and in all; every split counts."""

    records: int = 20_000
    in_test: int = 3_000
    with_several_labels: int = 2_500
    with_no_label: int = 7_000
    pairs: int = 1_500
    countries: int = 150
    per_label: int = 450
    per_reason: int = 250


MINIMA = Minima()


@dataclass(frozen=True)
class Row:
    """One thing that is wanted, and how much of it there is."""

    name: str
    there: int
    wanted: int

    @property
    def missed(self) -> bool:
        """Whether there is too little."""
        return self.there < self.wanted


def check_balance(lines: Sequence[Line], taxonomy: Taxonomy, minima: Minima = MINIMA) -> list[Row]:
    """Every minimum with what is there: the whole corpus first, then each label and each reason."""
    labels = Counter(label for line in lines for label in set(line.record.labels))
    reasons = Counter(line.record.reason for line in lines)
    return [
        *_overall(lines, minima),
        *(Row(name, labels[name], minima.per_label) for name in taxonomy.names),
        *(Row(f"none: {reason}", reasons[reason], minima.per_reason) for reason in sorted(REASONS)),
    ]


def _overall(lines: Sequence[Line], minima: Minima) -> Iterator[Row]:
    records = [line.record for line in lines]
    countries = {record.country for record in records} - {None, NOWHERE}
    yield Row("records", len(records), minima.records)
    yield Row("in test", sum(line.split == "test" for line in lines), minima.in_test)
    yield Row("with several labels", sum(len(record.labels) > 1 for record in records), minima.with_several_labels)
    yield Row("with no label", sum(not record.labels for record in records), minima.with_no_label)
    yield Row("pairs", count_pairs(records), minima.pairs)
    yield Row("countries", len(countries), minima.countries)


def table(rows: Sequence[Row]) -> Table:
    """What is there against what is wanted, and how much is missing."""
    result = Table("", "there", "wanted", "missing", title="balance")
    for row in rows:
        missing = str(row.wanted - row.there) if row.missed else "-"
        result.add_row(row.name, str(row.there), str(row.wanted), missing, style="bold red" if row.missed else None)
    for column in result.columns[1:]:
        column.justify = "right"
    return result
