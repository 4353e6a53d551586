"""Which columns of a file hold the text, the labels and the rest: one reader a layout, chosen by the file's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tocsin.errors import InputError, UsageError
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import BadRow, Problem, Row, Table, as_text, shown_list


@dataclass(frozen=True, slots=True)
class Draft:
    """What a layout finds in a row."""

    text: str
    names: tuple[str, ...]
    """Labels as the file spells them; none: no event."""
    date: str = ""
    """As the file spells it."""
    reason: str = ""
    """Why there is no event, where the file says so."""


Rows = Iterator[Row | BadRow]
"""A table's rows."""
Read = Callable[[dict[str, Any]], Draft | Problem]
"""A row's cells to what they mean."""


@dataclass(frozen=True)
class Layout:
    """One way of laying out coded data."""

    name: str
    told_by: Callable[[Columns], bool]
    """Whether columns are this layout's."""
    reader: Callable[[Columns, ImportOptions], Read]
    gather: Callable[[Rows, Columns, ImportOptions], Rows] = lambda rows, columns, options: rows
    """Puts rows together that only say together what is meant; most layouts have none."""


class Columns:
    """The columns of a file, found whatever their case."""

    def __init__(self, table: Table) -> None:
        self.path = table.path
        self.names = table.columns
        self.of_objects = table.of_objects
        self._by_name = {name.casefold(): name for name in table.columns}

    @property
    def folded(self) -> frozenset[str]:
        """All of them, in lower case."""
        return frozenset(self._by_name)

    def find(self, *names: str) -> str | None:
        """The first of some columns that is there, as the file spells it."""
        return next((self._by_name[name.casefold()] for name in names if name.casefold() in self._by_name), None)

    def need(self, name: str, option: str) -> str:
        """A column that a user named.

        :raises UsageError: it is not there.
        """
        found = self.find(name)
        if found is None:
            raise UsageError(
                f"{self.path}: has no column {name!r} ({option}); its columns are: {shown_list(self.names)}"
            )
        return found

    def date(self, options: ImportOptions, *others: str) -> str | None:
        """The column with the date."""
        if options.date_column is not None:
            return self.need(options.date_column, "--date-column")
        return self.find(*others, "date", "event_date", "published", "published_at", "timestamp")


def cell(cells: Mapping[str, Any], column: str | None) -> str:
    """A cell as text; none where there is no such column."""
    return "" if column is None else as_text(cells.get(column))


NO_REASON = "not stated"
"""Reason of a text without event whose file gives none."""
NO_TEXT = Problem("no text", "has no text")
NO_LABELS = "no labels"
"""Kind of rows in a layout of the project's own that lack the field."""
NO_SPLIT = "no split"
"""Kind of rows that name no split where most do."""
DISAGREE = "annotators disagree"
NOT_CODED = "not coded"
"""Kind of rows that nobody has labelled yet; they are counted, and are no fault of the file."""
UNSOUND = "may be several labels"
"""Kind of rows whose coding does not say which label is meant; likewise."""


def layouts() -> tuple[Layout, ...]:
    """All layouts that can be told by their columns, the most particular first."""
    from tocsin_training.importing import acled, case2021, events, gtd, label_studio, ucdp

    return (acled.LAYOUT, gtd.LAYOUT, ucdp.LAYOUT, case2021.LAYOUT, label_studio.LAYOUT, events.LAYOUT)


def find_layout(columns: Columns, options: ImportOptions, *, texts: bool = True) -> Layout:
    """The layout of a file. Columns that the user names come before those of a layout that is told by its columns.

    :param texts: whether the texts are wanted; if not, a column with labels is enough.
    :raises UsageError: only one of the two columns is named.
    :raises InputError: nothing fits; the message has the columns and the command to give.
    """
    from tocsin_training.importing import generic, label_studio, ucdp

    told = next((layout for layout in layouts() if layout.told_by(columns)), None)
    if told in (label_studio.LAYOUT, ucdp.LAYOUT):
        # They take either name by itself.
        return told
    names = shown_list(columns.names) or "none"
    if options.text_column is not None and options.label_column:
        return generic.LAYOUT
    if options.label_column and not texts:
        return generic.LABELS_ALONE
    if options.text_column is not None or options.label_column:
        missing = "--label-column" if options.text_column is not None else "--text-column"
        raise UsageError(f"{columns.path}: give {missing} too; its columns are: {names}")
    if told is not None:
        return told
    raise InputError(
        f"{columns.path}: the layout is none that is known by its columns ({names}); "
        "say which hold the text and the labels: --text-column NAME --label-column NAME"
    )
