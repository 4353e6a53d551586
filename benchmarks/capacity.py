"""What a core does, what a worker holds, and so what some number of texts a day takes.

    python benchmarks/capacity.py [--texts 1000] [--save]

Under two minutes on a quiet machine. One worker is measured, over HTTP with the clients on the other cores, and in a
batch job; every further core does as much again, less where cores share caches and clock (`make bench` measures all of
them at once). `--save` writes the tables, with date and machine, to benchmarks/capacity.md.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil
from rich.console import Console
from rich.table import Table
from servers import server as running_server
from speed import CORES, ROOT, batch_job, corpus_texts, cpu_name, in_process, in_turns, post, proportional_memory
from speed import measured as timed

from tocsin import EventClassifier, Release

_TEXTS_A_REQUEST = 64
_CLIENTS = 4
_JOB_ROUNDS = 3
_DAY_SECONDS = 86_400
_DEMANDS = {"1 million": 10**6, "10 million": 10**7, "100 million": 10**8, "1 billion": 10**9}
_PEAK = 2
"""The service has cores for so many times the mean: news comes in waves, and a busy server makes people wait."""

Row = tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """Texts a second of one core, and what that core's worker costs."""

    library: float
    service: float
    batch: float
    start_seconds: float
    supervisor_bytes: int
    worker_bytes: int
    batch_bytes: int
    tokens: float
    """Of a text, on average."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--save", action="store_true", help="write benchmarks/capacity.md")
    arguments = parser.parse_args()
    measured = measure(corpus_texts(arguments.texts))
    report(measured, arguments.texts, arguments.save)


def measure(texts: Sequence[str]) -> Measured:
    service, start_seconds, supervisor, worker = one_worker(texts)
    batch, batch_bytes = batch_job(in_turns(texts, _JOB_ROUNDS), "--workers", "1")
    return Measured(
        library=in_process(texts).texts_per_second,
        service=service,
        batch=batch,
        start_seconds=start_seconds,
        supervisor_bytes=supervisor,
        worker_bytes=worker,
        batch_bytes=batch_bytes,
        tokens=statistics.mean(EventClassifier.load().token_counts(list(texts))),
    )


def one_worker(texts: Sequence[str]) -> tuple[float, float, int, int]:
    """A server of one worker: texts a second, seconds until it is ready, bytes of the supervisor and of the worker."""
    requests = [list(texts[start : start + _TEXTS_A_REQUEST]) for start in range(0, len(texts), _TEXTS_A_REQUEST)]
    begun = time.perf_counter()
    with running_server(workers=1) as (process, client):
        start_seconds = time.perf_counter() - begun
        post(client, requests[0])

        def everything() -> None:
            with ThreadPoolExecutor(_CLIENTS) as pool:
                list(pool.map(lambda request: post(client, request), requests))

        rate = timed(everything, len(texts), rounds=2).texts_per_second
        # After work: buffers have grown to what they need.
        supervisor, worker = memory(process)
    return rate, start_seconds, supervisor, worker


def memory(server: psutil.Process) -> tuple[int, int]:
    """Bytes of everything but the worker, and of the worker, the largest child; shared pages split between them."""
    children = [proportional_memory(child) for child in server.children(recursive=True)]
    worker = max(children)
    return proportional_memory(server) + sum(children) - worker, worker


def measured_rows(measured: Measured) -> list[Row]:
    return [
        ("library, one thread", f"{measured.library:.0f} texts/s"),
        (f"service, one worker, {_TEXTS_A_REQUEST} texts a request", f"{measured.service:.0f} texts/s"),
        ("batch job, one worker, start-up included", f"{measured.batch:.0f} texts/s"),
        ("tokens of a text, mean", f"{measured.tokens:.0f}"),
        ("service: from the command to ready, one worker", f"{measured.start_seconds:.1f} s"),
        ("service: memory of each worker, after work", megabytes(measured.worker_bytes)),
        ("service: memory of the rest, once", megabytes(measured.supervisor_bytes)),
        ("batch job of one worker: peak memory, all processes", megabytes(measured.batch_bytes)),
    ]


def demand_rows(measured: Measured) -> list[Row]:
    return [
        (
            name,
            f"{texts / _DAY_SECONDS:,.0f}",
            f"{cores(texts * _PEAK, measured.service):,}",
            f"{cores(texts, measured.batch):,}",
            f"{texts / measured.batch / 3600:,.0f}",
        )
        for name, texts in _DEMANDS.items()
    ]


def cores(texts_a_day: float, texts_a_second: float) -> int:
    """Cores that get through so many texts in a day."""
    return math.ceil(texts_a_day / _DAY_SECONDS / texts_a_second)


def megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def report(measured: Measured, texts: int, save: bool) -> None:
    title = (
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {CORES} cores, release {Release.open().name}, "
        f"{texts} texts of the test split"
    )
    tables: dict[str, list[Row]] = {
        title: [("what", "measured"), *measured_rows(measured)],
        f"What a day's texts take; the service with cores for {_PEAK} times the mean": [
            ("texts a day", "texts a second, mean", "service: cores", "batch: cores, all day", "batch: core hours"),
            *demand_rows(measured),
        ],
    }
    for name, (columns, *rows) in tables.items():
        table = Table(*columns, title=name)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    if save:
        lines = ["# Capacity", "", "Made by `make bench-capacity ARGS=--save`; docs/capacity.md says how to read it."]
        for name, (columns, *rows) in tables.items():
            lines += [
                "",
                f"{name}.",
                "",
                *(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows)),
            ]
        (ROOT / "benchmarks/capacity.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
