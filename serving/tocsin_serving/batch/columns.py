"""The columns a job adds, built from arrays of scores without a Python object per row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tocsin import Label, Scores, UsageError

_LABEL_COLUMNS = ("label", "name", "sub_event_type", "event_type", "disorder_type")
# Of the first event, beside the list of all: what people filter and count by.
FIRST_EVENT_COLUMNS = ("label", "sub_event_type", "event_type", "disorder_type")

EVENT = pa.struct([*((name, pa.string()) for name in _LABEL_COLUMNS), ("probability", pa.float32())])
SENTENCE_FIELDS = (
    pa.field("document_row", pa.int64()),
    pa.field("sentence_number", pa.int32()),
    pa.field("sentence_start", pa.int32()),
    pa.field("sentence_end", pa.int32()),
    pa.field("sentence", pa.string()),
)
ANSWER_FIELDS = (
    pa.field("events", pa.list_(EVENT)),
    *(pa.field(name, pa.string()) for name in FIRST_EVENT_COLUMNS),
    pa.field("probability", pa.float32()),
    pa.field("no_event_probability", pa.float32()),
    pa.field("needs_review", pa.bool_()),
    pa.field("truncated", pa.bool_()),
    pa.field("language", pa.string()),
    pa.field("model_version", pa.string()),
    pa.field("text_sha256", pa.string()),
)
SCORES_FIELD = pa.field("scores", pa.map_(pa.string(), pa.float32()))
# Where Spark and Avro's readers look for a file's columns before they look at the file's own schema: kept, these
# would hide the columns that were added.
_SCHEMA_KEYS = frozenset({b"org.apache.spark.sql.parquet.row.metadata", b"parquet.avro.schema", b"avro.schema"})


# ACLED's own columns first, in the order of its files; rows and probabilities are ours.
ACLED_FIELDS = (
    SENTENCE_FIELDS[0],
    *(pa.field(name, pa.string()) for name in ("disorder_type", "event_type", "sub_event_type")),
    pa.field("notes", pa.string()),
    pa.field("label", pa.string()),
    *(field for field in ANSWER_FIELDS if field.name in ("probability", "needs_review", "truncated", "language")),
    *(field for field in ANSWER_FIELDS if field.name in ("model_version", "text_sha256")),
)


@dataclass(frozen=True)
class Shape:
    """What an output row stands for and which columns a job adds to it."""

    split_sentences: bool = False
    """A row per sentence instead of one per text."""
    scores: bool = False
    """With the map of every label's probability."""
    acled: bool = False
    """A row per event, under ACLED's column names; a text without event has no row."""
    notes: bool = True
    """With ACLED's `notes`; not when the input's text column goes by that name already."""
    prefix: str = ""
    """What stands before the names of the columns, where the input has such names itself."""

    def __post_init__(self) -> None:
        """:raises UsageError: the prefix would make names that other programs, or a dialect of CSV, do not take."""
        if not re.fullmatch(r"\w*", self.prefix, re.ASCII):
            raise UsageError(f"--prefix takes letters, digits and underscores, such as tocsin_; not {self.prefix!r}")

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns a job adds, in order."""
        return pa.schema([field.with_name(self.prefix + field.name) for field in self.fields])

    @property
    def fields(self) -> pa.Schema:
        """The same under their own names, as they are made."""
        fields = list(SENTENCE_FIELDS if self.split_sentences else ())
        fields += [field for field in self._answer_fields if field not in fields]
        return pa.schema([*fields, *((SCORES_FIELD,) if self.scores else ())])

    @property
    def _answer_fields(self) -> tuple[pa.Field, ...]:
        if not self.acled:
            return ANSWER_FIELDS
        return tuple(field for field in ACLED_FIELDS if self.notes or field.name != "notes")


def extended(schema: pa.Schema, added: Iterable[pa.Field]) -> pa.Schema:
    """A schema with columns added, and its metadata without what lists the columns that there were."""
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key not in _SCHEMA_KEYS}
    return pa.schema([*schema, *added], metadata=metadata or None)


def answer_columns(answers: Scores, texts: Sequence[str], *, scores: bool) -> pa.Table:
    """One row per text with the columns of `ANSWER_FIELDS` and, if asked for, `SCORES_FIELD`."""
    rows, positions, probabilities = _ranked(answers)
    counts = np.bincount(rows, minlength=len(answers))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    events = _events(answers.taxonomy.labels, positions, probabilities)
    # Position of each row's first event; null for rows without one.
    first = pa.array(offsets[:-1], mask=counts == 0)
    columns = {
        "events": pa.ListArray.from_arrays(pa.array(offsets), events),
        **_first_event(events, first),
        "no_event_probability": pa.array(answers.no_event, pa.float32()),
        "needs_review": pa.array(answers.needs_review),
        "truncated": pa.array(answers.truncated),
        "language": pa.array(answers.languages, pa.string()),
        "model_version": pa.array([answers.model_version] * len(answers), pa.string()),
        "text_sha256": pa.array([hashlib.sha256(text.encode()).hexdigest() for text in texts], pa.string()),
    }
    if scores:
        columns["scores"] = _score_map(answers)
    return pa.table(columns, schema=Shape(scores=scores).schema)


def event_rows(columns: pa.Table, texts: Sequence[str], shape: Shape) -> tuple[pa.Table, NDArray[np.intp]]:
    """One row per event instead of one per text, under ACLED's names.

    :param columns: what `answer_columns` gives, with those about sentences or at least `document_row`.
    :param texts: what goes into `notes`.
    :return: the fields of `shape` and for each event the position of its text.
    """
    events = columns.column("events").combine_chunks()
    parents = pc.list_parent_indices(events)
    found = dict(zip(EVENT.names, events.flatten().flatten(), strict=True))
    rows = columns.append_column("notes", pa.array(texts, pa.string())).take(parents)
    taken = [found.get(name, rows.column(name) if name in rows.column_names else None) for name in shape.fields.names]
    return pa.Table.from_arrays(taken, schema=shape.fields), parents.to_numpy().astype(np.intp)


def _ranked(answers: Scores) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Row, label position and probability of every event given, by row and then most probable first."""
    rows, positions = np.nonzero(answers.given)
    probabilities = answers.probabilities[rows, positions]
    order = np.lexsort((-probabilities, rows))
    return rows[order], positions[order], probabilities[order]


def _events(labels: Sequence[Label], positions: NDArray[np.intp], probabilities: NDArray[np.float32]) -> pa.StructArray:
    names = (pa.array([getattr(label, name) for label in labels], pa.string()) for name in _LABEL_COLUMNS)
    taken = [column.take(pa.array(positions)) for column in names]
    return pa.StructArray.from_arrays([*taken, pa.array(probabilities, pa.float32())], fields=list(EVENT))


def _first_event(events: pa.StructArray, first: pa.Array) -> dict[str, pa.Array]:
    return {name: events.field(name).take(first) for name in (*FIRST_EVENT_COLUMNS, "probability")}


def _score_map(answers: Scores) -> pa.MapArray:
    texts, labels = answers.probabilities.shape
    names = pa.array(answers.taxonomy.names, pa.string())
    return pa.MapArray.from_arrays(
        pa.array(np.arange(texts + 1, dtype=np.int32) * labels),
        names.take(pa.array(np.tile(np.arange(labels), texts))),
        pa.array(answers.probabilities.ravel(), pa.float32()),
    )
