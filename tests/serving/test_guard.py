"""Overload, hang-ups and limits, on an application that does what the test says."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from tocsin_serving.guard import RequestGuard
from tocsin_serving.schemas import ClassifyRequest
from tocsin_serving.settings import Settings

BODY = b'{"texts": ["one"]}'


class Exchange:
    """One request through a guard, and what came back."""

    def __init__(self, *parts: bytes, hang_up: bool = False) -> None:
        self.sent: list[Message] = []
        last = len(parts) - 1
        self._incoming: list[Message] = [
            {"type": "http.request", "body": part, "more_body": index < last or hang_up}
            for index, part in enumerate(parts)
        ]
        if hang_up:
            self._incoming.append({"type": "http.disconnect"})

    async def through(self, guard: RequestGuard) -> Exchange:
        scope = {"type": "http", "method": "POST", "path": "/classify", "headers": []}
        await guard(scope, self._receive, self._send)
        return self

    async def _receive(self) -> Message:
        return self._incoming.pop(0)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


class Application:
    """Answers with a status once it is let go."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[bytes] = []
        self.gate = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append((await receive())["body"])
        await self.gate.wait()
        await JSONResponse([], status_code=self.status)(scope, receive, send)


def guarded(application: Application, settings: Settings | None = None) -> RequestGuard:
    settings = settings or Settings(max_waiting=2, retry_after_seconds=3)
    bodies = {"/classify": ClassifyRequest}
    return RequestGuard(application, bodies=bodies, settings=settings, model_version=lambda: "m-1")


def test_beyond_capacity_is_told_to_come_back_and_the_rest_is_served() -> None:
    async def scenario() -> list[Exchange]:
        application = Application()
        guard = guarded(application)
        accepted = [asyncio.create_task(Exchange(BODY).through(guard)) for _ in range(2)]
        await asyncio.sleep(0)
        refused = await Exchange(BODY).through(guard)
        application.gate.set()
        served = await asyncio.gather(*accepted)
        return [refused, *served, await Exchange(BODY).through(guard)]

    refused, *served = asyncio.run(scenario())
    assert refused.status == 503
    assert refused.headers[b"retry-after"] == b"3"
    assert [exchange.status for exchange in served] == [200, 200, 200]
    assert served[0].headers[b"x-tocsin-model"] == b"m-1"


def test_the_batchers_503_says_when_to_come_back() -> None:
    async def scenario() -> Exchange:
        application = Application(status=503)
        application.gate.set()
        return await Exchange(BODY).through(guarded(application))

    exchange = asyncio.run(scenario())
    assert exchange.status == 503
    assert exchange.headers[b"retry-after"] == b"3"
    assert b"overloaded" in exchange.sent[1]["body"]
    assert len(exchange.sent) == 2


def test_a_body_in_parts_arrives_whole_and_a_hang_up_reaches_nobody() -> None:
    async def scenario() -> tuple[Application, Exchange, Exchange]:
        application = Application()
        application.gate.set()
        guard = guarded(application)
        whole = await Exchange(BODY[:7], BODY[7:]).through(guard)
        broken = await Exchange(BODY[:7], hang_up=True).through(guard)
        return application, whole, broken

    application, whole, broken = asyncio.run(scenario())
    assert whole.status == 200
    assert application.bodies == [BODY]
    assert broken.sent == []


@pytest.mark.parametrize("bad", ["-1", "many", "0"])
def test_wrong_limits_are_refused_by_name(bad: str) -> None:
    from tocsin import UsageError

    with pytest.raises(UsageError, match="TOCSIN_MAX_TEXTS"):
        Settings.from_environment({"TOCSIN_MAX_TEXTS": bad})


def test_limits_come_from_the_environment() -> None:
    assert Settings.from_environment({"TOCSIN_MAX_TEXTS": "7"}).max_texts == 7
