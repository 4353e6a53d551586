"""ACLED's exports: notes with an event type and, since 2019, a sub-event type.

Three layouts are in use: the first, with nine event types in capital columns (EVENT_TYPE, NOTES) and no sub-event
types; that of 2019 to 2023; and the present one, which added disorder_type. Columns and spellings are those of the
codebook (https://acleddata.com/methodology/acled-codebook). A note that stands in several rows (one event of several
kinds, or a row for each actor) is one text with all their labels.
"""

from __future__ import annotations

from typing import Any

from tocsin_training.importing.label_cells import names_in
from tocsin_training.importing.layouts import NO_TEXT, Columns, Draft, Layout, Read, cell
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import Problem


def _told_by(columns: Columns) -> bool:
    return {"notes", "event_type"} <= columns.folded


def _reader(columns: Columns, options: ImportOptions) -> Read:
    text, event_type, sub_event_type = (columns.find(name) for name in ("notes", "event_type", "sub_event_type"))

    def read(cells: dict[str, Any]) -> Draft | Problem:
        note, types = cell(cells, text), cell(cells, sub_event_type) or cell(cells, event_type)
        if not note:
            return NO_TEXT
        uncoded = "" if types else "has neither a sub_event_type nor an event_type"
        return Draft(note, tuple(names_in(types, options.separator)), uncoded=uncoded)

    return read


LAYOUT = Layout("ACLED", _told_by, _reader, dates=("event_date",))
