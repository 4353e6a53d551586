"""The door of the service: every request body is checked here, before BentoML sees it.

BentoML answers bad bodies too, but logs a traceback with the sender's text for each and words 503 as an unexpected
error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tocsin.text import replace_lone_surrogates
from tocsin_serving.schemas import FieldProblem, Problem
from tocsin_serving.settings import Settings

MODEL_HEADER = "X-Tocsin-Model"
_MAX_PROBLEMS_TOLD = 10
# What curl sends with -d and no header is taken for JSON too; forms with files and pickles are not.
_JSON_TYPES = frozenset({"", "application/json", "application/x-www-form-urlencoded", "text/plain"})
# How much of an over-long body is read and dropped, so that its sender gets to read the answer.
_DRAIN_FACTOR = 16


class RefusedError(Exception):
    """A request that gets no further, with the answer to give."""

    def __init__(
        self, status: int, error: str, *details: FieldProblem, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        problem = Problem(error=error, detail=list(details))
        self.response = JSONResponse(problem.model_dump(), status_code=status, headers=headers)


class ClientGoneError(Exception):
    """The client hung up before its request was complete."""


class RequestGuard:
    """ASGI middleware: limits, validation, back-pressure and the model-version header."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        bodies: Mapping[str, type[BaseModel]],
        settings: Settings,
        model_version: Callable[[], str],
    ) -> None:
        """Wrap an application.

        :param bodies: path -> model of its request body; other paths only get the header.
        :param model_version: called per answer, for the header.
        """
        self._app = app
        self._bodies = bodies
        self._settings = settings
        self._model_version = model_version
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by refusing it or by passing it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = self._with_model_header(send)
        model = self._bodies.get(scope["path"])
        if model is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._admit(model, scope, receive, send)
        except RefusedError as refused:
            await refused.response(scope, receive, send)
        except ClientGoneError:
            return

    async def _admit(self, model: type[BaseModel], scope: Scope, receive: Receive, send: Send) -> None:
        _check_headers(scope)
        # Counted before the body is read: unread bodies are memory too.
        if self._waiting >= self._settings.max_waiting:
            raise self._overloaded()
        self._waiting += 1
        try:
            body = validated(model, await read_body(receive, self._settings.max_body_bytes))
            await self._forward(body, scope, receive, send)
        finally:
            self._waiting -= 1

    async def _forward(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application with the checked body; its own 503 becomes ours, which says when to come back."""
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        overloaded = False

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        async def watch(message: Message) -> None:
            nonlocal overloaded
            overloaded = overloaded or message.get("status") == 503
            if not overloaded:
                await send(message)

        headers = MutableHeaders(raw=list(scope["headers"]))
        headers["Content-Type"] = "application/json"
        headers["Content-Length"] = str(len(body))
        await self._app({**scope, "headers": headers.raw}, replay, watch)
        if overloaded:
            raise self._overloaded()

    def _overloaded(self) -> RefusedError:
        wait = str(self._settings.retry_after_seconds)
        return RefusedError(503, f"The service is overloaded; try again in {wait} s.", headers={"Retry-After": wait})

    def _with_model_header(self, send: Send) -> Send:
        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[MODEL_HEADER] = self._model_version()
            await send(message)

        return send_with_header


def _check_headers(scope: Scope) -> None:
    if scope["method"] != "POST":
        raise RefusedError(405, f"{scope['path']} takes POST, not {scope['method']}.", headers={"Allow": "POST"})
    media_type = Headers(scope=scope).get("content-type", "").split(";")[0].strip().lower()
    if media_type not in _JSON_TYPES:
        raise RefusedError(415, f"Send application/json, not {media_type}.")


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole request body, of at most `limit` bytes."""
    body = bytearray()
    size = 0
    more = True
    while more and size <= limit * _DRAIN_FACTOR:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            body += part
        more = message.get("more_body", False)
    if size > limit:
        problem = FieldProblem(field="body", message=f"is longer than {limit:,} bytes; send it in several requests")
        raise RefusedError(413, "The request body is too large.", problem)
    return bytes(body)


def validated(model: type[BaseModel], body: bytes) -> bytes:
    """The body as JSON that the model accepts, lone surrogates replaced.

    :raises RefusedError: 400 naming each field at fault.
    """
    try:
        # Only a \u escape can bring a surrogate into valid UTF-8.
        if b"\\u" in body:
            body = replace_lone_surrogates(json.dumps(json.loads(body), ensure_ascii=False)).encode()
        model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from error
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, *_not_json(str(error))) from error
    return body


def _invalid(error: ValidationError) -> RefusedError:
    errors = error.errors(include_url=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return RefusedError(400, *_not_json(errors[0]["msg"]))
    problems = [FieldProblem(field=_place(each), message=_message(each)) for each in errors[:_MAX_PROBLEMS_TOLD]]
    return RefusedError(400, f"{problems[0].field}: {problems[0].message}", *problems)


def _not_json(reason: str) -> tuple[str, FieldProblem]:
    return "The request body is not valid JSON.", FieldProblem(field="body", message=reason)


def _place(error: ErrorDetails) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]]
    return "".join(parts).lstrip(".") or "body"


def _message(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field; check its spelling"
    return error["msg"].removeprefix("Value error, ")
