"""The service under load, and under bad clients, all in one run.

    python benchmarks/load.py [--seconds 3] [--overload-seconds 10] [--idle 50] [--save]

Starts the service on the shipped release and prints requests a second and the 50th and 99th percentile of the latency
for 1, 8 and 64 clients with 1 and 64 texts a request, each client asking again as soon as it is answered; then what
happens beyond capacity, and beside clients that are slow, hang up, send too much or nothing at all. Every answer is
compared with the library's; one wrong answer ends the run. `make bench-load-long` has five minutes beyond capacity and
10,000 idle connections. The clients share the machine's cores with the service, so
their latencies hold their own work too; the service's own are the `seconds` of its log. `--save` writes the table to
benchmarks/load.md.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
from rich.console import Console
from rich.table import Table
from servers import PORT, service
from speed import CORES, ROOT, as_made, corpus_texts, cpu_name

from tocsin import EventClassifier

DISTINCT_TEXTS = 256
LOADS = tuple((clients, size) for clients in (1, 8, 64) for size in (1, 64))
"""Clients at once, and texts in each of their requests."""
OVERLOAD = (256, 64)
_BAD_CLIENTS = 50
# Longer than a good server makes anyone wait, so that what is lost is told from what is late.
PATIENCE_SECONDS = 120
# What a client waits that is refused without a word of when to ask again.
_UNTOLD_SECONDS = 1

Row = tuple[str, str, str, str, str]
# A server's answer, of a shape of its own.
Json = Any


@dataclass
class Outcome:
    """What a group of clients saw."""

    latencies: list[float] = field(default_factory=list)
    """Seconds of each answered request."""
    refusals: list[float] = field(default_factory=list)
    """Seconds until each 503 with Retry-After."""
    others: Counter[str] = field(default_factory=Counter)
    """Everything else: other statuses, broken connections."""
    texts: int = 0
    seconds: float = 0.0
    """Until the last answer, which may come long after the last question."""


class Questions(Protocol):
    """What clients ask, and what becomes of the answers."""

    def request(self, number: int, size: int) -> list[str]:
        """A request of some texts, another one for each number."""

    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        """What is sent to /classify for some texts."""

    def check(self, texts: Sequence[str], answer: Json) -> None:
        """Look at the answer about some texts."""


class Checked:
    """Questions to the service whose answers are known."""

    def __init__(self, texts: Sequence[str]) -> None:
        answers = EventClassifier.load().score_batch(texts).predictions(scores=False)
        self._labels = {text: [event.label for event in a.events] for text, a in zip(texts, answers, strict=True)}
        self._texts = list(texts)

    def request(self, number: int, size: int) -> list[str]:
        """Some of the texts, other ones for each number."""
        return [self._texts[(number * 31 + position) % len(self._texts)] for position in range(size)]

    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        """The service's own question."""
        return {"texts": texts}

    def first(self, text: str) -> str | None:
        """The library's most probable event, none for no event."""
        return self._labels[text][0] if self._labels[text] else None

    def check(self, texts: Sequence[str], answer: Json) -> None:
        """End the run if an answer is not the library's."""
        for text, prediction in zip(texts, answer, strict=True):
            if [event["label"] for event in prediction["events"]] != self._labels[text]:
                raise SystemExit(f"wrong answer to: {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="length of each measurement")
    parser.add_argument("--overload-seconds", type=float, default=10, help="length of that beyond capacity")
    parser.add_argument("--idle", type=int, default=_BAD_CLIENTS, help="connections that are open and silent")
    parser.add_argument("--save", action="store_true", help="write benchmarks/load.md")
    arguments = parser.parse_args()
    check_open_files(arguments.idle)
    checked = Checked(corpus_texts(DISTINCT_TEXTS))
    with service():
        rows = asyncio.run(measure(checked, arguments.seconds, arguments.overload_seconds, arguments.idle))
    report(rows, arguments.save)


def check_open_files(idle: int) -> None:
    """Refuse to begin what would end for want of file descriptors; the service has the same limit for each worker."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < idle + OVERLOAD[0]:
        raise SystemExit(f"--idle {idle}: this shell allows {limit} open files; raise it with `ulimit -n {2 * idle}`")


async def measure(checked: Checked, seconds: float, overload_seconds: float, idle_connections: int) -> list[Row]:
    rows = []
    for clients, size in LOADS:
        outcome = await load(checked, clients=clients, size=size, seconds=seconds)
        rows.append(row(f"{clients} clients, {size} texts a request", outcome))
    clients, size = OVERLOAD
    outcome = await load(checked, clients=clients, size=size, seconds=overload_seconds)
    rows.append(row(f"beyond capacity: {clients} clients, {size} texts, {overload_seconds:.0f} s", outcome))
    for name, misbehave in BAD_CLIENTS.items():
        crowd = idle_connections if misbehave is idle else _BAD_CLIENTS
        async with beside(misbehave, crowd):
            outcome = await load(checked, clients=8, size=1, seconds=seconds)
        rows.append(row(f"8 clients, 1 text, beside {crowd:,} {name}", outcome))
    return rows


async def load(
    questions: Questions, *, clients: int, size: int, seconds: float, patience: float = PATIENCE_SECONDS
) -> Outcome:
    """Clients that ask at least once, again as soon as they are answered, and wait as long as a 503 says.

    :param patience: seconds after which a client hangs up that has no answer.
    """
    outcome = Outcome()
    begun = time.perf_counter()
    end = begun + seconds
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=patience, limits=limits) as client:

        async def ask_until_the_end(first: int) -> None:
            for number in itertools.count(first, clients):
                await ask(client, questions, number, size, outcome, end)
                if time.perf_counter() >= end:
                    return

        await asyncio.gather(*(ask_until_the_end(first) for first in range(clients)))
    outcome.seconds = time.perf_counter() - begun
    return outcome


async def ask(
    client: httpx.AsyncClient, questions: Questions, number: int, size: int, outcome: Outcome, end: float
) -> None:
    texts = questions.request(number, size)
    begun = time.perf_counter()
    try:
        answer = await client.post("/classify", json=questions.body(texts))
    except httpx.TransportError as error:
        outcome.others[type(error).__name__] += 1
        return
    took = time.perf_counter() - begun
    if answer.status_code == 200:
        questions.check(texts, answer.json())
        outcome.latencies.append(took)
        outcome.texts += size
        return
    wait = _UNTOLD_SECONDS
    if answer.status_code == 503 and "retry-after" in answer.headers:
        outcome.refusals.append(took)
        wait = int(answer.headers["retry-after"])
    else:
        outcome.others[str(answer.status_code)] += 1
    await asyncio.sleep(min(wait, max(0.0, end - time.perf_counter())))


def row(name: str, outcome: Outcome) -> Row:
    rate = f"{len(outcome.latencies) / outcome.seconds:.0f} / {outcome.texts / outcome.seconds:.0f}"
    refused = f"{len(outcome.refusals)} in {percentiles(outcome.refusals)}" if outcome.refusals else "0"
    others = ", ".join(f"{count} x {what}" for what, count in outcome.others.items()) or "none"
    return name, rate, percentiles(outcome.latencies), refused, others


def percentiles(seconds: Sequence[float]) -> str:
    """50th and 99th percentile in milliseconds."""
    if len(seconds) < 2:
        return "-"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{cuts[49] * 1000:.0f} / {cuts[98] * 1000:.0f} ms"


Misbehaviour = Callable[[], Awaitable[None]]
_HEAD = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


async def slow() -> None:
    """A body of a byte a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(_HEAD % 1000)
    for _ in range(1000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(1)
    await reader.read(1)


async def half_closed() -> None:
    """Says it will send no more, in the middle of a body, over and over."""
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(_HEAD % 1000 + b'{"texts": ["')
        writer.write_eof()
        await asyncio.sleep(0.2)
        writer.close()


async def oversized() -> None:
    """8 MB of one text, over and over."""
    body = b'{"texts": ["' + b"a" * 8_000_000 + b'"]}'
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=120) as client:
        while True:
            status = (await client.post("/classify", content=body)).status_code
            if status not in (413, 503):
                raise SystemExit(f"an oversized body was answered with {status}")
            await asyncio.sleep(1)


async def idle() -> None:
    """Connected, and silent."""
    reader, _ = await asyncio.open_connection("127.0.0.1", PORT)
    await reader.read(1)


BAD_CLIENTS: dict[str, Misbehaviour] = {
    "slow bodies": slow,
    "half-closed connections": half_closed,
    "oversized bodies": oversized,
    "idle connections": idle,
}


@asynccontextmanager
async def beside(misbehave: Misbehaviour, size: int) -> AsyncIterator[None]:
    """A crowd of bad clients, for as long as the block lasts."""

    async def again_and_again() -> None:
        while True:
            try:
                await misbehave()
            except (OSError, httpx.TransportError):
                await asyncio.sleep(0.1)

    crowd = [asyncio.create_task(again_and_again()) for _ in range(size)]
    # They connect a few thousand a second.
    await asyncio.sleep(0.5 + size / 2000)
    try:
        yield
    finally:
        for one in crowd:
            one.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)


def report(rows: Sequence[Row], save: bool) -> None:
    title = f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {CORES} cores, {CORES} workers"
    columns = ("who asks", "requests / texts a second", "latency p50 / p99", "503 with Retry-After", "other outcomes")
    table = Table(*columns, title=title)
    for each in rows:
        table.add_row(*each)
    Console().print(table)
    if save:
        lines = [f"# Load\n\n{title}. Made by `{as_made('bench-load')}`.\n", f"| {' | '.join(columns)} |"]
        lines += ["| --- " * len(columns) + "|", *(f"| {' | '.join(each)} |" for each in rows)]
        (ROOT / "benchmarks/load.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
