"""CSV in and out, every input cell kept as the text it was.

Python's reader rather than Arrow's: it takes quoted line breaks of any length, tells exactly which row is at fault and
never interprets a cell. At about a million rows a second it is no bottleneck beside a classifier.
"""

from __future__ import annotations

import csv
import io
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tocsin import InputError
from tocsin_serving.batch.chunks import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Answers,
    Chunk,
    Columns,
    Reject,
    in_pieces,
    text_problem,
)
from tocsin_serving.batch.files import Input

_DELIMITERS = ",;\t|"
MAX_CELL = 64 * 1024 * 1024
"""Characters in a cell: a quote that is never closed would otherwise read any file into memory."""


class CsvRecords:
    """The records of a CSV file with a header.

    :param column: one that should be there; it tells the delimiter.
    :raises InputError: the file cannot be read as CSV in UTF-8.
    """

    def __init__(self, source: Input, column: str) -> None:
        csv.field_size_limit(MAX_CELL)
        self._source = source
        self.has_bom = source.start().startswith(BOM_UTF8)
        # surrogateescape carries undecodable bytes as far as the rejects file.
        self._file = source.text("utf-8-sig", errors="surrogateescape")
        first_line = self._next_line()
        self.delimiter = delimiter_of(first_line, column)
        self._records = self._checked(first_line)
        self.header = next(self._records, _NO_RECORD).cells
        if not _is_utf8(self.header):
            raise InputError(f"{source.name} is not UTF-8; save it as UTF-8")

    def __iter__(self) -> Iterator[CsvRecord]:
        """All rows in order; blank lines are no rows."""
        return (record for record in self._records if record.cells)

    def problem(self, record: CsvRecord) -> str | None:
        """Why a row is not what its writer meant, or none."""
        if not _is_utf8(record.cells):
            return "not valid UTF-8"
        if record.ran_together(self.delimiter):
            return (
                f"a quote opened in {record.place} closes in the middle of a cell: rows may have run together; "
                "close the quote in its own row, and double quotes that belong to a text"
            )
        if len(record.cells) != len(self.header):
            where = f" in {record.place}" if len(record.lines) > 1 else ""
            return f"has {len(record.cells)} cells{where}, the header has {len(self.header)}"
        return None

    def _next_line(self) -> str:
        line = self._file.readline(MAX_CELL)
        if len(line) == MAX_CELL:
            raise InputError(f"{self._source.name} is not CSV: it has a line of more than {MAX_CELL:,} characters")
        return line

    def _checked(self, first_line: str) -> Iterator[CsvRecord]:
        """Records with the lines they were made of.

        :raises InputError: a quote is never closed.
        """
        lines: list[str] = []
        ended = False

        def taken() -> Iterator[str]:
            nonlocal ended
            line = first_line
            while line:
                lines.append(line)
                yield line
                line = self._next_line()
            ended = True

        # Not strict: that would also refuse text between a closing quote and the next delimiter.
        rows = csv.reader(taken(), delimiter=self.delimiter)
        before = 0
        try:
            for cells in rows:
                # Only inside quotes does the reader ask for another line before it hands out a row.
                if ended:
                    opened = rows.line_num - max(_count_lines(cells[-1]), 1) + 1
                    raise InputError(
                        f"{self._source.name}: the quote opened in line {opened} is never closed; "
                        "close it or, if it belongs to the text, put the cell in quotes and double those inside"
                    )
                yield CsvRecord(cells, tuple(lines), before + 1)
                before = rows.line_num
                lines.clear()
        except csv.Error as error:
            raise InputError(
                f"{self._source.name}: {error} in the row that starts in line {before + 1}; "
                "is a quote there never closed?"
            ) from error


class CsvReader:
    """Reads a CSV file with a header."""

    def __init__(self, source: Input, columns: Columns) -> None:
        self._source = source
        self.records = CsvRecords(source, columns.text)
        columns.check(self.records.header, source.name)
        self._text = self.records.header.index(columns.text)

    def chunks(self) -> Iterator[Chunk]:
        """All rows in order; blank lines are no rows."""
        before, batch, size = 0, _Batch(), 0
        for record in self.records:
            batch.add(record, self._problem(record), before + batch.read + 1)
            size += sum(map(len, record.cells))
            if batch.read >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield batch.chunk(self._text)
                before, batch, size = before + batch.read, _Batch(), 0
        if batch.read:
            yield batch.chunk(self._text)

    def progress(self) -> float:
        """Share of the file read so far."""
        return self._source.progress()

    def _problem(self, record: CsvRecord) -> str | None:
        return self.records.problem(record) or text_problem(record.cells[self._text])


@dataclass(frozen=True)
class CsvRecord:
    """A row and where it stood."""

    cells: list[str]
    lines: tuple[str, ...]
    """As they stand in the file, with their ends."""
    first_line: int

    @property
    def place(self) -> str:
        """In words, for messages."""
        return f"lines {self.first_line} to {self.first_line + len(self.lines) - 1}"

    @property
    def raw(self) -> str | bytes:
        """The row as it stood in the file, without the end of its last line."""
        text = "".join(self.lines).rstrip("\r\n")
        return text if _is_utf8([text]) else text.encode("utf-8", "surrogateescape")

    def ran_together(self, delimiter: str) -> bool:
        """Whether a quote left open here was closed by one that opens a cell some lines further down.

        Behind that quote stands the other cell's text, and only there does strict reading stumble. In a single line
        text behind a closing quote is just sloppy.
        """
        if len(self.lines) == 1:
            return False
        try:
            next(csv.reader(self.lines, delimiter=delimiter, strict=True))
        except csv.Error:
            return True
        return False


_NO_RECORD = CsvRecord([], (), 1)


class _Batch:
    """Records on their way into a chunk."""

    def __init__(self) -> None:
        self.read = 0
        self._rows: list[list[str]] = []
        self._numbers: list[int] = []
        self._rejects: list[Reject] = []

    def add(self, record: CsvRecord, problem: str | None, number: int) -> None:
        self.read += 1
        if problem is None:
            self._rows.append(record.cells)
            self._numbers.append(number)
        else:
            self._rejects.append(Reject(number, problem, record.raw))

    def chunk(self, text: int) -> Chunk:
        """:param text: position of the text among the cells."""
        numbers = np.array(self._numbers, dtype=np.int64)
        return Chunk(self._rows, [row[text] for row in self._rows], numbers, self._rejects, self.read)


class CsvWriter:
    """Gives back the rows read with cells added: lists and maps as JSON, null as nothing, true and false in words."""

    def __init__(self, reader: CsvReader, added: pa.Schema) -> None:
        records = reader.records
        self._start = BOM_UTF8 if records.has_bom else b""
        self._header = [*records.header, *added.names]
        self._delimiter = records.delimiter
        self._encoders = [_encoder(field.type) for field in added]

    def header(self) -> bytes:
        """The names of the columns, behind a byte order mark if the input had one."""
        return self._start + b"".join(self._lines([self._header]))

    def encode(self, rows: list[list[str]], answers: Answers) -> Iterator[bytes]:
        """Output rows."""
        cells = [
            map(encode, column.to_pylist())
            for encode, column in zip(self._encoders, answers.columns.columns, strict=True)
        ]
        written = (
            rows[parent] + list(added) for parent, added in zip(answers.parents, zip(*cells, strict=True), strict=True)
        )
        return in_pieces(self._lines(written))

    def _lines(self, rows: Iterable[list[Any]]) -> Iterator[bytes]:
        made: list[str] = []
        write = row_writer(made.append, self._delimiter)
        for row in rows:
            write(row)
            yield made.pop().encode()


def row_writer(put: Callable[[str], object], delimiter: str) -> Callable[[Iterable[Any]], object]:
    """A function that puts a row of cells somewhere as a line that ends with a line feed.

    A cell with a carriage return is quoted whatever the version of Python: before 3.13 only the characters of the line
    end are, and one left bare would be read back as the end of a row. So the line end has both, until it is written.
    """
    return csv.writer(_LineFeeds(put), delimiter=delimiter, lineterminator="\r\n").writerow


class _LineFeeds:
    """Takes rows from a CSV writer, each in one piece, and ends them otherwise than it does."""

    def __init__(self, put: Callable[[str], object]) -> None:
        self._put = put

    def write(self, row: str) -> None:
        self._put(row.removesuffix("\r\n") + "\n")


def delimiter_of(header: str, column: str) -> str:
    """The delimiter under which the header has a column that must be there, and then the most columns."""

    def fit(delimiter: str) -> tuple[bool, int]:
        cells = next(csv.reader([header], delimiter=delimiter), [])
        return column in cells, len(cells)

    return max(_DELIMITERS, key=fit)


def _count_lines(cell: str) -> int:
    return sum(1 for _ in io.StringIO(cell, newline=""))


def _is_utf8(cells: Iterable[str]) -> bool:
    text = "".join(cells)
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encoder(kind: pa.DataType) -> Callable[[Any], object]:
    if pa.types.is_map(kind):
        return lambda value: json.dumps(dict(value), ensure_ascii=False)
    if pa.types.is_list(kind):
        return lambda value: json.dumps(value, ensure_ascii=False)
    if pa.types.is_boolean(kind):
        return lambda value: "true" if value else "false"
    return lambda value: value
