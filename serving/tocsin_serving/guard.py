"""The door of the service: every request passes here before BentoML sees it.

In this order: who asks and how often, what kind of body, whether there is room, the body itself, whether there is time
for it. BentoML answers bad bodies too, but logs a traceback with the sender's text for each.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tocsin_serving.body import drain, parsed, read_body
from tocsin_serving.desk import ADMITTED, Desk, Ticket, check_objective
from tocsin_serving.keys import ApiKey, Keyring, presented_key
from tocsin_serving.model_header import MODEL_HEADER
from tocsin_serving.rate_limit import RateLimiter
from tocsin_serving.refusal import (
    ClientGoneError,
    RefusedError,
    admin_is_off,
    fault,
    invalid,
    late,
    no_admin_key,
    no_key,
    used_too_often,
    wrong_kind,
)
from tocsin_serving.request_log import CLIENT_GONE, REQUEST_ID_HEADER, Exchange
from tocsin_serving.schemas import BODIES, ClassifyRequest, DocumentRequest, FieldProblem, StreamOptions
from tocsin_serving.settings import Settings
from tocsin_serving.shares import Account, Room, caller_of
from tocsin_serving.stream import NDJSON, LineStream

HEALTH_PATHS = frozenset({"/healthz", "/livez", "/readyz"})
"""Open to everybody: those who ask have no keys."""
ADMIN_PREFIX = "/admin/"
# What curl sends with -d and no header is taken for JSON too; forms with files and pickles are not.
_JSON_TYPES = frozenset({"", "application/json", "application/x-www-form-urlencoded", "text/plain"})
_OVERLOADED = 503

# A child of BentoML's logger, for its handlers are the ones a server has.
logger = logging.getLogger("bentoml.tocsin")

Result = TypeVar("Result")


class RequestGuard:
    """ASGI middleware: callers, limits, validation, back-pressure, headers, the log."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        desk: Callable[[], Desk],
        settings: Settings,
        keyring: Keyring,
        limiter: Callable[[], RateLimiter],
    ) -> None:
        """Wrap an application.

        :param desk: gives the worker's desk, which is made after this.
        :param limiter: makes the limiter, in the process and thread that uses it.
        """
        self._app = app
        self._desk = desk
        self._settings = settings
        self._keyring = keyring
        self._make_limiter = limiter
        self._limiter: RateLimiter | None = None
        self._said_uncounted = False
        # Places are taken before bodies are read: unread bodies are memory too.
        self._places = Room(settings.max_waiting, share=settings.caller_places, seconds_to_wait=self._seconds_waiting)
        self._memory = Room(settings.max_held_bytes, share=settings.caller_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by refusing it or by passing it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange.of(scope)
        receive, send = _noted(receive, exchange), self._dressed(send, exchange)
        try:
            await self._answer(exchange, scope, receive, send)
        finally:
            if scope["path"] not in HEALTH_PATHS:
                exchange.log(with_texts=bool(self._settings.log_texts))

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; whatever keeps it from its answer is told, to its client as long as that is possible."""
        try:
            await self._serve(exchange, scope, receive, send)
        except RefusedError as refused:
            await self._refuse(refused, exchange, scope, receive, send)
        except ClientGoneError:
            exchange.break_off(CLIENT_GONE)
            if not exchange.started:
                # For BentoML's time limit, which holds on to a request until its answer begins; uvicorn drops it.
                await send({"type": "http.response.start", "status": CLIENT_GONE, "headers": []})
        except Exception:
            logger.exception("The request %s failed", exchange.request_id)
            await self._refuse(fault(), exchange, scope, receive, send)

    async def _serve(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        exchange.adopt_request_id(Headers(scope=scope))
        key = self._check_caller(exchange, scope)
        if scope["path"] in BODIES:
            caller = caller_of(scope, key)
            with self._places.of(caller).holding(1):
                await self._admit(exchange, self._memory.of(caller), scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check_caller(self, exchange: Exchange, scope: Scope) -> ApiKey | None:
        """Who may call what; gives the key, where one is needed.

        :raises RefusedError: 401, no key of ours; 403, not for this key; 429, too often.
        """
        admin = scope["path"].startswith(ADMIN_PREFIX)
        if not self._keyring:
            if admin:
                raise admin_is_off()
            return None
        if scope["path"] in HEALTH_PATHS:
            return None
        presented = presented_key(Headers(scope=scope), password=not admin)
        key = self._keyring.find(presented) if presented else None
        if key is None:
            raise no_key()
        exchange.key_name = key.name
        if admin and not key.admin:
            raise no_admin_key(key.name)
        if key.requests_per_minute:
            self._count(key.id, key.requests_per_minute)
        return key

    def _count(self, key_id: str, per_minute: int) -> None:
        try:
            if self._limiter is None:
                self._limiter = self._make_limiter()
            wait = self._limiter.seconds_to_wait(key_id, per_minute)
        except sqlite3.Error as error:
            self._let_pass_uncounted(error)
            return
        if wait > 0:
            raise used_too_often(per_minute, wait)

    def _let_pass_uncounted(self, error: sqlite3.Error) -> None:
        """A full disk or a lock held for too long is not the caller's fault, and the other limits still hold."""
        if not self._said_uncounted:
            logger.error("Requests of keys with a rate may pass uncounted, said once: %s", error)
        self._said_uncounted = True

    def _seconds_waiting(self) -> float:
        return self._desk().queue.seconds_waiting

    async def _admit(self, exchange: Exchange, memory: Account, scope: Scope, receive: Receive, send: Send) -> None:
        media_type = _check_kind(scope)
        if media_type != NDJSON:
            _check_query(scope)
        desk = self._desk()
        desk.check_capacity()
        if media_type == NDJSON:
            await self._answer_lines(desk, exchange, memory, scope, receive, send)
        else:
            await self._answer_body(desk, exchange, memory, scope, receive, send)

    async def _answer_body(
        self, desk: Desk, exchange: Exchange, memory: Account, scope: Scope, receive: Receive, send: Send
    ) -> None:
        limits = self._settings
        body = await read_body(receive, limit=limits.max_body_bytes, seconds=limits.body_seconds, memory=memory)
        held = len(body)
        try:
            request, body = parsed(BODIES[scope["path"]], body)
            if isinstance(request, ClassifyRequest) and _wants_lines(scope):
                await self._answer_in_lines(desk, exchange, request, receive, send)
            else:
                work = self._answer_at_once(desk, exchange, request, body, scope, send)
                await _while_there(work, receive, limits.timeout_seconds)
        finally:
            memory.release(held)

    async def _answer_in_lines(
        self, desk: Desk, exchange: Exchange, request: ClassifyRequest, receive: Receive, send: Send
    ) -> None:
        """Answer a request that came as one body line by line, for as long as the client is there."""
        ticket = await _while_there(desk.admit(request, in_lines=True), receive, self._settings.timeout_seconds)
        exchange.model_version = ticket.classifier.version
        await _while_there(LineStream(desk, ticket, self._settings, exchange, send).answer_texts(), receive)

    async def _answer_lines(
        self, desk: Desk, exchange: Exchange, memory: Account, scope: Scope, receive: Receive, send: Send
    ) -> None:
        classifier = desk.releases.classifier
        options = _query_options(scope)
        check_objective(classifier, options)
        exchange.model_version = classifier.version
        ticket = Ticket(classifier, options, [], [])
        await LineStream(desk, ticket, self._settings, exchange, send).answer_lines(receive, memory)

    async def _answer_at_once(
        self,
        desk: Desk,
        exchange: Exchange,
        request: ClassifyRequest | DocumentRequest,
        body: bytes,
        scope: Scope,
        send: Send,
    ) -> None:
        """Take a request on and have the application answer it: one piece of work, so that nothing gets in between."""
        ticket = await desk.admit(request)
        exchange.model_version = ticket.classifier.version
        exchange.saw(request.texts if isinstance(request, ClassifyRequest) else [request.document])
        with desk.start(ticket):
            await self._forward(ticket, body, scope, send)

    async def _forward(self, ticket: Ticket, body: bytes, scope: Scope, send: Send) -> None:
        """Have the application answer; the fault that it leaves on the ticket in place of an answer is raised."""
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            # BentoML asks once; what comes after is for `_gone`.
            return pending.pop() if pending else await asyncio.Future()

        async def send_unless_failed(message: Message) -> None:
            if ticket.fault is None:
                await send(message)

        headers = MutableHeaders(raw=list(scope["headers"]))
        headers["Content-Type"] = "application/json"
        headers["Content-Length"] = str(len(body))
        ADMITTED.set(ticket)
        await self._app({**scope, "headers": headers.raw}, replay, send_unless_failed)
        if ticket.fault is not None:
            raise ticket.fault

    async def _refuse(
        self, refused: RefusedError, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Give a refusal for an answer. One that has begun is broken off instead: clients notice the missing end."""
        if exchange.started:
            exchange.break_off(refused.status)
            return
        response = refused.response
        if refused.status == _OVERLOADED and await self._heard_out(exchange, receive):
            # A connection that idles until then may be closed in the moment in which the client comes back by it.
            response.headers["Connection"] = "close"
        await response(scope, receive, send)

    async def _heard_out(self, exchange: Exchange, receive: Receive) -> bool:
        """Read the rest of a request, within reason, and say whether that was all.

        A connection that is closed while bytes of it lie unread is reset, and the answer lost with it.
        """
        if not exchange.heard:
            left = self._settings.body_seconds - exchange.seconds
            await drain(receive, limit=self._settings.max_body_bytes, seconds=left)
        return exchange.heard

    def _dressed(self, send: Send, exchange: Exchange) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.model_version = exchange.model_version or self._desk().releases.classifier.version
                headers = MutableHeaders(scope=message)
                headers[MODEL_HEADER] = exchange.model_version
                headers[REQUEST_ID_HEADER] = exchange.request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)
            exchange.sent(message)

        return send_with_headers


def _noted(receive: Receive, exchange: Exchange) -> Receive:
    async def receive_and_note() -> Message:
        message = await receive()
        exchange.received(message)
        return message

    return receive_and_note


async def _while_there(work: Awaitable[Result], receive: Receive, limit: float | None = None) -> Result:
    """Do some work for as long as the client is there, and give its result.

    :param limit: seconds; none for any time.
    :raises ClientGoneError: it hung up, and the work was cancelled.
    :raises RefusedError: 504, the time was up, and the work was cancelled.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if limit is None or leaving.done():
            raise ClientGoneError
        raise late(limit)
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _check_kind(scope: Scope) -> str:
    """The media type of a request that has a body.

    :raises RefusedError: 405 or 415, saying what would be right.
    """
    path = scope["path"]
    if scope["method"] != "POST":
        raise RefusedError(405, f"{path} takes POST, not {scope['method']}.", headers={"Allow": "POST"})
    media_type = Headers(scope=scope).get("content-type", "").split(";")[0].strip().lower()
    takes_lines = BODIES[path] is ClassifyRequest
    if media_type in _JSON_TYPES or (media_type == NDJSON and takes_lines):
        return media_type
    raise wrong_kind(media_type, kinds_of(path))


def kinds_of(path: str) -> str:
    """The media types that a path's body may have, in words."""
    return f"application/json or {NDJSON}" if BODIES[path] is ClassifyRequest else "application/json"


def _wants_lines(scope: Scope) -> bool:
    accepted: Sequence[str] = Headers(scope=scope).get("accept", "").split(",")
    return any(part.split(";")[0].strip().lower() == NDJSON for part in accepted)


def _check_query(scope: Scope) -> None:
    """Options of a JSON request stand in its body; in the query string they would be overlooked.

    :raises RefusedError: 400 naming the option.
    """
    for name in dict(_query(scope)).keys() & StreamOptions.model_fields.keys():
        message = "belongs into the JSON body; the query string holds options of application/x-ndjson only"
        raise RefusedError(400, f"{name}: {message}", FieldProblem(field=name, message=message))


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)


def _query_options(scope: Scope) -> StreamOptions:
    """Options of a stream.

    :raises RefusedError: 400 naming the parameter.
    """
    try:
        return StreamOptions.model_validate(dict(_query(scope)))
    except ValidationError as error:
        raise invalid(error) from error
