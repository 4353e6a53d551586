"""The service's limits, read once from the environment when the service is imported.

Every field is overridable by ``TOCSIN_`` and its name in capitals, such as ``TOCSIN_MAX_TEXTS=200``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from tocsin import UsageError

PREFIX = "TOCSIN_"


def available_cores() -> int:
    """Cores this process may use; containers and ``taskset`` give fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one worker accepts, and how long it lets people wait."""

    max_text_characters: int = 20_000
    """Longest text of /classify."""
    max_texts: int = 1_000
    """Most texts in one request."""
    max_document_characters: int = 200_000
    """Longest document of /classify_document."""
    max_body_bytes: int = 4 * 1024 * 1024
    max_waiting: int = 64
    """Requests a worker takes on at once; the next one gets 503 with Retry-After."""
    retry_after_seconds: int = 1
    batch_requests: int = 32
    """Most requests the adaptive batcher puts into one batch."""
    batch_latency_ms: int = 20_000
    """Requests that the batcher expects to wait longer than this get 503 with Retry-After."""
    timeout_seconds: int = 60
    """A request that is not answered by then gets 504."""
    workers: int = 0
    """Worker processes, one computing thread each; 0 means one per core."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Defaults with the overrides of the environment.

        :raises UsageError: a variable is not a whole number or is too small, by name.
        """
        given = {field.name: environ.get(PREFIX + field.name.upper()) for field in fields(cls)}
        return cls(**{name: _whole_number(name, text) for name, text in given.items() if text is not None})

    @property
    def worker_processes(self) -> int:
        """Worker processes to start, with the default of one per core resolved."""
        return self.workers or available_cores()


def _whole_number(name: str, text: str) -> int:
    # 2 is the smallest batch BentoML's batcher takes.
    least = {"workers": 0, "batch_requests": 2}.get(name, 1)
    if not text.strip().isdecimal() or int(text) < least:
        raise UsageError(f"{PREFIX}{name.upper()} must be a whole number of at least {least}, not {text!r}")
    return int(text)
