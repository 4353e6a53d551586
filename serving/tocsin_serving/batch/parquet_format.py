"""Parquet in and out, types and schema metadata kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tocsin import InputError, UsageError
from tocsin_serving.batch.arrow_text import is_text, texts_of, value_problem
from tocsin_serving.batch.chunks import CHUNK_ROWS, Answers, Chunk, Columns, Reject
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
            # Pages, not whole row groups: some files have a single one.
            self._file = pq.ParquetFile(source.stream, buffer_size=_BUFFER_BYTES)
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
        """All rows in order."""
        for batch in self._file.iter_batches(batch_size=CHUNK_ROWS):
            before, self._read = self._read, self._read + batch.num_rows
            yield self._chunk(pa.Table.from_batches([batch]), before)

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
        kept = [text for text in texts if isinstance(text, str) and text.strip()]
        rows = table if good.all() else table.filter(pa.array(good))
        return Chunk(rows, kept, np.flatnonzero(good) + before + 1, rejects, table.num_rows)


class ParquetWriter:
    """Turns chunks into Arrow streams, and those at the end into one Parquet file.

    A Parquet file cannot be taken up again once its writer is gone, streams laid one after the other can.
    """

    def __init__(self, reader: ParquetReader, added: pa.Schema) -> None:
        self._schema = pa.schema([*reader.schema, *added], metadata=reader.schema.metadata)

    def header(self) -> bytes:
        """Each stream brings its own schema."""
        return b""

    def encode(self, rows: pa.Table, answers: Answers) -> bytes:
        """A chunk as a stream of its own."""
        table = rows.take(pa.array(answers.parents))
        columns = [*table.columns, *answers.columns.columns]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
            stream.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        return bytes(sink.getvalue())

    def assemble(self, spooled: Path, target: Path) -> None:
        """One Parquet file from the streams of a file."""
        with pq.ParquetWriter(target, self._schema, compression="zstd") as writer:
            for group in _row_groups(_streams(spooled)):
                writer.write_table(group)


def _streams(path: Path) -> Iterator[pa.Table]:
    with pa.OSFile(str(path)) as file:
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
    cells = {name: _cell(row.column(name)) for name in row.column_names}
    text = json.dumps(cells, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text


def _cell(column: pa.ChunkedArray) -> object:
    try:
        return column.to_pylist()[0]
    except UnicodeDecodeError:
        if not is_text(column.type):
            return f"unreadable {column.type}"
    raw: bytes = pc.cast(pc.cast(column, pa.large_string()), pa.large_binary()).to_pylist()[0]
    return raw.decode("utf-8", "surrogateescape")
