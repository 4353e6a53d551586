"""Work in several processes that learn together: each takes its part of every batch, and gradients are averaged.

For several GPUs, one for each; the threads of one process use the cores of a CPU as well (docs/experiments.md).
torchrun's launcher starts them (https://docs.pytorch.org/docs/stable/elastic/run.html) and the Trainer sees by their
environment what they are.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar, cast

from tocsin.errors import TocsinError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def processes_together() -> int:
    """How many learn together with this one, itself included; 1 where it is alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes and tells; where it is alone, it is."""
    return os.environ.get("RANK", "0") == "0"


def side_by_side(processes: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call ``work`` in so many new processes at once, or here where one is enough.

    :param work: a function of a module, which the processes can import; its arguments are pickled for them.

    :return: what it returned in the first of them.
    :raises TocsinError: what it raised, once all have ended.
    """
    if processes == 1:
        return work(*args, **kwargs)
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="tocsin",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.1,
    )
    with _signals_given_back():
        try:
            told = elastic_launch(config, _told)(work, args, kwargs)
        except SignalException as stopped:
            raise KeyboardInterrupt from stopped
    if isinstance(told[0], TocsinError):
        raise told[0]
    return cast("_T", told[0])


def _told(work: Callable[..., _T], args: tuple[object, ...], kwargs: dict[str, object]) -> _T | TocsinError:
    """Errors that are messages for people go home as they are; the launcher would print a traceback of each."""
    try:
        return work(*args, **kwargs)
    except TocsinError as error:
        return error


@contextmanager
def _signals_given_back() -> Iterator[None]:
    """The launcher takes signals for itself and keeps them."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
