"""The project's own layout: ``text`` and ``labels``, which are empty where there is no event.

``labels`` is a list, or text with `;` between labels. Records of a corpus folder have it, and so does a table that
somebody made to hold releases against each other.
"""

from __future__ import annotations

from typing import Any

from tocsin_training.importing.label_cells import names_in
from tocsin_training.importing.layouts import NO_LABELS, NO_TEXT, Columns, Draft, Layout, Read, cell
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import Problem


def _told_by(columns: Columns) -> bool:
    return {"text", "labels"} <= columns.folded


def _reader(columns: Columns, options: ImportOptions) -> Read:
    text, labels, reason = columns.find("text"), columns.find("labels"), columns.find("reason")

    def read(cells: dict[str, Any]) -> Draft | Problem:
        found = cell(cells, text)
        if not found:
            return NO_TEXT
        if labels not in cells:
            return Problem(NO_LABELS, "has no field or column `labels`; leave it empty where there is no event")
        return Draft(found, tuple(names_in(cells[labels], options.separator)), reason=cell(cells, reason))

    return read


LAYOUT = Layout("text and labels", _told_by, _reader)
