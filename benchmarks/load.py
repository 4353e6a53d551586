"""The service under load, and under bad clients, all in one run.

    python benchmarks/load.py [--seconds 3] [--overload-seconds 10] [--idle 50] [--save]

Starts the service on the shipped release and prints how many requests were answered, requests a second and the 50th and
99th percentile of the latency for 1, 8 and 64 clients with 1 and 64 texts a request, each client asking again as soon
as it is answered. What it gets through at most is its capacity; then ten times as many requests a second come, evenly
and whatever becomes of those before them, and the table says how many times it was in the end. Last come clients that
are slow, hang up, send too much or nothing at all. Every answer is compared with the library's, in every field; one
wrong answer ends the run, and how many were compared is printed. `make bench-load-long` has five minutes beyond
capacity and 10,000 idle connections.

The clients are Python and share the machine's cores with the service, so their latencies hold their own work too.
Where `wrk` is installed (Debian: `apt-get install wrk`), which costs next to nothing, it asks the same in rows of its
own, and its answers are counted, not compared. `--save` writes the table to benchmarks/load.md.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import wrk
from rich.console import Console
from rich.table import Table
from servers import PORT, service
from speed import CORES, ROOT, as_made, corpus_texts, cpu_name

from tocsin import EventClassifier
from tocsin_serving.settings import Settings

DISTINCT_TEXTS = 256
LOADS = tuple((clients, size) for clients in (1, 8, 64) for size in (1, 64))
"""Clients at once, and texts in each of their requests."""
OVERLOAD_FACTOR = 10
# So that it is ten times, too, what turns out to be answered meanwhile.
_OVERLOAD_MARGIN = 1.1
# Clients that keep the queue full, for as long as it takes to measure what the service gets through.
_CALIBRATION = (32, 10)
OVERLOAD_TEXTS = 64
_BAD_CLIENTS = 50
# Files that the clients beyond capacity have open at once, at most.
_OVERLOAD_FILES = 512
# Of probabilities. Those of one text differ by rounding alone, whatever it is computed with.
_TOLERANCE = 1e-5
# Longer than a good server makes anyone wait, so that what is lost is told from what is late.
PATIENCE_SECONDS = 120
# What a client waits that is refused without a word of when to ask again.
_UNTOLD_SECONDS = 1

Row = tuple[str, str, str, str, str, str]
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

    @property
    def answered(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds


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
        predictions = EventClassifier.load().score_batch(texts).predictions(scores=False)
        self._answers: dict[str, Json] = {
            text: prediction.model_dump(mode="json") for text, prediction in zip(texts, predictions, strict=True)
        }
        self._texts = list(texts)
        self.compared = 0
        """Answers to texts that were found to be the library's."""

    def request(self, number: int, size: int) -> list[str]:
        """Some of the texts, other ones for each number."""
        return [self._texts[(number * 31 + position) % len(self._texts)] for position in range(size)]

    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        """The service's own question."""
        return {"texts": texts}

    def first(self, text: str) -> str | None:
        """The library's most probable event, none for no event."""
        events = self._answers[text]["events"]
        return events[0]["label"] if events else None

    def check(self, texts: Sequence[str], answer: Json) -> None:
        """End the run if an answer is not the library's, field by field."""
        for text, prediction in zip(texts, answer, strict=True):
            if not same(self._answers[text], prediction):
                raise SystemExit(f"wrong answer to: {text}\nlibrary: {self._answers[text]}\nservice: {prediction}")
        self.compared += len(texts)


def same(expected: Json, found: Json) -> bool:
    """Whether two JSON values are the same, numbers with a fraction within the tolerance."""
    if isinstance(expected, float):
        return isinstance(found, float | int) and abs(expected - found) <= _TOLERANCE
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and expected.keys() == found.keys()
            and all(same(value, found[name]) for name, value in expected.items())
        )
    if isinstance(expected, list):
        return isinstance(found, list) and len(expected) == len(found) and all(map(same, expected, found))
    return bool(expected == found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="length of each measurement")
    parser.add_argument("--overload-seconds", type=float, default=10, help="length of that beyond capacity")
    parser.add_argument("--idle", type=int, default=_BAD_CLIENTS, help="connections that are open and silent")
    parser.add_argument("--save", action="store_true", help="write benchmarks/load.md")
    arguments = parser.parse_args()
    check_open_files(arguments.idle + _OVERLOAD_FILES)
    checked = Checked(corpus_texts(DISTINCT_TEXTS))
    with service():
        rows, notes = asyncio.run(measure(checked, arguments.seconds, arguments.overload_seconds, arguments.idle))
    notes.append(
        f"Answers to {checked.compared:,} texts were compared with the library's, field by field; none differs."
    )
    report(rows, notes, arguments.save)


def check_open_files(connections: int) -> None:
    """Refuse to begin what would end for want of file descriptors; the service has the same limit for each worker."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < connections:
        message = f"{connections} connections: this shell allows {limit} open files; raise it with"
        raise SystemExit(f"{message} `ulimit -n {2 * connections}`")


async def measure(
    checked: Checked, seconds: float, overload_seconds: float, idle_connections: int
) -> tuple[list[Row], list[str]]:
    """Rows of the table, and what is to be said below it."""
    # Threads, caches and memory as in use, whoever comes first.
    await load(checked, clients=8, size=DISTINCT_TEXTS // 8, seconds=1)
    outcomes = {}
    for clients, size in LOADS:
        say(who(clients, size))
        outcomes[clients, size] = await load(checked, clients=clients, size=size, seconds=seconds)
    rows = [row(who(*asked), outcome) for asked, outcome in outcomes.items()]
    cross_rows, notes = await cross_check(checked, seconds)
    rows += cross_rows
    capacity = await measured_capacity(checked, outcomes)
    beyond, offered = await beyond_capacity(checked, capacity, overload_seconds)
    # Whichever is more: the service may get through more now than it did before.
    reached = offered / max(capacity, beyond.answered)
    name = f"{reached:.1f} times capacity: {offered:.0f} requests a second come, {OVERLOAD_TEXTS} texts each"
    rows.append(row(f"{name}, {overload_seconds:.0f} s", beyond))
    notes.append(bound_note(outcomes[1, OVERLOAD_TEXTS], beyond))
    for name, misbehave in BAD_CLIENTS.items():
        crowd = idle_connections if misbehave is idle else _BAD_CLIENTS
        say(f"beside {crowd:,} {name}")
        async with beside(misbehave, crowd):
            outcome = await load(checked, clients=8, size=1, seconds=seconds)
        rows.append(row(f"8 clients, 1 text, beside {crowd:,} {name}", outcome))
    return rows, notes


def who(clients: int, size: int) -> str:
    """Who asks, in words."""
    return f"{clients} client{'s' * (clients > 1)}, {size} text{'s' * (size > 1)} a request"


async def cross_check(questions: Questions, seconds: float) -> tuple[list[Row], list[str]]:
    """The same loads by wrk, where it is installed."""
    if not wrk.installed():
        return [], ["wrk is not installed: all latencies are those that Python clients on the same cores see."]
    rows = []
    for clients, size in LOADS:
        say(f"{who(clients, size)}, asked by wrk")
        bodies = [questions.body(questions.request(number, size)) for number in range(DISTINCT_TEXTS)]
        found = await asyncio.to_thread(wrk.measure, bodies, clients=clients, seconds=seconds)
        rows.append(wrk_row(f"{who(clients, size)}, asked by wrk", found, size))
    return rows, [
        "wrk's percentiles are of all its requests, refused ones too, where there are any; what is under way when its "
        "time is up it does not count."
    ]


async def measured_capacity(questions: Questions, outcomes: Mapping[tuple[int, int], Outcome]) -> float:
    """Requests of `OVERLOAD_TEXTS` that the service answers in a second, at most."""
    clients, seconds = _CALIBRATION
    full = await load(questions, clients=clients, size=OVERLOAD_TEXTS, seconds=seconds)
    return max(full.answered, *(outcome.answered for (_, size), outcome in outcomes.items() if size == OVERLOAD_TEXTS))


async def beyond_capacity(questions: Questions, capacity: float, seconds: float) -> tuple[Outcome, float]:
    """What becomes of more than can be served, and how many requests a second came.

    :param capacity: requests a second.
    """
    say(f"{OVERLOAD_FACTOR} times a capacity of {capacity:.1f} requests a second, {seconds:.0f} s")
    return await offer(
        questions, rate=OVERLOAD_FACTOR * _OVERLOAD_MARGIN * capacity, size=OVERLOAD_TEXTS, seconds=seconds
    )


def bound_note(alone: Outcome, beyond: Outcome) -> str:
    """What an accepted request took beyond capacity, beside what is promised."""
    wait = Settings.from_environment().max_wait_ms
    return (
        f"Beyond capacity accepted requests took {percentiles(beyond.latencies)} (p50 / p99). They are held up for "
        f"TOCSIN_MAX_WAIT_MS ({wait:,} ms) by what the service measures, and take "
        f"{percentiles(alone.latencies)} with nobody else there."
    )


async def load(
    questions: Questions, *, clients: int, size: int, seconds: float, patience: float = PATIENCE_SECONDS
) -> Outcome:
    """Clients that ask at least once, again as soon as they are answered, and wait as long as a 503 says.

    :param patience: seconds after which a client hangs up that has no answer.
    """
    outcome = Outcome()
    begun = time.perf_counter()
    end = begun + seconds
    async with many_connections(patience) as client:

        async def ask_until_the_end(first: int) -> None:
            for number in itertools.count(first, clients):
                wait = await ask(client, questions, number, size, outcome, due=time.perf_counter())
                left = end - time.perf_counter()
                if left <= 0:
                    return
                await asyncio.sleep(min(wait, left))

        await asyncio.gather(*(ask_until_the_end(first) for first in range(clients)))
    outcome.seconds = time.perf_counter() - begun
    return outcome


async def offer(questions: Questions, *, rate: float, size: int, seconds: float) -> tuple[Outcome, float]:
    """Requests that come evenly, whatever becomes of those before them; who is refused does not come back.

    Latencies count from when a request was due, so that what is late in being sent hides no wait.

    :param rate: requests a second.
    :return: what became of them, and how many came a second in the end.
    """
    outcome = Outcome()
    count = max(1, round(rate * seconds))
    begun = time.perf_counter()
    async with many_connections(PATIENCE_SECONDS) as client, asyncio.TaskGroup() as asking:
        for number in range(count):
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asking.create_task(ask(client, questions, number, size, outcome, due=due))
        # The last one's turn lasts, too.
        took = max(count / rate, time.perf_counter() - begun)
    outcome.seconds = time.perf_counter() - begun
    return outcome, count / took


def many_connections(patience: float) -> httpx.AsyncClient:
    """A client that keeps nobody waiting for a connection.

    :param patience: seconds after which it hangs up that has no answer.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=patience, limits=limits)


async def ask(
    client: httpx.AsyncClient, questions: Questions, number: int, size: int, outcome: Outcome, *, due: float
) -> float:
    """Ask once, and give the seconds to wait before the next question.

    :param due: when the latency begins, by `time.perf_counter`.
    """
    texts = questions.request(number, size)
    try:
        answer = await client.post("/classify", json=questions.body(texts))
    except httpx.TransportError as error:
        outcome.others[type(error).__name__] += 1
        return 0
    took = time.perf_counter() - due
    if answer.status_code == 200:
        questions.check(texts, answer.json())
        outcome.latencies.append(took)
        outcome.texts += size
        return 0
    if answer.status_code == 503 and "retry-after" in answer.headers:
        outcome.refusals.append(took)
        return int(answer.headers["retry-after"])
    outcome.others[str(answer.status_code)] += 1
    return _UNTOLD_SECONDS


def row(name: str, outcome: Outcome) -> Row:
    rate = f"{outcome.answered:.1f} / {outcome.texts / outcome.seconds:.0f}"
    refused = f"{len(outcome.refusals):,} in {percentiles(outcome.refusals)}" if outcome.refusals else "0"
    others = ", ".join(f"{count} x {what}" for what, count in outcome.others.items()) or "none"
    return name, f"{len(outcome.latencies):,}", rate, percentiles(outcome.latencies), refused, others


def wrk_row(name: str, found: wrk.Found, size: int) -> Row:
    answered = found.requests - found.refused - found.failed
    rate = f"{answered / found.seconds:.1f} / {answered * size / found.seconds:.0f}"
    others = f"{found.failed} failed" if found.failed else "none"
    latency = f"{found.p50 * 1000:.0f} / {found.p99 * 1000:.0f} ms"
    return name, f"{answered:,}", rate, latency, f"{found.refused:,}", others


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


def say(what: str) -> None:
    """Of what takes minutes, on the side of the table."""
    Console(stderr=True).print(what, highlight=False)


def report(rows: Sequence[Row], notes: Sequence[str], save: bool) -> None:
    title = f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {CORES} cores, {CORES} workers"
    columns = (
        "who asks",
        "answered",
        "requests / texts a second",
        "latency p50 / p99",
        "503 with Retry-After",
        "other outcomes",
    )
    table = Table(*columns, title=title)
    for each in rows:
        table.add_row(*each)
    Console().print(table)
    for note in notes:
        Console().print(note, highlight=False)
    if save:
        lines = [f"# Load\n\n{title}. Made by `{as_made('bench-load')}`.\n", f"| {' | '.join(columns)} |"]
        lines += ["| --- " * len(columns) + "|", *(f"| {' | '.join(each)} |" for each in rows)]
        lines += ["", *(f"- {note}" for note in notes)]
        (ROOT / "benchmarks/load.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
