"""The newest answers of all workers of a server, counted by bin, and what they are held against.

Counts lie in an SQLite file of the run folder, cut into slots of time: each worker adds its own, all of them read the
sum, and what a worker counted outlives it. Texts never come here.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from tocsin import Release, UsageError
from tocsin.drift import CONFIDENCE, CONFIDENCE_EDGES, FIRST_ANSWER, Counts, Profile
from tocsin.errors import first_fault
from tocsin.release import LAYOUT

REFERENCE_VARIABLE = "TOCSIN_DRIFT_REFERENCE"
"""Environment variable that names a profile to hold answers against in place of the release's own."""
SLOTS = 60
"""Parts of a window; it moves on by one of them at a time."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    release TEXT, slot INTEGER, quantity TEXT, bin INTEGER, texts INTEGER NOT NULL,
    PRIMARY KEY (release, slot, quantity, bin)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (message TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_ADD = """
INSERT INTO answers VALUES (?, ?, ?, ?, ?)
ON CONFLICT (release, slot, quantity, bin) DO UPDATE SET texts = texts + excluded.texts
"""
_SUM = "SELECT quantity, bin, sum(texts) FROM answers WHERE release = ? AND slot > ? GROUP BY quantity, bin"


class Window:
    """Answers of the newest seconds."""

    def __init__(self, file: Path, *, seconds: float, clock: Callable[[], float] = time.time) -> None:
        """Open the counts that this server's workers share.

        :param seconds: how far back it reaches; up to one slot in 60 less.
        :param clock: seconds; must be the same for all processes of a machine.
        """
        self._slot_seconds = seconds / SLOTS
        self._clock = clock
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(file, isolation_level=None, timeout=5, check_same_thread=False)
        # Counts need not outlive a crash of the machine.
        self._connection.execute("PRAGMA journal_mode = MEMORY")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_SCHEMA)

    def add(self, release: str, counts: Counts) -> None:
        """Count answers that were given just now, and forget those that are too old."""
        now = self._slot()
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_ADD, _rows(release, now, counts))
            self._connection.execute("DELETE FROM answers WHERE slot <= ?", (now - SLOTS,))

    def counts(self, release: str, like: Counts) -> Counts:
        """Answers of a release in the window.

        :param like: has as many bins for each quantity as are wanted.
        """
        found = {quantity: np.zeros_like(bins) for quantity, bins in like.items()}
        with self._lock:
            rows = self._connection.execute(_SUM, (release, self._slot() - SLOTS)).fetchall()
        for quantity, position, texts in rows:
            found[quantity][position] = texts
        return found

    def first_to_tell(self, message: str) -> bool:
        """Whether no worker of this server has said so yet."""
        with self._lock:
            return self._connection.execute("INSERT OR IGNORE INTO told VALUES (?)", (message,)).rowcount == 1

    def _slot(self) -> int:
        return int(self._clock() // self._slot_seconds)


def _rows(release: str, slot: int, counts: Counts) -> Iterator[tuple[str, int, str, int, int]]:
    for quantity, bins in counts.items():
        for position in np.flatnonzero(bins):
            yield release, slot, quantity, int(position), int(bins[position])


def no_answers(labels: int, edges: int) -> Counts:
    """Counts of nothing.

    :param labels: of the taxonomy.
    :param edges: between bins of confidence.
    """
    return {FIRST_ANSWER: np.zeros(labels + 1, dtype=np.int64), CONFIDENCE: np.zeros(edges + 1, dtype=np.int64)}


def release_key(release: Release) -> str:
    """What tells a release from another one in the window: its name and what its answers depend on."""
    files = release.manifest.files
    return " ".join((release.name, files[LAYOUT.model], files[LAYOUT.calibration]))


class References:
    """What each release's answers are held against: a profile the operator chose, or the release's own."""

    def __init__(self, own: Profile | None = None) -> None:
        """Remember the operator's choice.

        :param own: none leaves it to the releases.
        """
        self._own = own

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> References:
        """The profile that TOCSIN_DRIFT_REFERENCE names, if any.

        :raises UsageError: it cannot be read or is no profile.
        """
        given = environ.get(REFERENCE_VARIABLE)
        return cls(_read(Path(given)) if given else None)

    def of(self, release: Release) -> Profile | None:
        """The profile to hold a release's answers against; none where there is none that fits."""
        if self._own is None:
            return release.profile
        return None if self.problem(release) else self._own

    def problem(self, release: Release) -> str | None:
        """Why there is none, in words."""
        if self._own is None:
            return None if release.profile else f"the release {release.name} has no {LAYOUT.profile}"
        if (self._own.model_version, self._own.labels) != (release.name, release.taxonomy.names):
            return f"{REFERENCE_VARIABLE} is of {self._own.model_version}, and {release.name} is serving"
        return None

    def edges(self, release: Release) -> tuple[float, ...]:
        """Where bins of confidence end."""
        reference = self.of(release)
        return CONFIDENCE_EDGES if reference is None else reference.confidence_edges


def _read(path: Path) -> Profile:
    try:
        return Profile.load(path)
    except OSError as error:
        raise UsageError(f"{REFERENCE_VARIABLE}: {path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise UsageError(
            f"{REFERENCE_VARIABLE}: {path}: {first_fault(error)}; GET /profile gives such files"
        ) from error
