"""What the corpus covers when three properties meet: label, region, and register or decade.

Tables of two properties hide holes: a label may have every register and every region, and yet no headline from one of
them. Cells of three are many and small, so what is told is how many are empty, and which, in short.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import Line
from tocsin_training.coverage import known, region_of, row_names
from tocsin_training.regions import UNKNOWN
from tocsin_training.report import Grid, percent

THIN = 5
"""Fewer records than this are an accident more than a part of the corpus."""
_THIRD: Mapping[str, Callable[[Line], str]] = {
    "register": lambda line: line.record.text_register,
    "decade": lambda line: line.record.decade or UNKNOWN,
}


@dataclass(frozen=True)
class Joint:
    """Records by label (or reason for none), region and one more property; what is unknown or nowhere fills no cell."""

    of: str
    by: str
    rows: tuple[str, ...]
    regions: tuple[str, ...]
    values: tuple[str, ...]
    counts: Mapping[tuple[str, str, str], int]
    """(row, region, value) -> records; what is missing is none."""

    @property
    def cells(self) -> list[tuple[str, str, str]]:
        """All that could meet."""
        return [(row, place, value) for row in self.rows for place in self.regions for value in self.values]

    @property
    def empty(self) -> list[tuple[str, str, str]]:
        """What does not."""
        return [cell for cell in self.cells if not self.counts.get(cell)]

    @property
    def thin(self) -> int:
        """Cells with some records, and fewer than THIN."""
        return sum(0 < self.counts.get(cell, 0) < THIN for cell in self.cells)

    def grid(self) -> Grid:
        """The empty cells of each row that has some, a region's values in one."""
        rows = [(row, *self._empty_of(row)) for row in self.rows]
        heads = (self.of, "empty", f"region: {self.by}s")
        return Grid(f"{self.of} x region x {self.by}: empty cells", heads, [row for row in rows if row[1] != "0"])

    def _empty_of(self, row: str) -> tuple[str, str]:
        holes: dict[str, list[str]] = defaultdict(list)
        for _, place, value in (cell for cell in self.empty if cell[0] == row):
            holes[place].append(value)
        told = [
            f"{place}: {'all' if len(values) == len(self.values) else ', '.join(values)}"
            for place, values in holes.items()
        ]
        return str(sum(map(len, holes.values()))), "; ".join(told)


def measure_joint(lines: Sequence[Line], taxonomy: Taxonomy) -> list[Joint]:
    """Region and register, region and decade: each with the labels, then with the reasons for having none."""
    return [
        _joint(of, by, [line for line in lines if bool(line.record.labels) is (of == "label")], taxonomy)
        for of in ("label", "reason")
        for by in _THIRD
    ]


def _joint(of: str, by: str, lines: Sequence[Line], taxonomy: Taxonomy) -> Joint:
    value_of = _THIRD[by]
    counts = Counter((row, region_of(line), value_of(line)) for line in lines for row in row_names(line.record))
    found = {row for row, _, _ in counts}
    rows = taxonomy.names if of == "label" else tuple(sorted(found))
    regions = known(sorted({place for _, place, _ in counts}))
    values = known(sorted({value for _, _, value in counts}))
    return Joint(of, by, tuple(rows), tuple(regions), tuple(values), counts)


def counts_grid(joints: Sequence[Joint]) -> Grid:
    """How many cells there are, and how many are empty or thin."""
    rows = [
        (
            f"{joint.of} x region x {joint.by}",
            str(len(joint.cells)),
            str(len(joint.empty)),
            percent(len(joint.empty) / len(joint.cells) if joint.cells else 0.0),
            str(joint.thin),
        )
        for joint in joints
    ]
    return Grid("cells of three", ("", "cells", "empty", "share", f"1 to {THIN - 1} records"), rows)
