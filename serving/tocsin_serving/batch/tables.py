"""Arrow in, Arrow out: label a table in this process, for pandas, Polars, DuckDB and Spark alike.

>>> import pyarrow as pa
>>> table = score_table(pa.table({"text": ["Rebels shelled the town.", None]}))
>>> table.column("label").to_pylist(), table.column("reject_reason").to_pylist()
(['shelling_artillery_missile_attack', None], [None, 'text is null'])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tocsin import EventClassifier, UsageError
from tocsin_serving.batch.arrow_text import good_texts, is_text, texts_of, value_problem
from tocsin_serving.batch.chunks import CHUNK_ROWS, Chunk, Columns
from tocsin_serving.batch.columns import Shape, extended
from tocsin_serving.batch.scoring import ChunkScorer

REJECT_REASON = pa.field("reject_reason", pa.string())


def score_table(
    data: Any,  # noqa: ANN401  a data frame of any library
    *,
    text_column: str = "text",
    scores: bool = False,
    prefix: str = "",
    release: str | Path | None = None,
    classifier: EventClassifier | None = None,
) -> Any:  # noqa: ANN401  a pyarrow.Table or a pyarrow.RecordBatchReader
    """Label the texts of a table: the same columns as `tocsin score` adds, and the reason where a row has no answer.

    Rows, their order and their columns stay. A row whose text is null, empty, too long or no UTF-8 keeps its place: the
    added columns are null in it and ``reject_reason`` says why, so that results can be joined to their source by
    position.

    :param data: a pyarrow Table or RecordBatch, or a data frame that speaks Arrow's PyCapsule interface (pandas,
        Polars, a DuckDB relation), which gives a Table; a RecordBatchReader or an iterable of RecordBatches gives a
        RecordBatchReader, which scores a batch when it is asked for one and holds no more than that in memory.
    :param text_column: column that holds the text.
    :param scores: add the map of every label's probability.
    :param prefix: what to put before the names of the columns that are added, where the table has such names itself.
    :param release: as in `EventClassifier.load`.
    :param classifier: one that is loaded already, instead of `release`.
    :return: a pyarrow Table or RecordBatchReader.
    :raises UsageError: the text column is not there or holds no text, or a column has a name that scoring adds.
    :raises ReleaseError: the release cannot be used.
    """
    if classifier is not None and release is not None:
        raise UsageError("Give a release or a classifier, not both.")
    batches = _batches(data)
    scorer = _TableScorer(
        classifier or _loaded(release), batches.schema, text_column, Shape(scores=scores, prefix=prefix)
    )
    answers = pa.RecordBatchReader.from_batches(scorer.schema, map(scorer, _pieces(batches)))
    return answers if _is_stream(data) else answers.read_all()


class _TableScorer:
    """Adds the columns to record batches of one schema."""

    def __init__(self, classifier: EventClassifier, schema: pa.Schema, text_column: str, shape: Shape) -> None:
        added = shape.schema.append(REJECT_REASON.with_name(shape.prefix + REJECT_REASON.name))
        Columns(text_column, added).check(schema.names, "the table")
        self._text = schema.names.index(text_column)
        if not is_text(schema.field(self._text).type):
            raise UsageError(f"Column '{text_column}' of the table holds {schema.field(self._text).type}, not text.")
        self.schema = extended(schema, added)
        self._score = ChunkScorer(classifier, shape)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the columns added."""
        values = texts_of(batch.column(self._text))
        problems = [value_problem(value) for value in values]
        good = np.array([problem is None for problem in problems], dtype=np.bool_)
        texts = good_texts(values, problems)
        answers = self._score(Chunk(None, texts, np.flatnonzero(good) + 1, [], len(values))).columns
        # Each row's position among the answers; null, which takes nulls, for rows without one.
        places = pa.array(np.cumsum(good) - 1, mask=~good)
        columns = [column.take(places).combine_chunks() for column in answers.columns]
        return pa.RecordBatch.from_arrays(
            [*batch.columns, *columns, pa.array(problems, REJECT_REASON.type)], schema=self.schema
        )


@cache
def _loaded(release: str | Path | None) -> EventClassifier:
    """A classifier that stays for the next call: callers score many small tables, Spark and DuckDB above all."""
    return EventClassifier.load(release)


def _is_stream(data: object) -> bool:
    """Whether batches come one by one; a table and a data frame are there as a whole."""
    return isinstance(data, pa.RecordBatchReader) or (not hasattr(data, "__arrow_c_stream__") and not _is_batch(data))


def _is_batch(data: object) -> bool:
    return isinstance(data, pa.RecordBatch) or hasattr(data, "__arrow_c_array__")


def _batches(data: Any) -> pa.RecordBatchReader:  # noqa: ANN401  a data frame of any library
    if isinstance(data, pa.RecordBatchReader):
        return data
    if _is_batch(data) or hasattr(data, "__arrow_c_stream__"):
        return pa.table(data).to_reader()
    batches = iter(data) if isinstance(data, Iterable) and not isinstance(data, str | bytes | dict) else iter(())
    first = next(batches, None)
    if not isinstance(first, pa.RecordBatch):
        raise UsageError(
            f"Cannot score {type(data).__name__}: give an Arrow table, a data frame, a RecordBatchReader or "
            "at least one RecordBatch."
        )
    return pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))


def _pieces(batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Batches of the size a job scores at once, so that equal texts get equal answers and memory stays small."""
    for batch in batches:
        for begin in range(0, batch.num_rows, CHUNK_ROWS):
            yield batch.slice(begin, CHUNK_ROWS)
