"""Parquet in and out, types and schema metadata kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tocsin import InputError, UsageError
from tocsin_serving.batch.arrow_text import is_text, texts_of, value_problem
from tocsin_serving.batch.chunks import CHUNK_ROWS, Answers, Chunk, Columns, Reject, closed_on_error

# Row groups of chunk size would make files slow to read.
_ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 64 * 1024 * 1024


class ParquetReader:
    """Reads a Parquet file."""

    def __init__(self, path: Path, columns: Columns) -> None:
        try:
            self._file = pq.ParquetFile(path)
        except pa.ArrowException as error:
            raise InputError(f"{path} cannot be read as Parquet: {error}") from error
        self._path = path
        self._text = columns.text
        self.schema: pa.Schema = self._file.schema_arrow
        self._rows = self._file.metadata.num_rows
        self._read = 0
        with closed_on_error(self):
            columns.check(self.schema.names, path)
            kind = self.schema.field(self._text).type
            if not is_text(kind):
                raise UsageError(f"Column '{self._text}' of {path} holds {kind}, not text.")

    def chunks(self) -> Iterator[Chunk]:
        """All rows in order."""
        try:
            for batch in self._file.iter_batches(batch_size=CHUNK_ROWS):
                yield self._chunk(pa.Table.from_batches([batch]), self._read)
                self._read += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self._path}, after row {self._read}: {error}") from error

    def progress(self) -> float:
        """Share of the rows read so far."""
        return self._read / self._rows if self._rows else 1.0

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

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
    """Writes the rows read with columns added."""

    def __init__(self, file: BinaryIO, reader: ParquetReader, added: pa.Schema) -> None:
        schema = pa.schema([*reader.schema, *added], metadata=reader.schema.metadata)
        self._writer = pq.ParquetWriter(file, schema, compression="zstd")
        self._schema = schema
        self._buffer: list[pa.Table] = []

    def write(self, rows: pa.Table, answers: Answers) -> None:
        """Add output rows."""
        table = rows.take(pa.array(answers.parents))
        columns = [*table.columns, *answers.columns.columns]
        self._buffer.append(pa.Table.from_arrays(columns, schema=self._schema))
        buffered = sum(table.num_rows for table in self._buffer)
        if buffered >= _ROW_GROUP_ROWS or sum(table.nbytes for table in self._buffer) >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is buffered and the footer; the file stays open."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._buffer:
            self._writer.write_table(pa.concat_tables(self._buffer))
            self._buffer.clear()


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
