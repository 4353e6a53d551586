"""UCDP's Georeferenced Event Dataset: a headline for each event, and who fought whom.

Its three types (https://ucdp.uu.se/downloads, GED codebook) say who took part and not what was done: an airstrike, an
ambush and a mine are all "state-based". None of them is soundly one of ACLED's sub-event types, so they are taken under
UCDP's own names, for a taxonomy that has these, or for a `--names` file in which a user decides.
"""

from __future__ import annotations

from typing import Any

from tocsin_training.importing.layouts import NO_TEXT, Columns, Draft, Layout, Read, cell
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import Problem

TYPES = {"1": "State-based conflict", "2": "Non-state conflict", "3": "One-sided violence"}


def _told_by(columns: Columns) -> bool:
    return {"type_of_violence", "source_headline"} <= columns.folded


def _reader(columns: Columns, options: ImportOptions) -> Read:
    headline = columns.need(options.text_column or "source_headline", "--text-column")
    kind = columns.find("type_of_violence")

    def read(cells: dict[str, Any]) -> Draft | Problem:
        text, code = cell(cells, headline), cell(cells, kind).removesuffix(".0")
        if not text:
            return NO_TEXT
        if not code:
            return Draft(text, (), uncoded="has no type_of_violence")
        return Draft(text, (TYPES.get(code, f"type of violence {code}"),))

    return read


LAYOUT = Layout("UCDP GED", _told_by, _reader, dates=("date_start",), ignores=("separator",))
