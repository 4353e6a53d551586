"""JSON Lines in and out. Input objects are kept byte for byte: added fields are spliced in before the last brace."""

from __future__ import annotations

import json
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import numpy as np

from tocsin import InputError
from tocsin.text import replace_lone_surrogates
from tocsin_serving.batch.chunks import CHUNK_ROWS, Answers, Chunk, Columns, Reject, in_pieces, text_problem
from tocsin_serving.batch.files import Input

# Of long texts so many bytes are already several times the work of so many rows of short ones.
_CHUNK_BYTES = 256 * 1024
# Objects and bytes at the start of a file in which its fields are looked for.
_RECORDS_LOOKED_AT = 300
_BYTES_LOOKED_AT = 8 * 1024 * 1024
# A file without line breaks would otherwise be read into memory whole.
_MAX_LINE = 64 * 1024 * 1024
# Of a line that is longer.
_BYTES_KEPT = 1000


class _LongLine(bytes):
    """The beginning of a line that is too long to be held in memory."""

    problem: str


class JsonlReader:
    """Reads a file of one JSON object a line."""

    def __init__(self, source: Input, columns: Columns) -> None:
        self._source = source
        self._columns = columns
        self._added = frozenset(columns.added.names)
        # Lines looked at beforehand: a pipe cannot be wound back.
        self._seen: list[bytes] = []
        self._check_start()

    def _check_start(self) -> None:
        """Refuse what is no JSON Lines at all, and tell about wrong column names before any work.

        A few lines at fault are rejects and no reason to refuse the others, so as many are looked at as it takes to
        find one that can be scored, up to a limit.
        """
        start = b""
        records: list[dict[str, Any]] = []
        for line in self._first_lines():
            start = start or line
            record = _parse(line)
            if isinstance(record, dict):
                records.append(record)
                if self._is_whole(record) or len(records) == _RECORDS_LOOKED_AT:
                    break
        self._check_kind(start, records)
        if records:
            self._columns.check(self._fields(records), self._source.name)

    def _first_lines(self) -> Iterator[bytes]:
        """Lines that are not blank, kept in `_seen` as they stand, up to a limit."""
        size = 0
        while size < _BYTES_LOOKED_AT and (line := self._next_line()):
            size += len(line)
            self._seen.append(line)
            if stripped := line.removeprefix(BOM_UTF8).strip():
                yield stripped

    def _is_whole(self, record: dict[str, Any]) -> bool:
        """Whether it has every field that must be there and none that scoring adds."""
        return {self._columns.text, *self._columns.others} <= record.keys() and self._added.isdisjoint(record)

    def _check_kind(self, start: bytes, records: list[dict[str, Any]]) -> None:
        """:param start: the first line that is not blank."""
        # Laid out over lines, an array may have an element that is an object on a line of its own.
        is_array = start.startswith(b"[")
        if is_array or (start and not start.startswith(b"{") and not records):
            hint = "It looks like one JSON array; write one object a line." if is_array else ""
            raise InputError(
                f"{self._source.name} is not JSON Lines: its first line is not a JSON object. {hint}".strip()
            )

    def _fields(self, records: list[dict[str, Any]]) -> list[str]:
        """Names of the fields of all; of those that scoring adds, only what no record to be scored is without."""
        scoreable = [record for record in records if self._columns.text in record]
        names = dict.fromkeys(name for record in records for name in record)
        return [name for name in names if name not in self._added or all(name in record for record in scoreable)]

    def chunks(self) -> Iterator[Chunk]:
        """All lines in order; blank lines are no rows."""
        before, size = 0, 0
        lines: list[bytes] = []
        for line in self._lines():
            lines.append(line)
            size += len(line)
            if len(lines) >= CHUNK_ROWS or size >= _CHUNK_BYTES:
                yield self._chunk(lines, before)
                before, size, lines = before + len(lines), 0, []
        if lines:
            yield self._chunk(lines, before)

    def progress(self) -> float:
        """Share of the file read so far."""
        return self._source.progress()

    def _lines(self) -> Iterator[bytes]:
        yield from self._seen
        yield from iter(self._next_line, b"")

    def _next_line(self) -> bytes:
        """A line with its end, nothing behind the last; the beginning of one that is too long and is passed over."""
        line = self._source.stream.readline(_MAX_LINE)
        if len(line) < _MAX_LINE or line.endswith(b"\n"):
            return line
        kept, length, digest = _LongLine(line[:_BYTES_KEPT]), len(line), sha256(line)
        while not line.endswith(b"\n") and (line := self._source.stream.readline(1024 * 1024)):
            length += len(line)
            digest.update(line)
        kept.problem = (
            f"line is longer than {_MAX_LINE:,} bytes: it has {length:,} with its end, their SHA-256 is "
            f"{digest.hexdigest()}, and the first {len(kept):,} are kept"
        )
        return kept

    def _chunk(self, lines: list[bytes], before: int) -> Chunk:
        rows: list[bytes] = []
        texts: list[str] = []
        numbers: list[int] = []
        rejects: list[Reject] = []
        for number, line in enumerate(lines, before + 1):
            if isinstance(line, _LongLine):
                rejects.append(Reject(number, line.problem, _readable(line)))
                continue
            line = line.removeprefix(BOM_UTF8 if number == 1 else b"").strip()
            if not line:
                continue
            text, problem = self._text(line)
            if problem is None:
                rows.append(line)
                texts.append(text)
                numbers.append(number)
            else:
                rejects.append(Reject(number, problem, _readable(line)))
        return Chunk(rows, texts, np.array(numbers, dtype=np.int64), rejects, len(rows) + len(rejects))

    def _text(self, line: bytes) -> tuple[str, str | None]:
        """A line's text and what is wrong with the line."""
        record = _parse(line)
        if isinstance(record, str):
            return "", record
        if self._columns.text not in record:
            return "", f"field '{self._columns.text}' is missing"
        clash = self._added.intersection(record)
        if clash:
            return "", f"already has a field of a name that scoring adds: {', '.join(sorted(clash))}"
        value = record[self._columns.text]
        problem = text_problem(value)
        return (replace_lone_surrogates(value), None) if problem is None else ("", problem)


class JsonlWriter:
    """Gives back the lines read with fields added."""

    def header(self) -> bytes:
        """Nothing stands before the first line."""
        return b""

    def encode(self, rows: list[bytes], answers: Answers) -> Iterator[bytes]:
        """Output lines."""
        records = answers.columns.to_pylist(maps_as_pydicts="strict")
        return in_pieces(_splice(rows[parent], record) for parent, record in zip(answers.parents, records, strict=True))


def _parse(line: bytes) -> dict[str, Any] | str:
    """The object on a line, or what is wrong with it."""
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 at byte {error.start + 1}"
    except RecursionError:
        return "not valid JSON: nested too deeply"
    except json.JSONDecodeError as error:
        return f"not valid JSON: {error}"
    except ValueError:
        # Python's guard against numbers that take long to read; those who read the output would meet it too.
        return f"holds an integer of more than {sys.get_int_max_str_digits():,} digits"
    return record if isinstance(record, dict) else f"not a JSON object but {type(record).__name__}"


def _splice(line: bytes, added: dict[str, Any]) -> bytes:
    return with_fields(line[:-1].rstrip(), added)


def with_fields(begun: bytes, added: dict[str, Any]) -> bytes:
    """A line from an object that is not closed yet and has a field or more, and from the fields to add."""
    return begun + b", " + json.dumps(added, ensure_ascii=False)[1:].encode() + b"\n"


def _readable(line: bytes) -> str | bytes:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line
