"""Requests a minute of each key, counted over all worker processes of a server.

The generic cell rate algorithm (ITU-T I.371): a key has a bucket of N requests that refills evenly over a minute, and
one number, the time at which the bucket will be full again, is its whole state. It is kept in an SQLite file in the
run folder, where one statement both decides and counts. Kept libraries were looked at: `limits` shares counts between
processes through a server only (Redis, Memcached); `pyrate-limiter` keeps a row per request and polls a lock file,
which would stop the event loop.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

_WINDOW_SECONDS = 60.0
# Longest wait for another worker's count. The event loop waits too, and a count takes far less than a millisecond.
_LOCK_SECONDS = 0.03
# Room for rounding in sums of times.
_EPSILON = 1e-6
_TAKE = """
INSERT INTO bucket (id, full_at) VALUES (:id, :now + :step)
ON CONFLICT (id) DO UPDATE SET full_at = max(full_at, :now) + :step
WHERE max(full_at, :now) + :step - :now <= :window
RETURNING full_at
"""


class RateLimiter:
    """Counts requests by key; for use from one thread."""

    def __init__(
        self, file: Path, *, clock: Callable[[], float] = time.monotonic, lock_seconds: float = _LOCK_SECONDS
    ) -> None:
        """Open the counts that this server's workers share.

        :param clock: seconds; must be the same for all processes of a machine, as CLOCK_MONOTONIC is.
        :param lock_seconds: longest wait for another worker's count.
        :raises sqlite3.Error: the file cannot be opened or made.
        """
        self._clock = clock
        self._connection = sqlite3.connect(file, isolation_level=None, timeout=lock_seconds)
        try:
            # Counts need not outlive a crash of the machine.
            self._connection.execute("PRAGMA journal_mode = MEMORY")
            self._connection.execute("PRAGMA synchronous = OFF")
            self._connection.execute("CREATE TABLE IF NOT EXISTS bucket (id TEXT PRIMARY KEY, full_at REAL NOT NULL)")
        except sqlite3.Error:
            self._connection.close()
            raise

    def seconds_to_wait(self, key_id: str, per_minute: int) -> float:
        """0 when the request may go on, which counts it; otherwise the seconds until one may.

        :raises sqlite3.Error: it cannot be counted.
        """
        step, now = _WINDOW_SECONDS / per_minute, self._clock()
        values = {"id": key_id, "now": now, "step": step, "window": _WINDOW_SECONDS + _EPSILON}
        if self._connection.execute(_TAKE, values).fetchone():
            return 0.0
        (full_at,) = self._connection.execute("SELECT full_at FROM bucket WHERE id = ?", (key_id,)).fetchone()
        return float(full_at) + step - now - _WINDOW_SECONDS
