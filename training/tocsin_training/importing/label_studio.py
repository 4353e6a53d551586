"""Exports of Label Studio: JSON (tasks with their annotations) and JSON-MIN (https://labelstud.io/guide/export).

Of several annotators the labels that more than half gave are taken; where they agree on none, the task is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tocsin_training.importing.label_cells import names_in
from tocsin_training.importing.layouts import NO_TEXT, NOT_CODED, Columns, Draft, Layout, Read, cell
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import Problem, as_text

DISAGREE = "annotators disagree"
_CHOICES = ("choices", "taxonomy")
# What JSON-MIN puts beside the data and the answers.
_ITS_OWN = frozenset({"annotation_id", "annotator", "created_at", "updated_at", "lead_time", "id", "inner_id"})


def _told_by(columns: frozenset[str]) -> bool:
    return {"data", "annotations"} <= columns or {"annotation_id", "annotator", "lead_time"} <= columns


def _reader(columns: Columns, options: ImportOptions) -> Read:
    no_event = frozenset(name.casefold() for name in options.no_event)
    full = columns.find("annotations") is not None

    def read(cells: dict[str, Any]) -> Draft | Problem:
        data = cells["data"] if full and isinstance(cells.get("data"), dict) else cells
        text = cell(data, options.text_column) if options.text_column else _only_text(data)
        if not text:
            return NO_TEXT
        answers = list(_annotations(cells, options)) if full else list(_minimal(cells, options))
        if not answers:
            return Problem(NOT_CODED, "has no annotation")
        votes = Counter(name for names in answers for name in set(names))
        agreed = tuple(name for name, count in votes.items() if 2 * count > len(answers))
        if votes and not agreed:
            return Problem(DISAGREE, f"{len(answers)} annotators agree on none of: {', '.join(sorted(votes))}")
        return Draft(text, tuple(name for name in agreed if name.casefold() not in no_event))

    return read


def _only_text(data: dict[str, Any]) -> str:
    """The field called text, or the longest that is one."""
    texts = [value for key, value in data.items() if isinstance(value, str) and key not in _ITS_OWN]
    return as_text(data.get("text")) or max(texts, key=len, default="").strip()


def _annotations(task: dict[str, Any], options: ImportOptions) -> Iterator[list[str]]:
    """The names that each annotator gave."""
    for annotation in task.get("annotations") or ():
        if annotation.get("was_cancelled"):
            continue
        found = [
            item["value"].get(item["type"])
            for item in annotation.get("result") or ()
            if item.get("type") in _CHOICES
            and (not options.label_column or item.get("from_name") in options.label_column)
        ]
        yield [name for value in found for name in names_in(value, "\0")]


def _minimal(cells: dict[str, Any], options: ImportOptions) -> Iterator[list[str]]:
    """JSON-MIN has a row for each annotation; an answer is a string, or {"choices": [...]} where there are several."""
    fields = options.label_column or tuple(
        key
        for key, value in cells.items()
        if key not in _ITS_OWN and key not in ("text", options.text_column) and (_is_answer(value))
    )
    values = [cells[field] for field in fields if cells.get(field)]
    if values:
        yield [name for value in values for name in names_in(value, "\0")]


def _is_answer(value: Any) -> bool:  # noqa: ANN401  JSON
    return isinstance(value, str) or (isinstance(value, dict) and "choices" in value)


LAYOUT = Layout("Label Studio", _told_by, _reader)
