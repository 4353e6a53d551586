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
    id INTEGER PRIMARY KEY, key BLOB UNIQUE, text TEXT, names TEXT, dates TEXT, value TEXT, reason TEXT,
    file INTEGER, line INTEGER, copies INTEGER, merged INTEGER, disputed INTEGER
);
CREATE TABLE problems (file INTEGER, line INTEGER, kind TEXT, reason TEXT, rows INTEGER);
"""
# Nothing of it outlives the import, so nothing needs to survive a power cut.
_SETTINGS = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536; PRAGMA temp_store = FILE;"
_INSERT = """
INSERT INTO texts (key, text, names, dates, value, reason, file, line, copies, merged, disputed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 0)
ON CONFLICT (key) DO UPDATE SET
    copies = copies + 1,
    merged = merged + (names <> excluded.names),
    disputed = disputed OR (names = '[]') <> (excluded.names = '[]'),
    names = CASE WHEN names = excluded.names THEN names ELSE joined(names, excluded.names) END,
    dates = CASE WHEN dates = excluded.dates THEN dates ELSE joined(dates, excluded.dates) END
"""


@dataclass(frozen=True, slots=True)
class Text:
    """A text and what all its rows say of it."""

    id: int
    """From 1, in the order of the files."""
    key: bytes
    text: str
    names: tuple[str, ...]
    dates: tuple[str, ...]
    value: str
    """Of the column that splits go by."""
    reason: str
    file: int
    line: int
    copies: int
    """Rows that have it."""
    merged: int
    """Of these, rows that had other labels than those before."""
    disputed: int
    """1 where one row has labels and another says no event; the labels then stand."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row on its way in."""

    text: str
    names: tuple[str, ...]
    date: str
    value: str
    reason: str
    file: int
    line: int


class Store:
    """The scratch file."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(_SETTINGS + _SCHEMA)
        self._database.create_function("joined", 2, _joined, deterministic=True)

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
            "SELECT id, key, text, names, dates, value, reason, file, line, copies, merged, disputed "
            "FROM texts ORDER BY id"
        )
        for identifier, key, text, names, dates, *others in cursor:
            yield Text(identifier, key, text, tuple(json.loads(names)), tuple(json.loads(dates)), *others)

    def text_of(self, identifier: int) -> str:
        """One text."""
        (text,) = self._database.execute("SELECT text FROM texts WHERE id = ?", (identifier,)).fetchone()
        return str(text)

    def size(self) -> int:
        """How many different texts there are."""
        (count,) = self._database.execute("SELECT count(*) FROM texts").fetchone()
        return int(count)

    def name_counts(self) -> dict[str, int]:
        """How many texts have each set of names, as JSON."""
        return dict(self._database.execute("SELECT names, count(*) FROM texts GROUP BY names"))

    def value_counts(self) -> Iterator[tuple[str, int]]:
        """Values of the column that splits go by, and how many texts have each."""
        yield from self._database.execute("SELECT value, count(*) FROM texts GROUP BY value")

    def problem_counts(self) -> dict[str, int]:
        """Rows by kind of problem, the commonest first."""
        return dict(
            self._database.execute("SELECT kind, sum(rows) FROM problems GROUP BY kind ORDER BY sum(rows) DESC, kind")
        )

    def problems(self, most: int = -1) -> Iterator[tuple[int, int, str, str]]:
        """(file, line, kind, reason) of what cannot be used, in the order of the files."""
        yield from self._database.execute(
            "SELECT file, line, kind, reason FROM problems ORDER BY file, line LIMIT ?", (most,)
        )


def text_key(text: str) -> bytes:
    """The same for texts of the same words."""
    return hashlib.blake2b((fold(text) or text).encode(), digest_size=16).digest()


def _parameters(entry: Entry) -> tuple[object, ...]:
    names = json.dumps(sorted(entry.names), ensure_ascii=False)
    dates = json.dumps([entry.date] if entry.date else [])
    return (text_key(entry.text), entry.text, names, dates, entry.value, entry.reason, entry.file, entry.line)


def _joined(left: str, right: str) -> str:
    return json.dumps(sorted({*json.loads(left), *json.loads(right)}), ensure_ascii=False)
