"""Exports of Label Studio: JSON (tasks with their annotations) and JSON-MIN (https://labelstud.io/guide/export).

Of several annotators the labels that more than half gave are taken, no event like any other; where they agree on none,
the task is left out. JSON-MIN and CSV have a row for each annotation: those of a task are put together first, and count
as one row, as a task of JSON does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tocsin_training.importing.label_cells import names_in
from tocsin_training.importing.layouts import DISAGREE, NO_TEXT, NOT_CODED, Columns, Draft, Layout, Read, Rows, cell
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import BadRow, Problem, Row, as_text, is_objects

_CHOICES = ("choices", "taxonomy")
_TOGETHER = "\0annotations"
# What JSON-MIN puts beside the data and the answers.
_ITS_OWN = frozenset({"annotation_id", "annotator", "created_at", "updated_at", "lead_time", "id", "inner_id"})


def _told_by(columns: Columns) -> bool:
    return _is_full(columns) or {"annotation_id", "annotator", "lead_time"} <= columns.folded


def _is_full(columns: Columns) -> bool:
    """Whether rows are tasks with their annotations. In other tables, columns of these names may hold anything."""
    return "data" in columns.folded and columns.find("annotations") in columns.of_objects


def _gather(rows: Rows, columns: Columns, options: ImportOptions) -> Rows:
    """One row for each task; its annotations are in ``_TOGETHER``. What people annotated by hand fits into memory."""
    if _is_full(columns):
        yield from rows
        return
    tasks: dict[tuple[str, str] | int, Row] = {}
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        task = as_text(row.cells.get("id"))
        # The text too: exports of several projects, put into one file, number their tasks alike.
        key: tuple[str, str] | int = (task, _text(row.cells, options)) if task else row.line
        first = tasks.setdefault(key, Row(row.line, {**row.cells, _TOGETHER: []}))
        first.cells[_TOGETHER].append(row.cells)
    yield from tasks.values()


def _reader(columns: Columns, options: ImportOptions) -> Read:
    no_event = frozenset(name.casefold() for name in options.no_event)
    full = _is_full(columns)

    def read(cells: dict[str, Any]) -> Draft | Problem:
        text = _text(cells["data"] if full and isinstance(cells.get("data"), dict) else cells, options)
        if not text:
            return NO_TEXT
        if full and not is_objects(cells.get("annotations")):
            return Problem("annotations", "its annotations are no list of objects")
        given = _annotations(cells, options) if full else _minimal(cells[_TOGETHER], text, options)
        answers = [_vote(names, no_event) for names in given]
        if not answers:
            return Problem(NOT_CODED, "has no annotation")
        votes = Counter(name for names in answers for name in names)
        agreed = tuple(name for name, count in votes.items() if 2 * count > len(answers))
        if not agreed:
            named = ", ".join(sorted(name or "no event" for name in votes))
            return Problem(DISAGREE, f"{len(answers)} annotators agree on none of: {named}")
        return Draft(text, tuple(sorted(filter(None, agreed))))

    return read


def _vote(names: list[str], no_event: frozenset[str]) -> set[str]:
    """What an annotator voted for: labels, or no event, which is the empty name."""
    return {name for name in names if name.casefold() not in no_event} or {""}


def _text(data: dict[str, Any], options: ImportOptions) -> str:
    """The column that was named, the field called text, or the longest that is one."""
    if options.text_column:
        return cell(data, options.text_column)
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


def _minimal(rows: list[dict[str, Any]], text: str, options: ImportOptions) -> Iterator[list[str]]:
    """The same from a task's rows; an answer is a string, or {"choices": [...]} where there are several."""
    for cells in rows:
        fields = options.label_column or tuple(
            key
            for key, value in cells.items()
            if key not in (*_ITS_OWN, "text") and _is_answer(value) and as_text(value) != text
        )
        names = [name for field in fields if cells.get(field) for name in names_in(cells[field], "\0")]
        # An annotation without a choice is a vote for no event; a row without either is a task nobody has annotated.
        if names or as_text(cells.get("annotation_id")):
            yield names


def _is_answer(value: Any) -> bool:  # noqa: ANN401  JSON
    return isinstance(value, str) or (isinstance(value, dict) and "choices" in value)


LAYOUT = Layout("Label Studio", _told_by, _reader, _gather)
