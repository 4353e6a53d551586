"""Exports of Label Studio: JSON (tasks with their annotations) and JSON-MIN (https://labelstud.io/guide/export).

Of several annotators the labels that more than half gave are taken, no event like any other; where they agree on none,
the task is left out. JSON-MIN and CSV have a row for each annotation: those of a task are put together first, and count
as one row, as a task of JSON does. In both, the fields of a task's data are columns, and so are the names of choices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from tocsin_training.importing.label_cells import names_in
from tocsin_training.importing.layouts import DISAGREE, NO_TEXT, NOT_CODED, Columns, Draft, Layout, Read, cell
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import BadRow, Problem, Row, Table, as_text, is_objects

_CHOICES = ("choices", "taxonomy")
_TEXT, _ANNOTATIONS = "\0text", "\0annotations"
# What JSON-MIN puts beside the data and the answers.
_ITS_OWN = frozenset({"annotation_id", "annotator", "created_at", "updated_at", "lead_time", "id", "inner_id"})
_NO_ANSWERS = _ITS_OWN | {"text"}


class _Annotation(NamedTuple):
    """What one annotator said of a task."""

    choices: list[tuple[str, Any]]
    """Name of the choice and what was chosen. Of JSON-MIN other fields with text are among them: it tells them not."""
    done: bool = True
    """Without it, a row of a task that nobody may have annotated."""


def _told_by(columns: Columns) -> bool:
    return _is_full(columns) or {"annotation_id", "annotator", "lead_time"} <= columns.folded


def _is_full(columns: Columns) -> bool:
    """Whether rows are tasks with their annotations. In other tables, columns of these names may hold anything."""
    return "data" in columns.folded and columns.find("annotations") in columns.of_objects


def _gather(table: Table, options: ImportOptions) -> Table:
    """One row for each task, its annotations in ``_ANNOTATIONS``. What people annotated by hand fits into memory."""
    columns = Columns(table)
    rows = list(_tasks(table) if _is_full(columns) else _put_together(table, columns.find(options.text_column or "")))
    names = dict.fromkeys(name for row in rows if isinstance(row, Row) for name in (*row.cells, *_chosen(row)))
    visible = tuple(name for name in names if name not in (_TEXT, _ANNOTATIONS))
    return replace(table, columns=visible, rows=iter(rows), of_objects=frozenset())


def _chosen(row: Row) -> Iterator[str]:
    """The names of a task's choices."""
    return (name for annotation in row.cells[_ANNOTATIONS] or () for name, _ in annotation.choices)


def _tasks(table: Table) -> Iterator[Row | BadRow]:
    """The tasks of JSON; the fields of their data come before the tasks' own."""
    for row in table.rows:
        if isinstance(row, Row):
            data = found if isinstance(found := row.cells.get("data"), dict) else {}
            given = row.cells.get("annotations")
            said = {_TEXT: _text(data), _ANNOTATIONS: list(_annotations(given)) if is_objects(given) else None}
            row = Row(row.line, row.cells | data | said)
        yield row


def _annotations(given: list[dict[str, Any]] | None) -> Iterator[_Annotation]:
    for annotation in given or ():
        if not annotation.get("was_cancelled"):
            found = (item for item in annotation.get("result") or () if item.get("type") in _CHOICES)
            yield _Annotation([(item.get("from_name") or "", item["value"].get(item["type"])) for item in found])


def _put_together(table: Table, text_column: str | None) -> Iterator[Row | BadRow]:
    """The tasks of JSON-MIN; an answer is a string, or {"choices": [...]} where there are several."""
    tasks: dict[tuple[str, str] | int, Row] = {}
    for row in table.rows:
        if isinstance(row, BadRow):
            yield row
            continue
        task, text = as_text(row.cells.get("id")), _text(row.cells)
        # The text too: exports of several projects, put into one file, number their tasks alike.
        key: tuple[str, str] | int = (task, cell(row.cells, text_column) or text) if task else row.line
        first = tasks.setdefault(key, Row(row.line, row.cells | {_TEXT: text, _ANNOTATIONS: []}))
        choices = [(key, value) for key, value in row.cells.items() if key not in _NO_ANSWERS and _is_answer(value)]
        first.cells[_ANNOTATIONS].append(_Annotation(choices, done=bool(as_text(row.cells.get("annotation_id")))))
    yield from tasks.values()


def _is_answer(value: Any) -> bool:  # noqa: ANN401  JSON
    return isinstance(value, str) or (isinstance(value, dict) and "choices" in value)


def _text(data: dict[str, Any]) -> str:
    """The field called text, or the longest that is one."""
    texts = [value for key, value in data.items() if isinstance(value, str) and key not in _ITS_OWN]
    return as_text(data.get("text")) or as_text(max(texts, key=len, default=""))


def _reader(columns: Columns, options: ImportOptions) -> Read:
    no_event = frozenset(name.casefold() for name in options.no_event)
    text_column = _TEXT if options.text_column is None else columns.need(options.text_column, "--text-column")
    labels = frozenset(columns.need(name, "--label-column") for name in options.label_column)

    def read(cells: dict[str, Any]) -> Draft | Problem:
        if not (text := cell(cells, text_column)):
            return NO_TEXT
        if cells[_ANNOTATIONS] is None:
            return Problem("annotations", "its annotations are no list of objects")
        answers = []
        for annotation in cells[_ANNOTATIONS]:
            names = _names(annotation, labels, text)
            if names or (annotation.done and (options.empty == "no-event" or not _chose_another(annotation, labels))):
                answers.append(_vote(names, no_event))
        if not answers:
            return Problem(NOT_CODED, "has no annotation")
        votes = Counter(name for names in answers for name in names)
        agreed = tuple(name for name, count in votes.items() if 2 * count > len(answers))
        if not agreed:
            named = ", ".join(sorted(name or "no event" for name in votes))
            return Problem(DISAGREE, f"{len(answers)} annotators agree on none of: {named}")
        return Draft(text, tuple(sorted(filter(None, agreed))))

    return read


def _names(annotation: _Annotation, labels: frozenset[str], text: str) -> list[str]:
    """The labels that an annotator chose, in the choices that the user named or else in all."""
    taken = (value for name, value in annotation.choices if (name in labels if labels else as_text(value) != text))
    return [name for value in taken for name in names_in(value, "\0")]


def _chose_another(annotation: _Annotation, labels: frozenset[str]) -> bool:
    """Whether an annotator chose something and nothing of what the user named: that does not say no event."""
    return bool(labels) and any(name not in labels and not isinstance(value, str) for name, value in annotation.choices)


def _vote(names: list[str], no_event: frozenset[str]) -> set[str]:
    """What an annotator voted for: labels, or no event, which is the empty name."""
    return {name for name in names if name.casefold() not in no_event} or {""}


LAYOUT = Layout("Label Studio", _told_by, _reader, gather=_gather, ignores=("separator",))
