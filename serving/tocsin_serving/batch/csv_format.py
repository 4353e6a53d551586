"""CSV in and out, every input cell kept as the text it was.

Python's reader rather than Arrow's: it takes quoted line breaks of any length, tells exactly which row is at fault and
never interprets a cell. At about a million rows a second it is no bottleneck beside a classifier.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

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
    closed_on_error,
    text_problem,
)

_BOM = b"\xef\xbb\xbf"
_DELIMITERS = ",;\t|"
# A quote that is never closed would otherwise read any file into memory.
_MAX_CELL = 64 * 1024 * 1024


class CsvReader:
    """Reads a CSV file with a header; the delimiter is told from the header."""

    def __init__(self, path: Path, columns: Columns) -> None:
        csv.field_size_limit(_MAX_CELL)
        self._path = path
        self._size = max(path.stat().st_size, 1)
        self._binary = path.open("rb")
        # surrogateescape carries undecodable bytes as far as the rejects file.
        self._file = io.TextIOWrapper(self._binary, "utf-8-sig", errors="surrogateescape", newline="")
        with closed_on_error(self):
            self.has_bom = self._binary.read(len(_BOM)) == _BOM
            self._file.seek(0)
            self.delimiter = delimiter_of(self._file.readline())
            self._file.seek(0)
            self._rows = self._checked()
            self.header = next(self._rows, [])
            if not _is_utf8(self.header):
                raise InputError(f"{path} is not UTF-8; save it as UTF-8")
            columns.check(self.header, path)
            self._text = self.header.index(columns.text)

    def chunks(self) -> Iterator[Chunk]:
        """All rows in order; blank lines are no rows."""
        number, batch, size = 0, [], 0
        for row in filter(None, self._rows):
            batch.append(row)
            size += sum(map(len, row))
            if len(batch) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield self._chunk(batch, number)
                number, batch, size = number + len(batch), [], 0
        if batch:
            yield self._chunk(batch, number)

    def progress(self) -> float:
        """Share of the file read so far."""
        return min(self._binary.tell() / self._size, 1.0)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def _checked(self) -> Iterator[list[str]]:
        ended = False

        def lines() -> Iterator[str]:
            nonlocal ended
            yield from self._file
            ended = True

        # Not strict: that would also refuse text between a closing quote and the next delimiter.
        rows = csv.reader(lines(), delimiter=self.delimiter)
        before = 0
        try:
            for row in rows:
                # Only inside quotes does the reader ask for another line before it hands out a row.
                if ended:
                    opened = rows.line_num - max(_count_lines(row[-1]), 1) + 1
                    raise InputError(
                        f"{self._path}: the quote opened in line {opened} is never closed; "
                        "close it or, if it belongs to the text, put the cell in quotes and double those inside"
                    )
                yield row
                before = rows.line_num
        except csv.Error as error:
            raise InputError(
                f"{self._path}: {error} in the row that starts in line {before + 1}; is a quote there never closed?"
            ) from error

    def _chunk(self, batch: list[list[str]], before: int) -> Chunk:
        problems = [self._problem(row) for row in batch]
        good = [index for index, problem in enumerate(problems) if problem is None]
        rows = [batch[index] for index in good]
        rejects = [
            Reject(before + index + 1, problem, self._raw(batch[index]))
            for index, problem in enumerate(problems)
            if problem is not None
        ]
        numbers = np.array(good, dtype=np.int64) + before + 1
        return Chunk(rows, [row[self._text] for row in rows], numbers, rejects, len(batch))

    def _problem(self, row: list[str]) -> str | None:
        if not _is_utf8(row):
            return "not valid UTF-8"
        if len(row) != len(self.header):
            return f"has {len(row)} cells, the header has {len(self.header)}"
        return text_problem(row[self._text])

    def _raw(self, row: list[str]) -> str | bytes:
        line = io.StringIO()
        csv.writer(line, delimiter=self.delimiter, lineterminator="").writerow(row)
        text = line.getvalue()
        return text if _is_utf8([text]) else text.encode("utf-8", "surrogateescape")


class CsvWriter:
    """Writes the rows read with cells added: lists and maps as JSON, null as nothing, true and false in words."""

    def __init__(self, file: BinaryIO, reader: CsvReader, added: pa.Schema) -> None:
        encoding = "utf-8-sig" if reader.has_bom else "utf-8"
        self._text = io.TextIOWrapper(file, encoding, newline="", write_through=True)
        self._writer = csv.writer(self._text, delimiter=reader.delimiter, lineterminator="\n")
        self._writer.writerow([*reader.header, *added.names])
        self._encoders = [_encoder(field.type) for field in added]

    def write(self, rows: list[list[str]], answers: Answers) -> None:
        """Add output rows."""
        cells = [
            map(encode, column.to_pylist())
            for encode, column in zip(self._encoders, answers.columns.columns, strict=True)
        ]
        self._writer.writerows(
            rows[parent] + list(added) for parent, added in zip(answers.parents, zip(*cells, strict=True), strict=True)
        )

    def close(self) -> None:
        """Hand everything to the binary file, which stays open."""
        self._text.detach()


def delimiter_of(first_line: str) -> str:
    """What separates the cells of a header."""
    return max(_DELIMITERS, key=first_line.count)


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
