"""The rows of all files on disk while they are imported, equal texts merged, so that memory does not grow with them.

A scratch SQLite file: a text is found by the hash of its words, so that one that differs in case or punctuation alone
is the same text. Labels of rows with the same text are put together.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tocsin.text import fold

_SCHEMA = """
CREATE TABLE texts (
    id INTEGER PRIMARY KEY, key BLOB UNIQUE, text TEXT, names TEXT, dates TEXT, parts TEXT, reason TEXT,
    file INTEGER, line INTEGER, copies INTEGER, merged INTEGER, codings TEXT
);
CREATE TABLE problems (file INTEGER, line INTEGER, kind TEXT, reason TEXT, rows INTEGER);
"""
# Nothing of it outlives the import, so nothing needs to survive a power cut.
_SETTINGS = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536; PRAGMA temp_store = FILE;"
_INSERT = """
INSERT INTO texts (key, text, names, dates, parts, reason, file, line, copies, merged, codings)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, 0, '')
ON CONFLICT (key) DO UPDATE SET
    copies = copies + 1,
    merged = merged + (names <> excluded.names),
    codings = CASE WHEN names = excluded.names THEN codings
        ELSE coded(codings, names, file, line, excluded.names, excluded.file, excluded.line) END,
    names = CASE WHEN names = excluded.names THEN names ELSE joined(names, excluded.names) END,
    dates = CASE WHEN dates = excluded.dates THEN dates ELSE joined(dates, excluded.dates) END,
    parts = CASE WHEN parts = excluded.parts THEN parts ELSE joined(parts, excluded.parts) END
"""


@dataclass(frozen=True, slots=True)
class Coding:
    """What one row of a text says, and where."""

    names: tuple[str, ...]
    file: int
    line: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text and what all its rows say of it."""

    id: int
    """From 1, in the order of the files."""
    key: bytes
    text: str
    names: tuple[str, ...]
    dates: tuple[str, ...]
    parts: tuple[str, ...]
    """All that its rows have in the column that splits go by; without those that have nothing there."""
    reason: str
    file: int
    line: int
    copies: int
    """Rows that have it."""
    merged: int
    """Of these, rows that had other labels than those before."""
    codings: tuple[Coding, ...]
    """The first of its rows with each set of names."""

    def coding_with(self, name: str) -> Coding:
        """The first of its rows that has a name."""
        return next(coding for coding in self.codings if name in coding.names)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row on its way in."""

    text: str
    names: tuple[str, ...]
    date: str
    part: str
    reason: str
    file: int
    line: int


class Store:
    """The scratch file."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(_SETTINGS + _SCHEMA)
        self._database.create_function("joined", 2, _joined, deterministic=True)
        self._database.create_function("coded", 7, _coded, deterministic=True)

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def add(self, entries: Iterable[Entry]) -> None:
        """Take rows in."""
        self._database.executemany(_INSERT, map(_parameters, entries))

    def add_problems(self, problems: Iterable[tuple[int, int, str, str, int]]) -> None:
        """Take in (file, line, kind, reason, rows) of what cannot be used."""
        self._database.executemany("INSERT INTO problems VALUES (?, ?, ?, ?, ?)", problems)

    def texts(self) -> Iterator[Text]:
        """All texts in the order in which they came."""
        cursor = self._database.execute(
            "SELECT id, key, text, names, dates, parts, reason, file, line, copies, merged, codings "
            "FROM texts ORDER BY id"
        )
        for identifier, key, text, names, dates, parts, reason, file, line, copies, merged, codings in cursor:
            found, days, where = (tuple(json.loads(packed)) for packed in (names, dates, parts))
            # Nearly all texts stand in one row, or in rows that say the same: nothing is kept for these.
            rows = json.loads(codings) if codings else [(found, file, line)]
            said = tuple(Coding(tuple(each), *place) for each, *place in rows)
            yield Text(identifier, key, text, found, days, where, reason, file, line, copies, merged, said)

    def text_of(self, identifier: int) -> str:
        """One text."""
        (text,) = self._database.execute("SELECT text FROM texts WHERE id = ?", (identifier,)).fetchone()
        return str(text)

    def bytes(self) -> int:
        """What it takes of the disk, or will as soon as it is written there."""
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (size,) = self._database.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(size)

    def size(self) -> int:
        """How many different texts there are."""
        (count,) = self._database.execute("SELECT count(*) FROM texts").fetchone()
        return int(count)

    def name_counts(self) -> dict[str, int]:
        """How many texts have each set of names, as JSON."""
        return dict(self._database.execute("SELECT names, count(*) FROM texts GROUP BY names"))

    def part_counts(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """What the rows of a text have in the column that splits go by, and how many texts have just that."""
        for parts, count in self._database.execute("SELECT parts, count(*) FROM texts GROUP BY parts"):
            yield tuple(json.loads(parts)), count

    def problem_counts(self) -> dict[str, int]:
        """Rows by kind of problem, the commonest first."""
        return dict(
            self._database.execute("SELECT kind, sum(rows) FROM problems GROUP BY kind ORDER BY sum(rows) DESC, kind")
        )

    def problems(self, most: int = -1) -> Iterator[tuple[int, int, str, str, int]]:
        """(file, line, kind, reason, rows) of what cannot be used, in the order of the files."""
        yield from self._database.execute(
            "SELECT file, line, kind, reason, rows FROM problems ORDER BY file, line LIMIT ?", (most,)
        )


def text_key(text: str) -> bytes:
    """The same for texts of the same words."""
    return hashlib.blake2b((fold(text) or text).encode(), digest_size=16).digest()


def _parameters(entry: Entry) -> tuple[object, ...]:
    names = json.dumps(sorted(entry.names), ensure_ascii=False)
    dates, parts = (json.dumps([cell] if cell else [], ensure_ascii=False) for cell in (entry.date, entry.part))
    return (text_key(entry.text), entry.text, names, dates, parts, entry.reason, entry.file, entry.line)


def _joined(left: str, right: str) -> str:
    return json.dumps(sorted({*json.loads(left), *json.loads(right)}), ensure_ascii=False)


def _coded(codings: str, names: str, file: int, line: int, *other: str | int) -> str:
    """The codings of a text, as JSON, with that of another row.

    :param names: those of the first row, while there are no codings; that row stands at file and line.
    :param other: names, file and line of the other row.
    """
    rows = json.loads(codings) if codings else [[json.loads(names), file, line]]
    found, *place = other
    if (said := json.loads(str(found))) not in [row[0] for row in rows]:
        rows.append([said, *place])
    return json.dumps(rows, ensure_ascii=False)
