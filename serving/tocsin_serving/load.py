"""How much work a server has at hand, told on /metrics for whoever adds servers when it grows."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Gauge

WAITING = "tocsin_waiting_seconds"


def tell_waiting(seconds: float) -> None:
    """Tell how long this worker's work at hand is measured to take; /metrics gives the sum over the workers."""
    _gauge().set(seconds)


@cache
def _gauge() -> Gauge:
    # Imported late: what a worker tells goes where BentoML's supervisor said, once it has.
    from prometheus_client import Gauge

    # A worker that ended has no work at hand, so only those alive count.
    return Gauge(WAITING, "Computing time of the texts not yet answered, all workers.", multiprocess_mode="livesum")
