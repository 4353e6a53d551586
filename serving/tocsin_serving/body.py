"""Reading request bodies: never more than the limits, never for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.types import Message, Receive

from tocsin.text import replace_lone_surrogates
from tocsin_serving.refusal import ClientGoneError, RefusedError, large_body, not_json, slow_body, what_is_invalid
from tocsin_serving.schemas import Problem
from tocsin_serving.shares import Account

# How much of an over-long body is read and dropped, so that its sender gets to read the answer.
_DRAIN_FACTOR = 16
Model = TypeVar("Model", bound=BaseModel)


class Inbox:
    """A request's messages, of which one may be received before its time: a hang-up shows there.

    A message that is no hang-up hides what comes after it until it is asked for; more are not held.
    """

    def __init__(self, receive: Receive, memory: Account) -> None:
        """Nothing is received ahead yet; see `close`.

        :param memory: counts what is.
        """
        self._receive = receive
        self._memory = memory
        self._ahead: asyncio.Task[Message] | None = None
        self._held = 0

    async def receive(self) -> Message:
        """The next message.

        :raises RefusedError: 429 or 503, too many bytes are held.
        """
        if self._ahead is None:
            return await self._receive()
        message = await self._ahead
        self._ahead = None
        self._release()
        return message

    def check(self) -> None:
        """Look whether the client is still there, as far as that showed since the last look.

        :raises ClientGoneError: it is not.
        :raises RefusedError: 429 or 503, too many bytes are held.
        """
        if self._ahead is None:
            self._ahead = asyncio.create_task(self._look_ahead())
        elif self._ahead.done() and self._ahead.result()["type"] == "http.disconnect":
            raise ClientGoneError

    def close(self) -> None:
        """Receive and hold nothing any more."""
        self._release()
        if self._ahead is None:
            return
        if self._ahead.done() and not self._ahead.cancelled():
            self._ahead.exception()  # seen, or asyncio would complain that nobody looked
        self._ahead.cancel()

    async def _look_ahead(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        self._memory.take(size)
        self._held = size
        return message

    def _release(self) -> None:
        self._memory.release(self._held)
        self._held = 0


async def body_parts(receive: Receive, seconds: float) -> AsyncIterator[bytes]:
    """The parts of a body as they come in.

    :param seconds: longest wait for one part.
    :raises ClientGoneError: the client hung up.
    :raises RefusedError: 408, a part did not come in time.
    """
    more = True
    while more:
        try:
            async with asyncio.timeout(seconds):
                message = await receive()
        except TimeoutError:
            raise RefusedError(408, f"The request body stopped coming for {seconds:.0f} s.") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def read_body(receive: Receive, *, limit: int, seconds: float, memory: Account) -> bytes:
    """The whole request body, counted into `memory`, from which the caller takes it again.

    :param limit: longest body in bytes.
    :param seconds: time for all of it.
    :raises RefusedError: 413, too long; 408, too slow; 429 or 503, too many bodies at once.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _read(receive, limit, seconds, memory)
    except TimeoutError:
        raise slow_body(seconds) from None


async def _read(receive: Receive, limit: int, seconds: float, memory: Account) -> bytes:
    body = bytearray()
    size = 0
    try:
        async for part in body_parts(receive, seconds):
            size += len(part)
            if size <= limit:
                memory.take(len(part))
                body += part
            elif size > limit * _DRAIN_FACTOR:
                break
        if size > limit:
            raise large_body(limit)
    except BaseException:
        memory.release(len(body))
        raise
    return bytes(body)


async def drain(receive: Receive, *, limit: int, seconds: float) -> None:
    """Read and drop what is left of a refused request's body, so that its sender gets to read the answer.

    :param limit: most bytes to read.
    :param seconds: time for all of it; none is left at 0 and below.
    """
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in body_parts(receive, seconds):
                size += len(part)
                if size > limit:
                    return
    except (TimeoutError, ClientGoneError, RefusedError):
        return


def parsed(model: type[Model], body: bytes) -> tuple[Model, bytes]:
    """The request, and its body with lone surrogates replaced.

    :raises RefusedError: 400 naming each field at fault.
    """
    found = parsed_or_problem(model, body)
    if isinstance(found, Problem):
        raise RefusedError(400, found.error, *found.detail)
    return found


def parsed_or_problem(model: type[Model], body: bytes) -> tuple[Model, bytes] | Problem:
    """As `parsed`, with the problem as a value: of a stream's lines, many may have one."""
    try:
        # Only a \u escape can bring a surrogate into valid UTF-8.
        if b"\\u" in body:
            body = replace_lone_surrogates(json.dumps(json.loads(body), ensure_ascii=False)).encode()
        return model.model_validate_json(body), body
    except ValidationError as error:
        return what_is_invalid(error)
    except (ValueError, RecursionError) as error:
        return not_json(str(error))
