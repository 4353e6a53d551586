"""Answers that broke off after they had begun, told on /metrics.

BentoML counts a request when its answer is complete, so these would be in no count at all.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from prometheus_client import Counter

Reason = Literal["client", "refused", "overload", "timeout", "fault"]
"""Why an answer broke off.

The client hung up or was silent for too long; it sent what ends a stream, or held more than its share; the service held
as much as it may; the time was up; something went wrong in the service.
"""


def count_from_zero() -> None:
    """Put the counter on /metrics, so that its first rise is seen as one."""
    for reason in get_args(Reason):
        _counter().labels(reason)


def tell_broken(reason: Reason) -> None:
    """Count an answer that broke off."""
    _counter().labels(reason).inc()


@cache
def _counter() -> Counter:
    # Imported late: what a worker tells goes where BentoML's supervisor said, once it has.
    from prometheus_client import Counter

    return Counter("tocsin_streams_broken", "Answers that broke off after they had begun.", ["reason"])
