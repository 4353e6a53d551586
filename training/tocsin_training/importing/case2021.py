"""CASE 2021 task 2, the organisers' TSV file: news snippets with one of 25 sub-event types or a kind of other news."""

from __future__ import annotations

from typing import Any

from tocsin_training.importing.layouts import NO_TEXT, Columns, Draft, Layout, Read, cell
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import Problem


def _told_by(columns: Columns) -> bool:
    return {"text", "sub_type"} <= columns.folded


def _reader(columns: Columns, options: ImportOptions) -> Read:
    from tocsin_training.benchmark import ACLED_TYPES, NOT_EVENTS

    text, kind = columns.find("text"), columns.find("sub_type")

    def read(cells: dict[str, Any]) -> Draft | Problem:
        snippet, code = cell(cells, text), cell(cells, kind)
        if not snippet:
            return NO_TEXT
        if not code:
            return Draft(snippet, (), uncoded="has no sub_type")
        return Draft(snippet, () if code in NOT_EVENTS else (ACLED_TYPES.get(code, code),))

    return read


LAYOUT = Layout("CASE 2021 task 2", _told_by, _reader, ignores=("separator",))
