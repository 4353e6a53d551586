"""The door: overload, hang-ups, slowness, limits and callers, on an application that does what the test says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import selectors
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
from prometheus_client import REGISTRY
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from tocsin import EventClassifier, Prediction, UsageError
from tocsin_serving import desk as desk_module
from tocsin_serving.desk import ADMITTED, Desk, Ticket
from tocsin_serving.guard import RequestGuard
from tocsin_serving.keys import Keyring, new_key
from tocsin_serving.rate_limit import RateLimiter
from tocsin_serving.refusal import RefusedError, overloaded
from tocsin_serving.releases import ServedRelease
from tocsin_serving.request_log import CLIENT_GONE
from tocsin_serving.settings import Settings
from tocsin_serving.work import Turn

BODY = b'{"texts": ["one"]}'
_PREDICTION = cast("Prediction", SimpleNamespace())


class Exchange:
    """One request through a guard, and what came back."""

    def __init__(
        self,
        *parts: bytes,
        hang_up: bool = False,
        path: str = "/classify",
        method: str = "POST",
        headers: dict[str, str] | None = None,
        query: bytes = b"",
    ) -> None:
        self.sent: list[Message] = []
        last = len(parts) - 1
        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        self._scope = {"type": "http", "method": method, "path": path, "headers": raw, "query_string": query}
        self._incoming: list[Message] = [
            {"type": "http.request", "body": part, "more_body": index < last or hang_up}
            for index, part in enumerate(parts)
        ]
        if hang_up:
            self._incoming.append({"type": "http.disconnect"})

    async def through(self, guard: RequestGuard) -> Exchange:
        await guard(self._scope, self._receive, self._send)
        return self

    async def _receive(self) -> Message:
        # A client that has said everything and waits.
        return self._incoming.pop(0) if self._incoming else await asyncio.Future()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode().lower(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


class Leaver(Exchange):
    """Hangs up soon after it has said everything."""

    async def _receive(self) -> Message:
        if self._incoming:
            return self._incoming.pop(0)
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}


class Application:
    """Answers once it is let go."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.bodies: list[bytes] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        if open_gate:
            self.gate.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append((await receive())["body"] if scope["method"] == "POST" else b"")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await JSONResponse([])(scope, receive, send)


@pytest.fixture
def desk(tiny_release: Path, tmp_path: Path) -> Desk:
    return Desk(ServedRelease(str(tiny_release), tmp_path / "notice.json"), Settings())


def guarded(
    application: Application, desk: Desk, settings: Settings | None = None, keyring: Keyring | None = None
) -> RequestGuard:
    return RequestGuard(
        application,
        desk=lambda: desk,
        settings=settings or Settings(),
        keyring=keyring or Keyring(),
        limiter=lambda: RateLimiter(Path(":memory:")),
    )


def only_noted_as_gone(exchange: Exchange) -> bool:
    """Whether nothing was sent but the beginning that BentoML's middlewares wait for and the server drops."""
    return [message.get("status") for message in exchange.sent] == [CLIENT_GONE]


def run(scenario: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401  whatever the scenario gives
    async def within_seconds() -> Any:  # noqa: ANN401
        async with asyncio.timeout(60):
            return await scenario

    return asyncio.run(within_seconds())


def test_beyond_capacity_is_told_to_come_back_and_the_rest_is_served(desk: Desk) -> None:
    async def scenario() -> list[Exchange]:
        application = Application(open_gate=False)
        guard = guarded(application, desk, Settings(max_waiting=2))
        accepted = [asyncio.create_task(Exchange(BODY).through(guard)) for _ in range(2)]
        await asyncio.sleep(0.1)
        refused = await Exchange(BODY).through(guard)
        application.gate.set()
        served = await asyncio.gather(*accepted)
        return [refused, *served, await Exchange(BODY).through(guard)]

    refused, *served = run(scenario())
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert [exchange.status for exchange in served] == [200, 200, 200]


def test_the_wait_is_bounded_by_measured_time(desk: Desk) -> None:
    async def scenario() -> tuple[Exchange, Exchange]:
        application = Application()
        guard = guarded(application, desk)
        queue = desk.queue
        queue.pace.seconds_per_token = 1.0
        # 50 s of other people's work, in texts as long as the newcomer's.
        texts = ["one"] * 50
        waiting = asyncio.create_task(queue.run(desk.releases.classifier, _options(), texts, [1] * 50))
        jobs = [asyncio.create_task(queue.run(desk.releases.classifier, _options(), ["x"], [1])) for _ in range(50)]
        await asyncio.sleep(0)
        queue.pace.measured = lambda tokens, seconds: None  # type: ignore[method-assign]
        begun = time.perf_counter()
        refused = await Exchange(BODY).through(guard)
        assert time.perf_counter() - begun < 1
        assert int(refused.headers["retry-after"]) > 10
        await asyncio.gather(waiting, *jobs)
        return refused, await Exchange(BODY).through(guard)

    refused, later = run(scenario())
    assert refused.status == 503
    assert later.status == 200


def _options() -> Any:  # noqa: ANN401  a request's options with their defaults
    from tocsin_serving.schemas import Options

    return Options()


def test_a_burst_is_not_let_in_all_at_once(desk: Desk) -> None:
    async def scenario() -> list[Exchange]:
        application = Application(open_gate=False)
        guard = guarded(application, desk, Settings(timeout_seconds=1))
        desk.queue.pace.seconds_per_token = 1.0
        # All of them before the first text is computed.
        return await asyncio.gather(*(Exchange(BODY).through(guard) for _ in range(60)))

    statuses = [exchange.status for exchange in run(scenario())]
    assert set(statuses) == {503, 504}
    assert 1 <= statuses.count(504) <= 11


def test_who_is_refused_for_the_crowd_is_not_counted_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(desk_module, "count_tokens", counting(counted))
    queue, classifier = desk.queue, desk.releases.classifier
    queue.pace.seconds_per_token = 1e-3

    async def scenario() -> Exchange:
        # 6.4 s of requests like the newcomer, who is held up for half as long at the most.
        jobs = [queue.put(classifier, _options(), ["x"] * 64, [1] * 64) for _ in range(100)]
        try:
            return await Exchange(json.dumps({"texts": ["x"] * 64}).encode()).through(guarded(Application(), desk))
        finally:
            for job in jobs:
                queue.drop(job)

    assert run(scenario()).status == 503
    assert counted == []


def test_of_a_burst_only_a_few_are_counted_in_vain(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(desk_module, "count_tokens", counting(counted))
    desk.queue.pace.seconds_per_token = 5e-4
    body = json.dumps({"texts": ["x" * 200] * 64}).encode()

    async def nothing_is_computed(turn: Turn) -> None:
        await asyncio.Future()

    monkeypatch.setattr(desk.queue, "_compute", nothing_is_computed)

    async def scenario() -> list[Exchange]:
        guard = guarded(Application(open_gate=False), desk, Settings(timeout_seconds=2))
        # Each has 1.44 s of work, and may be held up for three.
        return await asyncio.gather(*(Exchange(body).through(guard) for _ in range(40)))

    statuses = [exchange.status for exchange in run(scenario())]
    taken_on = statuses.count(504)
    assert 1 <= taken_on <= 3
    assert statuses.count(503) == 40 - taken_on
    assert taken_on <= len(counted) <= taken_on + desk_module._COUNTED_AT_ONCE


def counting(counted: list[int]) -> Callable[[EventClassifier, Sequence[str]], Awaitable[list[int]]]:
    """Counts 45 tokens a text, in its time, and notes it."""

    async def count(classifier: EventClassifier, texts: Sequence[str]) -> list[int]:
        counted.append(len(texts))
        await asyncio.sleep(0.01)
        return [45] * len(texts)

    return count


def test_who_asks_for_much_is_held_up_for_as_long_as_its_own_work(desk: Desk) -> None:
    async def scenario() -> None:
        queue, classifier = desk.queue, desk.releases.classifier
        queue.pace.seconds_per_token = 1e-3
        # 10 s of work, beyond the limit of 3 s.
        job = queue.put(classifier, _options(), ["x"] * 1_000, [10] * 1_000)
        try:
            desk.check_capacity(texts=1_000, tokens=11_000)
            with pytest.raises(RefusedError) as crowded:
                desk.check_capacity(texts=1_000, tokens=9_000)
            assert crowded.value.status == 503
        finally:
            queue.drop(job)

    run(scenario())


class Hourglass(selectors.DefaultSelector):
    """For an event loop whose time passes at once: what would be waited for is only counted."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.now += 0.0 if ready else timeout or 0.0
        return ready


def loop_without_waiting() -> asyncio.AbstractEventLoop:
    hourglass = Hourglass()
    loop = asyncio.SelectorEventLoop(hourglass)
    loop.time = lambda: hourglass.now  # type: ignore[method-assign]
    return loop


def test_an_accepted_request_takes_no_longer_than_the_wait_and_its_own_work(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times what the queue gets through, for a hundred turns' time."""
    turn_tokens, limit = 40, 0.2
    slow = Desk(desk.releases, Settings(max_wait_ms=int(limit * 1000), batch_tokens=turn_tokens))
    queue, turn_seconds = slow.queue, 0.04
    queue.pace.seconds_per_token = turn_seconds / turn_tokens
    took: list[float] = []
    refused = 0

    async def compute(turn: Turn) -> None:
        await asyncio.sleep(turn.tokens * queue.pace.seconds_per_token)
        for job, given in Counter(job for job, _ in turn.items).items():
            job.give([_PREDICTION] * given)

    monkeypatch.setattr(queue, "_compute", compute)

    async def ask() -> None:
        nonlocal refused
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            slow.check_capacity(texts=4, tokens=turn_tokens)
        except RefusedError:
            refused += 1
            return
        await queue.run(slow.releases.classifier, _options(), ["x"] * 4, [turn_tokens // 4] * 4)
        took.append(clock() - begun)

    async def scenario() -> None:
        async with asyncio.TaskGroup() as asking:
            for _ in range(1_000):
                asking.create_task(ask())
                await asyncio.sleep(turn_seconds / 10)

    with asyncio.Runner(loop_factory=loop_without_waiting) as runner:
        runner.run(scenario())
    assert len(took) == pytest.approx(100, abs=8), "no turn is empty"
    assert refused == 1_000 - len(took)
    # The turn under way comes on top of those counted ahead.
    assert max(took) <= limit + 2 * turn_seconds + 1e-6
    assert max(took) > limit / 2, "the queue is kept full"


def test_someones_long_request_or_many_streams_keep_nobody_else_out(desk: Desk) -> None:
    async def scenario() -> None:
        queue, classifier = desk.queue, desk.releases.classifier
        queue.pace.seconds_per_token = 1e-4
        soon = queue.clock() + 60
        # 50 s of one request's, and 51 s of 512 streams'.
        jobs = [queue.put(classifier, _options(), ["x"] * 1_000, [500] * 1_000, deadline=soon)]
        jobs += [queue.put(classifier, _options(), ["x"] * 50, [20] * 50) for _ in range(512)]
        try:
            desk.check_capacity()
            desk.check_capacity(texts=2, tokens=200)
            with pytest.raises(RefusedError) as late:
                desk.check_capacity(texts=5, tokens=300_000)
            assert late.value.status == 503
        finally:
            for job in jobs:
                queue.drop(job)

    run(scenario())


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/classify", {"texts": ["one", "two", "three"]}, "texts"),
        ("/classify_document", {"document": "A strike. A march. A bomb."}, "document"),
    ],
)
def test_what_would_take_longer_than_there_is_time_is_to_be_sent_in_parts(
    desk: Desk, path: str, body: dict[str, Any], field: str
) -> None:
    async def scenario() -> tuple[Exchange, Exchange]:
        slow = Desk(desk.releases, Settings(batch_tokens=4))
        guard = guarded(Application(), slow)
        slow.queue.pace.seconds_per_token = 100
        whole = await Exchange(json.dumps(body).encode(), path=path).through(guard)
        # Nobody could send less, and its turn measures the pace anew.
        return whole, await Exchange(BODY).through(guard)

    whole, least = run(scenario())
    assert whole.status == 413
    problem = json.loads(whole.body)["detail"][0]
    assert problem["field"] == field
    assert "send it in parts" in problem["message"]
    assert least.status == 200


def test_a_list_that_is_answered_in_lines_may_take_any_time(desk: Desk) -> None:
    async def scenario() -> Exchange:
        slow = Desk(desk.releases, Settings(batch_tokens=4))
        slow.queue.pace.seconds_per_token = 100
        body = b'{"texts": ["one", "two", "three"]}'
        return await Exchange(body, headers={"Accept": "application/x-ndjson"}).through(guarded(Application(), slow))

    assert len(lines_of(run(scenario()))) == 3


def test_bodies_held_at_once_are_bounded(desk: Desk) -> None:
    async def scenario() -> tuple[Exchange, Exchange]:
        application = Application(open_gate=False)
        guard = guarded(application, desk, Settings(max_held_bytes=len(BODY) + 1))
        first = asyncio.create_task(Exchange(BODY).through(guard))
        await asyncio.sleep(0.1)
        second = await Exchange(BODY).through(guard)
        application.gate.set()
        await first
        return second, await Exchange(BODY).through(guard)

    second, third = run(scenario())
    assert (second.status, third.status) == (503, 200)


FULL = {"places": Settings(max_waiting=1), "bytes": Settings(max_held_bytes=len(BODY) + 1)}


@pytest.mark.parametrize("full", FULL)
def test_whoever_is_told_to_come_back_on_another_connection_was_heard_out_first(desk: Desk, full: str) -> None:
    class Sender(Exchange):
        async def _send(self, message: Message) -> None:
            assert self._incoming == []
            await super()._send(message)

    async def scenario() -> Exchange:
        application = Application(open_gate=False)
        guard = guarded(application, desk, FULL[full])
        first = asyncio.create_task(Exchange(BODY).through(guard))
        await asyncio.sleep(0.1)
        refused = await Sender(BODY[:7], BODY[7:], b" ").through(guard)
        application.gate.set()
        await first
        return refused

    refused = run(scenario())
    assert refused.status == 503
    assert refused.headers["connection"] == "close"


def test_who_does_not_finish_speaking_is_told_to_come_back_and_keeps_its_connection(desk: Desk) -> None:
    async def scenario() -> Exchange:
        application = Application(open_gate=False)
        guard = guarded(application, desk, Settings(max_waiting=1, body_seconds=1))
        first = asyncio.create_task(Exchange(BODY).through(guard))
        await asyncio.sleep(0.1)
        refused = await Unfinished(BODY[:7], key=KEY).through(guard)
        application.gate.set()
        await first
        return refused

    refused = run(scenario())
    assert refused.status == 503
    assert "connection" not in refused.headers


@asynccontextmanager
async def listening(application: RequestGuard) -> AsyncIterator[int]:
    """Serves on a port of this machine as BentoML does, by uvicorn."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_config=None, ws="none"))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


def test_a_refusal_reaches_a_client_that_is_still_sending(desk: Desk) -> None:
    body = b" " * 2_000_000
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def scenario() -> bytes:
        application = Application(open_gate=False)
        guard = guarded(application, desk, Settings(max_waiting=1))
        first = asyncio.create_task(Exchange(BODY).through(guard))
        await asyncio.sleep(0.1)
        async with listening(guard) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + body)
            answer = await reader.read()
            writer.close()
        application.gate.set()
        await first
        return answer

    assert run(scenario()).startswith(b"HTTP/1.1 503 ")


def test_a_body_in_parts_arrives_whole_and_a_hang_up_reaches_nobody(desk: Desk) -> None:
    async def scenario() -> tuple[Application, Exchange, Exchange]:
        application = Application()
        guard = guarded(application, desk)
        whole = await Exchange(BODY[:7], BODY[7:]).through(guard)
        broken = await Exchange(BODY[:7], hang_up=True).through(guard)
        return application, whole, broken

    application, whole, broken = run(scenario())
    assert whole.status == 200
    assert application.bodies == [BODY]
    assert only_noted_as_gone(broken)


def test_work_for_a_client_who_left_is_dropped(desk: Desk) -> None:
    async def scenario() -> tuple[Application, Exchange]:
        application = Application(open_gate=False)
        return application, await Leaver(BODY).through(guarded(application, desk))

    application, exchange = run(scenario())
    assert application.cancelled == 1
    assert only_noted_as_gone(exchange)


def test_a_body_that_stops_coming_gets_408(desk: Desk) -> None:
    class Slow(Exchange):
        def __init__(self) -> None:
            super().__init__(BODY[:7], b"")
            self._incoming = self._incoming[:1]

    async def scenario() -> Exchange:
        return await Slow().through(guarded(Application(), desk, Settings(body_seconds=1)))

    assert run(scenario()).status == 408


def test_an_answer_that_takes_too_long_becomes_504(desk: Desk) -> None:
    async def scenario() -> tuple[Application, Exchange]:
        application = Application(open_gate=False)
        return application, await Exchange(BODY).through(guarded(application, desk, Settings(timeout_seconds=1)))

    application, exchange = run(scenario())
    assert exchange.status == 504
    assert application.cancelled == 1


class SlowDesk:
    """Never gets done with cutting and counting."""

    def __init__(self, desk: Desk) -> None:
        self.releases, self.queue, self.check_capacity = desk.releases, desk.queue, desk.check_capacity
        self.cancelled = 0

    async def admit(self, request: object, **_: object) -> object:
        try:
            return await asyncio.Future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@pytest.mark.parametrize("headers", [{}, {"Accept": "application/x-ndjson"}])
def test_cutting_and_counting_are_part_of_the_time_for_an_answer(desk: Desk, headers: dict[str, str]) -> None:
    slow = SlowDesk(desk)
    guard = guarded(Application(), cast("Desk", slow), Settings(timeout_seconds=1))
    assert run(Exchange(BODY, headers=headers).through(guard)).status == 504
    assert slow.cancelled == 1


@pytest.mark.parametrize("headers", [{}, {"Accept": "application/x-ndjson"}])
def test_nothing_is_cut_and_counted_for_a_client_who_left(desk: Desk, headers: dict[str, str]) -> None:
    slow = SlowDesk(desk)
    exchange = run(Leaver(BODY, headers=headers).through(guarded(Application(), cast("Desk", slow))))
    assert only_noted_as_gone(exchange)
    assert slow.cancelled == 1


def test_a_request_is_queued_with_the_time_its_answer_has(desk: Desk) -> None:
    left: list[float] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        job = ADMITTED.get().job
        assert job is not None
        left.append(job.deadline - desk.queue.clock())
        await JSONResponse([])(scope, receive, send)

    run(Exchange(BODY).through(guarded(cast("Application", application), desk)))
    assert 0 < left[0] <= Settings().timeout_seconds


@pytest.mark.parametrize("given", ["abc-1", "A.b_c:9"])
def test_a_request_id_is_given_back(desk: Desk, given: str) -> None:
    exchange = run(Exchange(BODY, headers={"X-Request-ID": given}).through(guarded(Application(), desk)))
    assert (exchange.status, exchange.headers["x-request-id"]) == (200, given)


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\nb", "ä"])
def test_a_request_id_that_would_spoil_a_log_is_refused(desk: Desk, given: str) -> None:
    exchange = run(Exchange(BODY, headers={"X-Request-ID": given}).through(guarded(Application(), desk)))
    assert exchange.status == 400
    assert len(exchange.headers["x-request-id"]) == 32
    assert json.loads(exchange.body)["detail"][0]["field"] == "X-Request-ID"


def test_every_request_has_an_id_of_its_own(desk: Desk) -> None:
    async def scenario() -> list[Exchange]:
        guard = guarded(Application(), desk)
        return [await Exchange(BODY).through(guard) for _ in range(3)]

    assert len({exchange.headers["x-request-id"] for exchange in run(scenario())}) == 3


KEY, STORED = new_key("newsroom", requests_per_minute=2)
ADMIN_KEY, ADMIN = new_key("operator", admin=True)
KEYRING = Keyring([STORED, ADMIN])


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{key}".encode()).decode()


@pytest.mark.parametrize("path", ["/classify", "/classify_document", "/", "/docs.json", "/metrics", "/model", "/x"])
def test_with_keys_nothing_but_health_is_open(desk: Desk, path: str) -> None:
    guard = guarded(Application(), desk, keyring=KEYRING)
    wrong = {"Authorization": f"Bearer {KEY[:-1]}A" if KEY[-1] != "A" else f"Bearer {KEY[:-1]}B"}
    for headers in ({}, wrong, {"X-API-Key": STORED.sha256}, {"Authorization": "Basic !"}, {"Authorization": "Bearer"}):
        exchange = run(Exchange(BODY, path=path, headers=headers).through(guard))
        assert exchange.status == 401
        assert exchange.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health_needs_no_key(desk: Desk, path: str) -> None:
    exchange = run(Exchange(path=path, method="GET").through(guarded(Application(), desk, keyring=KEYRING)))
    assert exchange.status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {ADMIN_KEY}"}, {"X-API-Key": ADMIN_KEY}, {"Authorization": basic(ADMIN_KEY)}],
)
def test_a_key_opens_the_rest(desk: Desk, headers: dict[str, str]) -> None:
    assert run(Exchange(BODY, headers=headers).through(guarded(Application(), desk, keyring=KEYRING))).status == 200


def test_admin_needs_an_admins_key_and_takes_none_that_a_browser_sends_by_itself(desk: Desk) -> None:
    def status(keyring: Keyring, authorization: str | None) -> int:
        headers = {"Authorization": authorization} if authorization else {}
        guard = guarded(Application(), desk, keyring=keyring)
        return int(run(Exchange(b"", path="/admin/reload", headers=headers).through(guard)).status)

    assert status(Keyring(), None) == 403
    assert status(Keyring(), f"Bearer {ADMIN_KEY}") == 403
    assert status(KEYRING, None) == 401
    assert status(KEYRING, f"Bearer {KEY}") == 403
    assert status(KEYRING, basic(ADMIN_KEY)) == 401
    assert status(KEYRING, f"Bearer {ADMIN_KEY}") == 200


def test_a_key_used_too_often_is_told_when_to_come_back(desk: Desk) -> None:
    async def scenario() -> list[Exchange]:
        guard = guarded(Application(), desk, keyring=KEYRING)
        mine = {"Authorization": f"Bearer {KEY}"}
        other = {"Authorization": f"Bearer {ADMIN_KEY}"}
        return [await Exchange(BODY, headers=each).through(guard) for each in (mine, mine, mine, other)]

    exchanges = run(scenario())
    assert [exchange.status for exchange in exchanges] == [200, 200, 429, 200]
    assert 25 <= int(exchanges[2].headers["retry-after"]) <= 31


class Unfinished(Exchange):
    """Says something, and never the rest of it."""

    def __init__(self, begin: bytes, *, key: str, kind: str = "application/json") -> None:
        super().__init__(begin, b"", headers={"Authorization": f"Bearer {key}", "Content-Type": kind})
        self._incoming.pop()


GREEDY_KEY, GREEDY = new_key("greedy")


@pytest.mark.parametrize(
    ("begin", "kind", "limits"),
    [
        (b" " * 1_000, "application/json", Settings(max_held_bytes=16_000, max_body_bytes=1_000, body_seconds=60)),
        (b" " * 1_000, "application/x-ndjson", Settings(max_held_bytes=16_000, max_body_bytes=1_000)),
        (b"{", "application/x-ndjson", Settings(max_waiting=16)),
    ],
)
def test_one_key_leaves_room_for_the_others(desk: Desk, begin: bytes, kind: str, limits: Settings) -> None:
    async def scenario() -> tuple[list[Exchange], Exchange]:
        guard = guarded(Application(), desk, limits, Keyring([GREEDY, ADMIN]))
        greedy: list[Exchange] = [Unfinished(begin, key=GREEDY_KEY, kind=kind) for _ in range(16)]
        tasks = [asyncio.create_task(each.through(guard)) for each in greedy]
        await asyncio.sleep(0.1)
        pending = [task for task in tasks if not task.done()]
        assert len(pending) == 4
        other = await Exchange(BODY, headers={"Authorization": f"Bearer {ADMIN_KEY}"}).through(guard)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        assert (guard._places.held, guard._memory.held) == (0, 0)
        return greedy, other

    greedy, other = run(scenario())
    assert other.status == 200
    assert {each.status for each in greedy if each.sent} <= {200, 429}


def test_a_byte_now_and_then_keeps_no_stream_alive(desk: Desk) -> None:
    class Trickle(Exchange):
        async def _receive(self) -> Message:
            await asyncio.sleep(0.2)
            return {"type": "http.request", "body": b" ", "more_body": True}

    exchange = Trickle(headers=NDJSON)
    run(exchange.through(guarded(Application(), desk, Settings(idle_seconds=1))))
    assert [answer["error"] for answer in lines_of(exchange)] == [
        "No line was complete after 1 s. The stream ends here."
    ]
    assert exchange.sent[-1]["more_body"] is True


def _logged(caplog: pytest.LogCaptureFixture, desk: Desk, settings: Settings) -> str:
    caplog.set_level(logging.INFO, logger="bentoml.tocsin.request")
    logging.getLogger("bentoml").propagate = True
    body = json.dumps({"texts": ["a secret source", "another"]}).encode()
    run(Exchange(body, headers={"X-Request-ID": "id-7"}).through(guarded(Application(), desk, settings)))
    return "\n".join(record.getMessage() for record in caplog.records)


def test_the_log_tells_lengths_and_hashes_and_no_text(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    text = _logged(caplog, desk, Settings())
    assert "secret" not in text
    entry = json.loads(text.splitlines()[-1])
    assert (entry["request_id"], entry["texts"], entry["characters"], entry["status"]) == ("id-7", 2, 22, 200)
    assert entry["sha256"][0] == hashlib.sha256(b"a secret source").hexdigest()[:16]


def test_the_log_tells_texts_when_asked_to(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    assert "a secret source" in _logged(caplog, desk, Settings(log_texts=1))


@pytest.mark.parametrize("bad", ["-1", "many", "0"])
def test_wrong_limits_are_refused_by_name(bad: str) -> None:
    with pytest.raises(UsageError, match="TOCSIN_MAX_TEXTS"):
        Settings.from_environment({"TOCSIN_MAX_TEXTS": bad})


def test_limits_come_from_the_environment() -> None:
    settings = Settings.from_environment({"TOCSIN_MAX_TEXTS": "7", "TOCSIN_LOG_TEXTS": "0"})
    assert (settings.max_texts, settings.log_texts) == (7, 0)


def test_answers_carry_the_version_of_the_release(desk: Desk) -> None:
    exchange = run(Exchange(BODY).through(guarded(Application(), desk)))
    assert exchange.headers["x-tocsin-model-version"] == desk.releases.classifier.version
    assert exchange.headers["x-content-type-options"] == "nosniff"


def test_an_unknown_objective_is_refused_with_the_known_ones(desk: Desk) -> None:
    exchange = run(Exchange(b'{"texts": ["one"], "objective": "recall"}').through(guarded(Application(), desk)))
    assert exchange.status == 400
    problem = json.loads(exchange.body)["detail"][0]
    assert problem["field"] == "objective"
    assert "default" in problem["message"]


class Unable:
    """A limiter on a full disk."""

    def __init__(self) -> None:
        self.asked = 0

    def seconds_to_wait(self, key_id: str, per_minute: int) -> float:
        self.asked += 1
        raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize("opens", [True, False])
def test_a_request_that_cannot_be_counted_passes_and_that_is_said_once(
    desk: Desk, log: pytest.LogCaptureFixture, opens: bool
) -> None:
    limiter = Unable()

    def make() -> RateLimiter:
        if not opens:
            limiter.seconds_to_wait("", 0)
        return cast("RateLimiter", limiter)

    async def scenario() -> list[Exchange]:
        guard = RequestGuard(Application(), desk=lambda: desk, settings=Settings(), keyring=KEYRING, limiter=make)
        mine = {"Authorization": f"Bearer {KEY}"}
        return [await Exchange(BODY, headers=mine).through(guard) for _ in range(3)]

    assert [exchange.status for exchange in run(scenario())] == [200, 200, 200]
    assert limiter.asked == 3
    (told,) = (record for record in log.records if "uncounted" in record.getMessage())
    assert "disk is full" in told.getMessage()


class Failing(Application):
    """Fails as nobody foresaw, before or after its answer has begun."""

    def __init__(self, *answer: Message) -> None:
        super().__init__()
        self._begun = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self._begun:
            await send(message)
        raise RuntimeError("nobody foresaw this")


START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PART: Message = {"type": "http.response.body", "body": b"[", "more_body": True}
END: Message = {"type": "http.response.body", "body": b"]", "more_body": False}


def line_of_log(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """What the log tells of the one request there was."""
    (message,) = (record.getMessage() for record in caplog.records if record.name.endswith(".request"))
    line: dict[str, Any] = json.loads(message)
    return line


def broken(reason: str) -> float:
    """How many answers broke off so far."""
    return REGISTRY.get_sample_value("tocsin_streams_broken_total", {"reason": reason}) or 0.0


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="bentoml.tocsin")
    monkeypatch.setattr(logging.getLogger("bentoml"), "propagate", True)
    return caplog


def test_a_fault_is_answered_500_and_logged_as_one(desk: Desk, log: pytest.LogCaptureFixture) -> None:
    exchange = run(Exchange(method="GET", path="/model").through(guarded(Failing(), desk)))
    assert exchange.status == 500
    answer = json.loads(exchange.body)
    assert set(answer) == {"error", "detail"}
    assert "foresaw" not in answer["error"]
    line = line_of_log(log)
    assert (line["status"], line["complete"]) == (500, True)
    assert exchange.headers["x-request-id"] == line["request_id"]
    (fault,) = (record for record in log.records if record.exc_info)
    assert line["request_id"] in fault.getMessage()
    assert "foresaw" in str(fault.exc_info)


def test_an_answer_that_a_fault_breaks_off_is_counted_and_not_ended(desk: Desk, log: pytest.LogCaptureFixture) -> None:
    before = broken("fault")
    exchange = run(Exchange(method="GET", path="/model").through(guarded(Failing(START, PART), desk)))
    assert exchange.sent[-1]["more_body"]
    line = line_of_log(log)
    assert (line["status"], line["complete"]) == (500, False)
    assert broken("fault") == before + 1


def test_a_fault_after_the_answers_end_leaves_it_an_answer(desk: Desk, log: pytest.LogCaptureFixture) -> None:
    before = broken("fault")
    exchange = run(Exchange(method="GET", path="/model").through(guarded(Failing(START, PART, END), desk)))
    assert exchange.body == b"[]"
    line = line_of_log(log)
    assert (line["status"], line["complete"]) == (200, True)
    assert broken("fault") == before
    assert any(record.exc_info for record in log.records)


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b'{"text": "one"}\n', {"Content-Type": "application/x-ndjson"}), (BODY, {"Accept": "application/x-ndjson"})],
)
def test_a_stream_whose_texts_cannot_be_computed_says_so_and_is_no_success(
    desk: Desk, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, body: bytes, headers: dict[str, str]
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(desk, "answer", fail)
    before = broken("fault")
    exchange = run(Exchange(body, headers=headers).through(guarded(Application(), desk)))
    assert exchange.status == 200
    (last,) = lines_of(exchange)
    assert last["line"] == 1
    assert last["error"].endswith("The stream ends here.")
    assert "memory" not in last["error"]
    assert exchange.sent[-1]["more_body"] is True
    line = line_of_log(log)
    assert (line["status"], line["complete"]) == (500, False)
    assert broken("fault") == before + 1
    assert any(line["request_id"] in record.getMessage() for record in log.records if record.exc_info)


@pytest.mark.parametrize(
    ("part", "limits", "status", "reason"),
    [
        (b"\n" * 9, Settings(max_bad_lines=3), 400, "refused"),
        (b'{"text": "' + b"a" * 2_000, Settings(max_body_bytes=10_000, max_held_bytes=1_000), 503, "overload"),
        (b'{"text": ', Settings(idle_seconds=1), 408, "client"),
    ],
)
def test_a_stream_that_the_service_ends_is_counted_by_what_ended_it(
    desk: Desk, log: pytest.LogCaptureFixture, part: bytes, limits: Settings, status: int, reason: str
) -> None:
    before = broken(reason)
    exchange = Exchange(part, b"", headers=NDJSON)
    exchange._incoming.pop()  # a client that says no more, and stays
    run(exchange.through(guarded(Application(), desk, limits)))
    assert lines_of(exchange)[-1]["error"].endswith("The stream ends here.")
    line = line_of_log(log)
    assert (line["status"], line["complete"]) == (status, False)
    assert broken(reason) == before + 1


def test_a_stream_whose_client_leaves_is_told_from_one_that_was_answered(
    desk: Desk, log: pytest.LogCaptureFixture
) -> None:
    before = broken("client")
    run(Exchange(b'{"text": "one"}\n', hang_up=True, headers=NDJSON).through(guarded(Application(), desk)))
    line = line_of_log(log)
    assert (line["status"], line["complete"]) == (499, False)
    assert broken("client") == before + 1


def test_a_client_who_leaves_before_its_answer_breaks_none_off(desk: Desk, log: pytest.LogCaptureFixture) -> None:
    before = broken("client")
    run(Exchange(BODY[:7], hang_up=True).through(guarded(Application(), desk)))
    line = line_of_log(log)
    assert (line["status"], line["complete"]) == (499, False)
    assert broken("client") == before


def test_an_answer_that_stops_halfway_until_the_time_is_up_is_broken_off(
    desk: Desk, log: pytest.LogCaptureFixture
) -> None:
    class Halfway(Application):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await asyncio.Future()

    before = broken("timeout")
    exchange = run(Exchange(BODY).through(guarded(Halfway(), desk, Settings(timeout_seconds=1))))
    assert len(exchange.sent) == 1
    line = line_of_log(log)
    assert (line["status"], line["complete"]) == (504, False)
    assert broken("timeout") == before + 1


def lines_of(exchange: Exchange) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exchange.body.splitlines()]


NDJSON = {"Content-Type": "application/x-ndjson"}


def test_a_bad_line_is_answered_in_its_place(desk: Desk, tiny_classifier: EventClassifier) -> None:
    body = b'{"text": "An airstrike."}\nnonsense\n{"text": ""}\n\n{"txt": 1}\n{"text": "A peaceful protest."}'
    parts = [body[:10], body[10:40], body[40:]]
    exchange = run(Exchange(*parts, headers=NDJSON, query=b"scores=true").through(guarded(Application(), desk)))

    answers = lines_of(exchange)
    assert exchange.status == 200
    assert exchange.headers["content-type"] == "application/x-ndjson"
    assert [answer.get("line") for answer in answers] == [None, 2, 3, 4, 5, None]
    first, last = (tiny_classifier.classify(text) for text in ("An airstrike.", "A peaceful protest."))
    assert answers[0] == first.model_dump(mode="json")
    assert answers[5] == last.model_dump(mode="json")
    assert all(answer["error"] for answer in answers[1:5])


def test_a_line_that_is_too_long_costs_nobody_else_a_line(desk: Desk) -> None:
    parts = [b'{"text": "one"}\n{"text": "', b"a" * 600, b"a" * 600, b'"}\n{"text": "two"}\n']
    guard = guarded(Application(), desk, Settings(max_body_bytes=1000))
    answers = lines_of(run(Exchange(*parts, headers=NDJSON).through(guard)))
    assert [answer.get("line") for answer in answers] == [None, 2, None]


def test_a_stream_of_nothing_but_bad_lines_ends_and_says_why(desk: Desk) -> None:
    body = b'{"text": "one"}\n' + b"\n" * 2 + b'{"text": "two"}\n' + b"\n" * 65_536
    exchange = run(Exchange(body, headers=NDJSON).through(guarded(Application(), desk, Settings(max_bad_lines=3))))
    answers = lines_of(exchange)
    assert [answer.get("line") for answer in answers] == [None, 2, 3, None, 5, 6, 7, 8]
    assert answers[-1]["error"] == "3 lines in a row could not be used. The stream ends here."
    assert sum("ends here" in answer.get("error", "") for answer in answers) == 1
    # Cut off, which clients notice, and not ended as if all had been answered.
    assert exchange.sent[-1]["more_body"] is True


def test_a_stream_over_its_share_of_memory_ends_and_says_why(desk: Desk) -> None:
    settings = Settings(max_body_bytes=10_000, max_held_bytes=1000)
    parts = [b'{"text": "one"}\n', b'{"text": "' + b"a" * 2000]
    exchange = run(Exchange(*parts, headers=NDJSON).through(guarded(Application(), desk, settings)))
    answers = lines_of(exchange)
    assert [answer.get("line") for answer in answers] == [None, 2]
    assert answers[-1]["error"].endswith("The stream ends here.")
    assert exchange.sent[-1]["more_body"] is True


def test_a_stream_that_the_service_cannot_go_on_with_names_the_first_line_without_an_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = desk.answer

    async def busy(ticket: Ticket) -> list[Prediction]:
        if "three" in ticket.texts:
            raise overloaded(2)
        return await answer(ticket)

    monkeypatch.setattr(desk, "answer", busy)
    parts = [b'{"text": "one"}\n{"text": "two"}\n', b'{"text": "three"}\n{"text": "four"}\n']
    exchange = run(Exchange(*parts, headers=NDJSON).through(guarded(Application(), desk)))
    assert [answer.get("line") for answer in lines_of(exchange)] == [None, None, 3]
    assert exchange.sent[-1]["more_body"] is True


def test_others_get_their_turn_while_bad_lines_are_told_of(desk: Desk) -> None:
    async def scenario() -> tuple[int, Exchange]:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        waiting = asyncio.create_task(other())
        settings = Settings(max_bad_lines=10**9, batch_tokens=100)
        exchange = await Exchange(b"x\n" * 5_000, headers=NDJSON).through(guarded(Application(), desk, settings))
        waiting.cancel()
        return turns, exchange

    turns, exchange = run(scenario())
    assert len(lines_of(exchange)) == 5_000
    # One after each chunk but the last.
    assert turns >= 5_000 / 100 - 1


def test_a_stream_reads_no_further_ahead_than_a_turn(desk: Desk) -> None:
    class Endless(Exchange):
        """2,000 lines in parts of ten; notes how many lines were read beyond those answered."""

        read = answered = furthest = 0

        async def _receive(self) -> Message:
            self.read += 10
            self.furthest = max(self.furthest, self.read - self.answered)
            return {"type": "http.request", "body": b'{"text": "one"}\n' * 10, "more_body": self.read < 2_000}

        async def _send(self, message: Message) -> None:
            self.answered += message.get("body", b"").count(b"\n")

    exchange = Endless(headers=NDJSON)
    run(exchange.through(guarded(Application(), desk)))
    assert exchange.answered == 2_000
    assert exchange.furthest == 10


def test_work_for_a_stream_whose_client_left_is_dropped(desk: Desk, log: pytest.LogCaptureFixture) -> None:
    """However many lines came in one part."""
    exchange = Exchange(b'{"text": "one"}\n' * 2_000, hang_up=True, headers=NDJSON)
    run(exchange.through(guarded(Application(), desk, Settings(batch_tokens=100))))
    # Two turns of at most as many lines as tokens.
    assert 0 < len(lines_of(exchange)) <= 200
    assert line_of_log(log)["status"] == 499


def test_lines_are_counted_as_held_until_they_are_answered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"text": "one"}\n' * 200
    guard = guarded(Application(), desk, Settings(batch_tokens=100))
    held: list[int] = []
    answer = desk.answer

    async def noting(ticket: Ticket) -> list[Prediction]:
        held.append(guard._memory.held)
        return await answer(ticket)

    monkeypatch.setattr(desk, "answer", noting)
    exchange = run(Exchange(body, headers=NDJSON).through(guard))
    assert len(lines_of(exchange)) == 200
    assert len(held) > 2
    assert set(held) == {len(body)}
    assert guard._memory.held == 0


def test_a_stream_that_comes_faster_than_it_is_answered_is_answered_whole(
    desk: Desk, tiny_classifier: EventClassifier
) -> None:
    texts = [f"An airstrike {number}." for number in range(300)]
    body = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)
    parts = [body[begin : begin + 2_000] for begin in range(0, len(body), 2_000)]
    guard = guarded(Application(), desk, Settings(batch_tokens=50))
    exchange = run(Exchange(*parts, headers=NDJSON).through(guard))
    expected = tiny_classifier.score_batch(texts).predictions(scores=False)
    assert lines_of(exchange) == [prediction.model_dump(mode="json") for prediction in expected]
    assert exchange.sent[-1]["more_body"] is False
    assert guard._memory.held == 0


def test_a_stream_whose_client_stops_reading_is_cut_off(desk: Desk) -> None:
    class Deaf(Exchange):
        async def _send(self, message: Message) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Future()
            self.sent.append(message)

    exchange = Deaf(b'{"text": "one"}\n', headers=NDJSON)
    run(exchange.through(guarded(Application(), desk, Settings(idle_seconds=1))))
    assert len(exchange.sent) == 1


def test_a_list_is_answered_in_lines_when_asked_for(desk: Desk, tiny_classifier: EventClassifier) -> None:
    texts = [f"An airstrike {number}." for number in range(500)]
    body = json.dumps({"texts": texts}).encode()
    guard = guarded(Application(), desk)
    exchange = run(Exchange(body, headers={"Accept": "application/x-ndjson"}).through(guard))
    expected = tiny_classifier.score_batch(texts).predictions(scores=False)
    assert lines_of(exchange) == [prediction.model_dump(mode="json") for prediction in expected]
    # In several pieces, not when everything is done.
    assert len(exchange.sent) > 3


@pytest.mark.parametrize(("query", "field"), [(b"scores=maybe", "scores"), (b"top_k=0", "top_k"), (b"x=1", "x")])
def test_wrong_options_of_a_stream_are_refused_by_name(desk: Desk, query: bytes, field: str) -> None:
    exchange = run(Exchange(b"{}", headers=NDJSON, query=query).through(guarded(Application(), desk)))
    assert exchange.status == 400
    assert json.loads(exchange.body)["detail"][0]["field"] == field


def test_an_option_where_it_would_be_overlooked_is_refused(desk: Desk) -> None:
    exchange = run(Exchange(BODY, query=b"scores=true").through(guarded(Application(), desk)))
    assert exchange.status == 400
    assert json.loads(exchange.body)["detail"][0]["field"] == "scores"


def test_of_a_great_many_unknown_fields_no_list_is_made(desk: Desk) -> None:
    def refused(fields: int) -> dict[str, Any]:
        body = json.dumps({"texts": ["one"], **{f"unknown{number}": 1 for number in range(fields)}}).encode()
        exchange = run(Exchange(body).through(guarded(Application(), desk)))
        assert exchange.status == 400
        problem: dict[str, Any] = json.loads(exchange.body)
        return problem

    assert len(refused(1_000)["detail"]) == 10
    (problem,) = refused(1_001)["detail"]
    assert problem["field"] == "body"
    assert problem["message"].startswith("has 1,001 things wrong with it")


def test_a_long_name_is_not_given_back_whole(desk: Desk) -> None:
    body = json.dumps({"texts": ["one"], "x" * 100_000: 1}).encode()
    exchange = run(Exchange(body).through(guarded(Application(), desk)))
    assert exchange.status == 400
    assert json.loads(exchange.body)["detail"][0]["field"] == "x" * 100 + "..."


def test_documents_are_no_streams(desk: Desk) -> None:
    exchange = run(Exchange(b"", path="/classify_document", headers=NDJSON).through(guarded(Application(), desk)))
    assert exchange.status == 415


def test_other_protocols_pass_untouched(desk: Desk) -> None:
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    guard = guarded(cast("Application", application), desk)
    run(guard({"type": "lifespan"}, cast("Receive", SimpleNamespace()), cast("Send", SimpleNamespace())))
    assert seen == ["lifespan"]
