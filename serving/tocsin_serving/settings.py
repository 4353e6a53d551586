"""The service's limits, read once from the environment when the service is imported.

Every field is overridable by ``TOCSIN_`` and its name in capitals, such as ``TOCSIN_MAX_TEXTS=200``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, Self

from tocsin import UsageError

PREFIX = "TOCSIN_"
RELEASE_VARIABLE = f"{PREFIX}RELEASE"
"""Environment variable that names the release to serve: a folder or store:name; the shipped one without it."""
# Fields that may be 0; every other one must be at least 1.
_MAY_BE_ZERO = frozenset({"workers", "log_texts"})
BYTES_A_CHARACTER = 12
"""Most that JSON takes for one, escaped as two \\uXXXX (RFC 8259, section 7)."""
# {"text": "..."} needs a dozen; the rest is for white space.
_BYTES_AROUND_A_TEXT = 1_024


def available_cores() -> int:
    """Cores this process may use; containers and ``taskset`` give fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *cpu_quotas()])


def cpu_quotas(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Cores, rounded up, that the CPU limits come to under which Docker, Kubernetes or systemd put this process.

    A limit is a share of time on all the machine's cores, which `os.sched_getaffinity` knows nothing of. Of cgroup v2
    only; the kernel writes "QUOTA PERIOD" or "max PERIOD" (Documentation/admin-guide/cgroup-v2.rst).
    """
    found = []
    try:
        place = next(line[3:] for line in membership.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return []
    inside = Path(place.strip("/"))
    for level in (inside, *inside.parents):
        try:
            quota, period = (cgroups / level / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            found.append(max(1, -(-int(quota) // int(period))))
    return found


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one worker accepts, and how long it lets people wait."""

    max_text_characters: int = 20_000
    """Longest text of /classify."""
    max_texts: int = 1_000
    """Most texts in one request; a stream of lines has no such limit."""
    max_bad_lines: int = 1_000
    """Lines in a row that cannot be used, after which a stream is ended."""
    max_document_characters: int = 200_000
    """Longest document of /classify_document."""
    max_body_bytes: int = 4 * 1024 * 1024
    """Longest request body; of a stream, see `max_line_bytes`."""
    max_waiting: int = 512
    """Requests and streams a worker holds at once; the next one gets 503 with Retry-After."""
    max_held_bytes: int = 64 * 1024 * 1024
    """Request bodies, and lines unfinished or not answered, a worker holds at once, in bytes; the next gets 503."""
    caller_share: float = 0.25
    """Part of those requests and bytes that one key may have, or without keys one address; 1 for all."""
    max_wait_ms: int = 3_000
    """A request that others are measured to hold up for longer than this, and than it takes by itself, gets 503 with
    Retry-After. Three seconds keep the cores busy; more would only make everyone wait longer."""
    batch_tokens: int = 1_024
    """Tokens computed in one turn, from as many requests as are waiting; also what a stream reads ahead."""
    body_seconds: int = 20
    """A request whose body is not complete by then gets 408."""
    idle_seconds: int = 60
    """A stream whose client neither sends nor reads for this long is cut off."""
    timeout_seconds: int = 60
    """A request that is not answered by then gets 504."""
    workers: int = 0
    """Worker processes, one computing thread each; 0 means one per core."""
    log_texts: int = 0
    """1 writes the texts of requests into the log; 0 writes their lengths and hashes only."""
    drift_window_seconds: int = 86_400
    """How far back the answers reach that are held against the reference. A day: news has a rhythm of days."""
    drift_min_texts: int = 1_000
    """Texts in that window from which anything is said of drift. Of fewer, chance alone makes much of an index."""
    drift_alarm_psi: float = 0.25
    """Population stability index from which there is an alarm."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Defaults with the overrides of the environment.

        :raises UsageError: a variable is not a number of its kind or is too small, by name.
        """
        given = {field: environ.get(PREFIX + field.name.upper()) for field in fields(cls)}
        return cls(**{field.name: _number(field, text) for field, text in given.items() if text is not None})

    @property
    def max_line_bytes(self) -> int:
        """Longest line of a stream: that of the longest text with every character escaped."""
        return min(self.max_body_bytes, self.max_text_characters * BYTES_A_CHARACTER + _BYTES_AROUND_A_TEXT)

    @property
    def caller_places(self) -> int:
        """Requests and streams that a worker holds of one caller at once."""
        return max(1, int(self.max_waiting * self.caller_share))

    @property
    def caller_bytes(self) -> int:
        """Bytes that a worker holds of one caller at once; the longest body always goes."""
        return max(self.max_body_bytes, int(self.max_held_bytes * self.caller_share))

    @property
    def worker_processes(self) -> int:
        """Worker processes to start, with the default of one per core resolved."""
        return self.workers or available_cores()


def _number(field: Field[Any], text: str) -> Any:  # noqa: ANN401  of the field's type
    return _positive(field.name, text) if isinstance(field.default, float) else _whole_number(field.name, text)


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{PREFIX}{name.upper()} must be a number above 0, not {text!r}")
    return value


def _whole_number(name: str, text: str) -> int:
    least = 0 if name in _MAY_BE_ZERO else 1
    if not text.strip().isdecimal() or int(text) < least:
        raise UsageError(f"{PREFIX}{name.upper()} must be a whole number of at least {least}, not {text!r}")
    return int(text)
