"""Parquet in and out, types and schema metadata kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tocsin import InputError, TocsinError, UsageError
from tocsin_serving.batch.arrow_text import NO_PYTHON_VALUE, good_texts, is_text, texts_of, value_problem
from tocsin_serving.batch.chunks import CHUNK_BYTES, CHUNK_ROWS, PIECE_BYTES, Answers, Chunk, Columns, Reject
from tocsin_serving.batch.columns import extended
from tocsin_serving.batch.files import Input

# Row groups of chunk size would make files slow to read.
_ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 64 * 1024 * 1024
_BUFFER_BYTES = 1024 * 1024


class ParquetReader:
    """Reads a Parquet file."""

    def __init__(self, source: Input, columns: Columns) -> None:
        self._source = source
        try:
            self._file = open_parquet(source.stream)
        except pa.ArrowException as error:
            raise InputError(f"{source.name} cannot be read as Parquet: {error}") from error
        self._text = columns.text
        self.schema: pa.Schema = self._file.schema_arrow
        self._rows = self._file.metadata.num_rows
        self._read = 0
        columns.check(self.schema.names, source.name)
        kind = self.schema.field(self._text).type
        if not is_text(kind):
            raise UsageError(f"Column '{self._text}' of {source.name} holds {kind}, not text.")

    def chunks(self) -> Iterator[Chunk]:
        """All rows in order.

        :raises InputError: they are not as many as the file says.
        """
        for batch in self._file.iter_batches(batch_size=self._rows_at_once()):
            for rows in _cut(pa.Table.from_batches([batch])):
                before, self._read = self._read, self._read + rows.num_rows
                yield self._chunk(rows, before)
        if self._read != self._rows:
            raise InputError(f"{self._source.name} holds {self._read:,} rows, and says that it has {self._rows:,}")

    def _rows_at_once(self) -> int:
        """Rows to decode together: few where the file's metadata tells of long ones."""
        metadata = self._file.metadata
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        longest = max((group.total_byte_size // group.num_rows for group in groups if group.num_rows), default=0)
        return max(1, min(CHUNK_ROWS, PIECE_BYTES // max(1, longest)))

    def progress(self) -> float:
        """Share of the rows read so far."""
        return self._read / self._rows if self._rows else 1.0

    def _chunk(self, table: pa.Table, before: int) -> Chunk:
        texts = texts_of(table.column(self._text))
        problems = [value_problem(text) for text in texts]
        good = np.array([problem is None for problem in problems], dtype=np.bool_)
        rejects = [
            Reject(before + index + 1, problem, _as_json(table.slice(index, 1)))
            for index, problem in enumerate(problems)
            if problem is not None
        ]
        kept = good_texts(texts, problems)
        rows = table if good.all() else table.filter(pa.array(good))
        return Chunk(rows, kept, np.flatnonzero(good) + before + 1, rejects, table.num_rows)


def open_parquet(file: BinaryIO) -> pq.ParquetFile:
    """A Parquet file that is read a page at a time, and in which every time is what its writer meant.

    Pages, not whole row groups: some files have a single one. Arrow's own reading ahead keeps the bytes of every row
    group that it has read until the file is closed, so that memory would grow with the file.

    The old type INT96, which Spark and Hive still write, holds days of any year. Left alone, Arrow reads it as
    nanoseconds in 64 bits, which reach from 1677 to 2262, and turns other days into some day in between.
    """
    return pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False, coerce_int96_timestamp_unit="us")


class ParquetWriter:
    """Turns chunks into Arrow streams, and those at the end into one Parquet file.

    A Parquet file cannot be taken up again once its writer is gone, streams laid one after the other can.
    """

    def __init__(self, reader: ParquetReader, added: pa.Schema) -> None:
        self._schema = extended(reader.schema, added)

    def header(self) -> bytes:
        """Each stream brings its own schema."""
        return b""

    def encode(self, rows: pa.Table, answers: Answers) -> Iterator[bytes]:
        """A chunk as streams of its own, mostly a single one."""
        for begin, end in _pieces(rows, answers.parents):
            taken = rows.take(pa.array(answers.parents[begin:end]))
            yield self._stream([*taken.columns, *answers.columns.slice(begin, end - begin).columns])

    def _stream(self, columns: list[pa.ChunkedArray]) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
            stream.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        return bytes(sink.getvalue())

    def assemble(self, spooled: Path, target: Path, rows: int) -> None:
        """One Parquet file from the streams of a file.

        :param rows: that it is to have.
        :raises TocsinError: it has others.
        """
        # Arrow takes no names that are not UTF-8.
        with target.open("wb") as file, pq.ParquetWriter(file, self._schema, compression="zstd") as writer:
            for group in _row_groups(_streams(spooled)):
                writer.write_table(group)
        with target.open("rb") as made:
            written = pq.read_metadata(made).num_rows
        if written != rows:
            raise TocsinError(f"{written:,} of {rows:,} rows were written, so there is no output. Please report this.")


def _cut(table: pa.Table) -> Iterator[pa.Table]:
    """Consecutive parts of about `CHUNK_BYTES`, or of a single longer row."""
    if table.nbytes <= CHUNK_BYTES:
        yield table
        return
    for begin, end in _spans(_row_bytes(table), CHUNK_BYTES):
        yield table.slice(begin, end - begin)


def _pieces(rows: pa.Table, parents: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Begin and end of output rows that are made at once, given the row that each repeats."""
    most = int(np.bincount(parents, minlength=1).max())
    # Weighing each row costs time, and without --split-sentences a chunk is small anyway.
    if rows.nbytes * most <= PIECE_BYTES:
        return iter([(0, len(parents))])
    return _spans(_row_bytes(rows)[parents], PIECE_BYTES)


def _row_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Bytes that each row takes by itself: a dictionary is shared by all."""
    shared = table.slice(0, 0).nbytes
    return np.array([table.slice(row, 1).nbytes - shared for row in range(table.num_rows)], dtype=np.int64)


def _spans(sizes: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Begin and end of parts of consecutive rows, each at most a row above the limit; no rows are one part."""
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // limit)) + 1
    return zip([0, *cuts.tolist()], [*cuts.tolist(), len(sizes)], strict=True)


def _streams(path: Path) -> Iterator[pa.Table]:
    with pa.OSFile(os.fsencode(path)) as file:
        while file.tell() < file.size():
            with pa.ipc.open_stream(file) as stream:
                yield stream.read_all()


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    group: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        group.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
        if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
            yield pa.concat_tables(group)
            group, rows, size = [], 0, 0
    if rows:
        yield pa.concat_tables(group)


def _as_json(row: pa.Table) -> str | bytes:
    """A row as JSON; as bytes when it holds text that is no UTF-8, which stays as it is."""
    # Not by way of a dictionary: several columns may have one name.
    cells = (
        f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(_cell(column), ensure_ascii=False, default=str)}"
        for name, column in zip(row.column_names, row.columns, strict=True)
    )
    text = f"{{{', '.join(cells)}}}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text


def _cell(column: pa.ChunkedArray) -> object:
    kind = _with_times_as_text(column.type)
    try:
        # Cast only for times: not every type can be.
        return (column if kind == column.type else pc.cast(column, kind)).to_pylist()[0]
    except NO_PYTHON_VALUE:
        return _as_text(column)


def _with_times_as_text(kind: pa.DataType) -> pa.DataType:
    """A type with text in place of times, dates and durations: what Python makes of them takes pandas, or does not.

    Arrow writes times and dates in ISO 8601 and a duration as the count of its unit.
    """
    types, inner = pa.types, _with_times_as_text
    if types.is_temporal(kind) and not types.is_interval(kind):
        return pa.string()
    if types.is_dictionary(kind):
        return kind if inner(kind.value_type) == kind.value_type else inner(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([field.with_type(inner(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(*(field.with_type(inner(field.type)) for field in (kind.key_field, kind.item_field)))
    if types.is_list(kind) or types.is_large_list(kind):
        return (pa.list_ if types.is_list(kind) else pa.large_list)(kind.value_field.with_type(inner(kind.value_type)))
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(inner(kind.value_type)), kind.list_size)
    return kind


def _as_text(column: pa.ChunkedArray) -> str:
    """A value that Python has no type for, as Arrow writes it."""
    try:
        (raw,) = pc.cast(pc.cast(column, pa.large_string()), pa.large_binary()).to_pylist()
    except pa.ArrowException:
        return f"unreadable {column.type}"
    return str(raw, "utf-8", "surrogateescape")
