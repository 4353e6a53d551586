"""CSV in and out, every input cell kept as the text it was.

Python's reader rather than Arrow's: it takes quoted line breaks of any length, tells exactly which row is at fault and
never interprets a cell. At about a million rows a second it is no bottleneck beside a classifier.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from tocsin import InputError, UsageError
from tocsin.text import excel_separator
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
from tocsin_serving.batch.dialect import UTF8, Dialect
from tocsin_serving.batch.files import Input

# The last two are Hive's and ASCII's own; more could be part of a column's name.
_DELIMITERS = ",;\t|^~\x01\x1f"
# Of what the columns that are added are made, beside letters and digits.
_ADDED_CHARACTERS = frozenset(' ,:"{}[].-_/\\')
MAX_CELL = 64 * 1024 * 1024
"""Characters in a cell: a quote that is never closed would otherwise read any file into memory."""


class CsvRecords:
    """The records of a CSV file.

    :param source: whose format says what is known of the dialect.
    :param column: one that should be there; it tells the delimiter.
    :raises InputError: the file cannot be read as CSV in its encoding.
    :raises UsageError: nothing tells its delimiter.
    """

    def __init__(self, source: Input, column: str) -> None:
        csv.field_size_limit(MAX_CELL)
        self._source = source
        given = source.format.dialect
        self.encoding, self.mark = given.codec(source.start())
        self._file = source.text(self.encoding, errors=given.decoding_errors)
        self._before = 0
        first_line = self._next_line().removeprefix("\ufeff" if self.mark else "")
        self.separator = ""
        """Excel's line above the header, which the output has too."""
        if named := excel_separator(first_line):
            self.separator, self._before, first_line = first_line, 1, self._next_line()
            given = replace(given, delimiter=given.delimiter or named)
        if given.delimiter is None and not given.header:
            raise UsageError(f"{source.name}: --no-header needs --delimiter, for there are no names to tell it by")
        self.dialect = replace(given, delimiter=given.delimiter or delimiter_of(first_line, column, given))
        self._records = self._checked(first_line)
        first = next(self._records, _NO_RECORD) if given.header else self._first_row()
        if first.fault is not None:
            raise InputError(f"{source.name}: {first.fault}")
        self.header = first.cells if given.header else [f"column_{at}" for at in range(1, len(first.cells) + 1)]
        if not _is_text(self.header):
            raise InputError(f"{source.name} is not {self._encoding_problem}, or save it as UTF-8")

    def __iter__(self) -> Iterator[CsvRecord]:
        """All rows in order; a blank line is none, save where it is how an only column's empty cell is written."""
        for record in self._records:
            if record.cells:
                yield record
            elif len(self.header) == 1:
                yield replace(record, cells=[""])

    def _first_row(self) -> CsvRecord:
        """The first that is not blank, which stays to be read."""
        begun: list[CsvRecord] = []
        for record in self._records:
            begun.append(record)
            if record.cells:
                break
        self._records = chain(begun, self._records)
        return begun[-1] if begun else _NO_RECORD

    def problem(self, record: CsvRecord) -> str | None:
        """Why a row is not what its writer meant, or none."""
        if record.fault is not None:
            return record.fault
        if not _is_text(record.cells):
            return f"not valid {self._encoding_problem}"
        if record.ran_together(self.dialect):
            hint = self._escape_hint(record)
            return (
                f"a quote opened in {record.place} closes in the middle of a cell: rows may have run together; "
                f"close the quote in its own row, and double quotes that belong to a text{hint and '; ' + hint}"
            )
        if len(record.cells) != len(self.header):
            where = f" in {record.place}" if len(record.lines) > 1 else ""
            hint = self._escape_hint(record)
            return f"has {len(record.cells)} cells{where}, the header has {len(self.header)}{hint and ': ' + hint}"
        return None

    @property
    def _encoding_problem(self) -> str:
        name = "UTF-8" if self.encoding == UTF8 else self.encoding
        return f"{name}: where the file is in another encoding, name it, such as --encoding cp1252"

    def _escape_hint(self, record: CsvRecord) -> str:
        """What to do where quotes seem to be escaped, which nobody has said."""
        escaped = self.dialect.escape is None and any('\\"' in line for line in record.lines)
        return "where a backslash stands before quotes of a text, give --escape '\\'" if escaped else ""

    def _next_line(self) -> str:
        try:
            line = self._file.readline(MAX_CELL)
        except UnicodeDecodeError as error:
            raise InputError(f"{self._source.name} is not {self._encoding_problem} ({error.reason})") from error
        if len(line) == MAX_CELL:
            raise InputError(f"{self._source.name} is not CSV: it has a line of more than {MAX_CELL:,} characters")
        return line

    def _checked(self, first_line: str) -> Iterator[CsvRecord]:
        """Records with the lines they were made of.

        Where a quote is never closed nobody can tell which lines behind it are rows: each is a record with a fault.
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
        rows = self.dialect.reader(taken())
        before = self._before
        try:
            for cells in rows:
                # Only inside quotes, or behind an escape, does the reader ask for another line before it hands out a
                # row.
                if ended:
                    fault = self._unended(cells, self._before + rows.line_num)
                    break
                yield CsvRecord(cells, tuple(lines), before + 1, self.encoding)
                before = self._before + rows.line_num
                lines.clear()
            else:
                return
        except csv.Error as error:
            fault = f"{error}: in the row that starts in line {before + 1} a quote may never be closed"
        for number, line in enumerate(chain(lines, iter(self._next_line, "")), before + 1):
            yield CsvRecord([line], (line,), number, self.encoding, fault)

    def _unended(self, cells: list[str], last_line: int) -> str:
        if self.dialect.quote is None:
            return f"line {last_line} ends with an escape, and nothing comes after it: the file may be cut off"
        opened = last_line - max(_count_lines(cells[-1]), 1) + 1
        escapes = "" if self.dialect.escape else "; where a backslash stands before quotes, give --escape '\\'"
        return (
            f"the quote opened in line {opened} is never closed, so what follows cannot be told apart into rows: "
            f"close it or, if it belongs to the text, put the cell in quotes and double those inside{escapes}"
        )


class CsvReader:
    """Reads a CSV file."""

    def __init__(self, source: Input, columns: Columns) -> None:
        self._source = source
        self.records = CsvRecords(source, columns.text)
        columns.check(self.records.header, source.name)
        self._text = self.records.header.index(columns.text)

    def chunks(self) -> Iterator[Chunk]:
        """All rows in order."""
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
    encoding: str = UTF8
    fault: str | None = None
    """Why these lines cannot be told apart into rows."""

    @property
    def place(self) -> str:
        """In words, for messages."""
        return f"lines {self.first_line} to {self.first_line + len(self.lines) - 1}"

    @property
    def raw(self) -> str | bytes:
        """The row as it stood in the file, without the end of its last line."""
        text = "".join(self.lines).rstrip("\r\n")
        if _is_text([text]):
            return text
        return text.encode(self.encoding, Dialect(encoding=self.encoding).decoding_errors)

    def ran_together(self, dialect: Dialect) -> bool:
        """Whether a quote left open here was closed by one that opens a cell some lines further down.

        Behind that quote stands the other cell's text, and only there does strict reading stumble. In a single line
        text behind a closing quote is just sloppy.
        """
        if len(self.lines) == 1 or dialect.quote is None:
            return False
        try:
            next(dialect.reader(self.lines, strict=True))
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
    """Gives back the rows read with cells added: lists and maps as JSON, null as nothing, true and false in words.

    In the dialect and the encoding of the input.

    :raises UsageError: what is added cannot be written in them.
    """

    def __init__(self, reader: CsvReader, added: pa.Schema) -> None:
        records = reader.records
        self._start = records.mark + records.separator.encode(records.encoding)
        self._header = [*records.header, *added.names]
        self._dialect, self._encoding = records.dialect, records.encoding
        self._encoders = cell_encoders(added, records.encoding).values()
        bare = self._dialect.quote is None and self._dialect.escape is None
        if bare and not _may_stand_bare(self._dialect.delimiter or ""):
            raise UsageError(
                f"--quote none: the columns that are added hold the delimiter {self._dialect.delimiter!r}, which could "
                "not be told from one between cells. Give --escape as well."
            )

    def header(self) -> bytes:
        """The names of the columns, behind a byte order mark and Excel's separator line if the input had them."""
        return self._start + b"".join(self._lines([self._header]))

    def encode(self, rows: list[list[str]], answers: Answers) -> Iterator[bytes]:
        """Output rows.

        :raises UsageError: a label's name has a character that the encoding has not.
        """
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
        write = self._dialect.row_writer(made.append)
        for row in rows:
            try:
                write(row)
            except csv.Error as error:
                delimiter = self._dialect.delimiter
                raise UsageError(
                    f"--quote none: a column that is added holds the delimiter {delimiter!r}. Give --escape as well."
                ) from error
            yield self._encoded(made.pop())

    def _encoded(self, line: str) -> bytes:
        try:
            return line.encode(self._encoding)
        except UnicodeEncodeError as error:
            character = error.object[error.start : error.end]
            raise UsageError(
                f"What is added to a row has the character {character!r}, which {self._encoding} has not; save the "
                "input as UTF-8 and leave --encoding out."
            ) from error


def _may_stand_bare(delimiter: str) -> bool:
    """Whether a delimiter is in no column that is added; a label of the user's own with one is found out later."""
    return not delimiter.isalnum() and delimiter not in _ADDED_CHARACTERS


def delimiter_of(header: str, column: str, dialect: Dialect) -> str:
    """The delimiter under which the header has a column that must be there, and then the most columns."""

    def fit(delimiter: str) -> tuple[bool, int]:
        cells = next(replace(dialect, delimiter=delimiter).reader([header]), [])
        return column in cells, len(cells)

    return max((one for one in _DELIMITERS if one not in (dialect.quote, dialect.escape)), key=fit)


def _count_lines(cell: str) -> int:
    return sum(1 for _ in io.StringIO(cell, newline=""))


def _is_text(cells: Iterable[str]) -> bool:
    text = "".join(cells)
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def cell_encoders(added: pa.Schema, encoding: str) -> dict[str, Callable[[Any], object]]:
    """Name of a column -> what turns its values into cells of a file in an encoding."""
    return {field.name: _encoder(field.type, ascii_only=encoding != UTF8) for field in added}


def _encoder(kind: pa.DataType, *, ascii_only: bool) -> Callable[[Any], object]:
    if pa.types.is_map(kind):
        return lambda value: json.dumps(dict(value), ensure_ascii=ascii_only)
    if pa.types.is_list(kind):
        return partial(json.dumps, ensure_ascii=ascii_only)
    if pa.types.is_boolean(kind):
        return lambda value: "true" if value else "false"
    return lambda value: value
