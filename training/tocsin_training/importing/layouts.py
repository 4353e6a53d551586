"""Which columns of a file hold the text, the labels and the rest: one reader a layout, chosen by the file's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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
    """As the file spells it, where a layout has it in several columns; of one column it is read for all layouts."""
    reason: str = ""
    """Why there is no event, where the file says so."""
    uncoded: str = ""
    """What the row lacks, where it has no label and that may be because nobody coded it."""


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
    dates: tuple[str, ...] = ()
    """Columns that hold the date, besides those that do in any layout."""
    gather: Callable[[Table, ImportOptions], Table] = lambda table, options: table
    """Makes rows with columns of what has none, and puts those together that only together say what is meant."""
    ignores: tuple[str, ...] = ()
    """Options about cells with labels that play no part in it."""


class Columns:
    """The columns of a file: a name finds the column so spelled, or else the one that differs from it only in case."""

    def __init__(self, table: Table) -> None:
        self.path = table.path
        self.names = table.columns
        self.of_objects = table.of_objects
        self._spellings: dict[str, list[str]] = {}
        for name in table.columns:
            self._spellings.setdefault(name.casefold(), []).append(name)

    @property
    def folded(self) -> frozenset[str]:
        """All of them, in lower case."""
        return frozenset(self._spellings)

    def find(self, *names: str) -> str | None:
        """The first of some columns that is there, as the file spells it.

        :raises InputError: several differ from it, and from each other, only in case.
        """
        spelled = next((self._spelled(name) for name in names if name.casefold() in self._spellings), [])
        if len(spelled) > 1:
            raise InputError(
                f"{self.path}: {shown_list(spelled)} are several columns whose names differ only in case, so it is not "
                "clear which is meant; rename all but one, or name it with --text-column, --label-column or "
                "--date-column as the file spells it"
            )
        return spelled[0] if spelled else None

    def _spelled(self, name: str) -> list[str]:
        return [name] if name in self.names else self._spellings[name.casefold()]

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
        """The column with the date.

        :raises UsageError: the user named one that is not there.
        """
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


@dataclass(frozen=True)
class LaidOut:
    """A table and how it is read."""

    layout: Layout
    columns: Columns
    rows: Rows
    options: ImportOptions
    """Without the columns that the user named where it has them not."""
    read: Read
    lacks: tuple[str, ...] = ()
    """Columns with texts or labels that the user named for another file, and that it has not."""


def lay_out(table: Table, options: ImportOptions, *, texts: bool = True, lenient: bool = False) -> LaidOut:
    """How a table is read. Columns that the user names come before those of a layout that is told by its columns.

    :param texts: whether the texts are wanted; if not, a column with labels is enough.
    :param lenient: whether the columns that the user named may be another file's (see `reading.have_named`): a file of
        a layout that is told, and that has them not, is then read by its own.
    :raises UsageError: a column that the user named is not there, or only one of the two is named.
    :raises InputError: nothing fits; the message has the columns and the command to give.
    """
    told = next((layout for layout in layouts() if layout.told_by(Columns(table))), None)
    if told is not None:
        table = told.gather(table, options)
    columns, lacks = Columns(table), tuple[str, ...]()
    if lenient and told is not None:
        lacks = tuple(name for name in named_columns(options) if columns.find(name) is None)
    if lacks:
        date = None if options.date_column is None else columns.find(options.date_column)
        options = options.model_copy(update={"text_column": None, "label_column": (), "date_column": date})
    layout = _chosen(told, columns, options, texts=texts)
    return LaidOut(layout, columns, table.rows, options, _decided(layout.reader(columns, options), options), lacks)


def _decided(read: Read, options: ImportOptions) -> Read:
    """A reader whose rows are without event where the user says so: by a name that means it, or an empty cell."""
    no_event = frozenset(name.casefold() for name in options.no_event)

    def decided(cells: dict[str, Any]) -> Draft | Problem:
        found = read(cells)
        if isinstance(found, Problem):
            return found
        if found.uncoded and options.empty == "drop":
            return Problem(NOT_CODED, found.uncoded)
        return replace(found, names=tuple(name for name in found.names if name.casefold() not in no_event))

    return decided


def named_columns(options: ImportOptions) -> tuple[str, ...]:
    """The columns with texts and labels that the user named."""
    return (*filter(None, [options.text_column]), *options.label_column)


def _chosen(told: Layout | None, columns: Columns, options: ImportOptions, *, texts: bool) -> Layout:
    from tocsin_training.importing import generic, label_studio, ucdp

    text, label = options.text_column is not None, bool(options.label_column)
    if told is label_studio.LAYOUT or (told is ucdp.LAYOUT and not label):
        # The one takes either name by itself, the other that of the texts.
        return told
    names = shown_list(columns.names) or "none"
    if text and label:
        return generic.LAYOUT
    if label and not texts:
        return generic.LABELS_ALONE
    if text or label:
        missing = "--label-column" if text else "--text-column"
        raise UsageError(f"{columns.path}: give {missing} too; its columns are: {names}")
    if told is not None:
        return told
    raise InputError(
        f"{columns.path}: the layout is none that is known by its columns ({names}); "
        "say which hold the text and the labels: --text-column NAME --label-column NAME"
    )
