"""Any table in which the user names the columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tocsin_training.importing.label_cells import names_in
from tocsin_training.importing.layouts import NO_TEXT, Columns, Draft, Layout, Read, cell
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import Problem, as_text

_YES = frozenset({"1", "1.0", "true", "yes", "y", "x"})
_NO = frozenset({"0", "0.0", "false", "no", "n"})


def _reader(columns: Columns, options: ImportOptions) -> Read:
    text = columns.need(options.text_column or "text", "--text-column")
    coded = _labels_reader(columns, options)

    def read(cells: dict[str, Any]) -> Draft | Problem:
        if not (found := cell(cells, text)):
            return NO_TEXT
        what = coded(cells)
        return what if isinstance(what, Problem) else replace(what, text=found)

    return read


def _labels_reader(columns: Columns, options: ImportOptions) -> Read:
    """A row's labels, without its text."""
    labels = [columns.need(name, "--label-column") for name in options.label_column]

    def read(cells: dict[str, Any]) -> Draft | Problem:
        names, said = _labels(cells, labels, options.separator)
        uncoded = "" if names or said else "has no label; if that means no event, say so: --empty no-event"
        return Draft("", tuple(names), uncoded=uncoded)

    return read


def _labels(cells: dict[str, Any], columns: list[str], separator: str | None) -> tuple[list[str], bool]:
    """The names of a row, and whether anything was said even if it was only "no"."""
    if len(columns) == 1:
        value = cells.get(columns[0])
        # An empty list says something that an empty cell does not.
        return names_in(value, separator), bool(as_text(value))
    names, said = [], False
    for column in columns:
        value = as_text(cells.get(column)).casefold()
        said |= bool(value)
        if value in _YES:
            names.append(column)
        elif value not in _NO:
            names += names_in(cells.get(column), separator)
    return names, said


LAYOUT = Layout("columns named", lambda columns: False, _reader)
LABELS_ALONE = Layout("columns named", lambda columns: False, _labels_reader)
"""Where texts are not wanted."""
