"""Requests that get no further, and what their senders are told; the OpenAPI document shows the same as examples."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.responses import JSONResponse

from tocsin_serving.schemas import FieldProblem, Problem

_MAX_PROBLEMS_TOLD = 10
# Of more, no list is made: that of a body full of unknown fields would take seconds and hundreds of megabytes.
_MAX_PROBLEMS_LISTED = 1_000
# Of a field's name, which may be anything that was sent.
_MAX_CHARACTERS_TOLD = 100
# Basic is offered so that a browser asks for the key; the user name is ignored.
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="tocsin, key as password", charset="UTF-8"'}


class RefusedError(Exception):
    """A request that gets no further, with the answer to give."""

    def __init__(
        self, status: int, error: str, *details: FieldProblem, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.status = status
        self.problem = Problem(error=error, detail=list(details))
        self.headers = dict(headers or {})

    @property
    def response(self) -> JSONResponse:
        """The answer to send."""
        return JSONResponse(self.problem.model_dump(), status_code=self.status, headers=self.headers)


class ClientGoneError(Exception):
    """The client hung up before its request was complete or answered."""


def no_key() -> RefusedError:
    """401 for a request without a key of ours."""
    return RefusedError(401, "Send an API key: Authorization: Bearer KEY.", headers=_CHALLENGE)


def admin_is_off() -> RefusedError:
    """403 of a server without keys, where nobody can be told from an admin."""
    return RefusedError(403, "/admin is off: the server was started without API keys.")


def no_admin_key(name: str) -> RefusedError:
    """403 for a key that may classify and no more.

    :param name: the key's.
    """
    return RefusedError(403, f"The key of {name} is not an admin key.")


def slow_body(seconds: float) -> RefusedError:
    """408 for a body that takes too long.

    :param seconds: that it may take.
    """
    return RefusedError(408, f"The request body was not complete after {seconds:.0f} s.")


def release_refused(serving: str, error: Exception) -> RefusedError:
    """409 for a release that cannot be served.

    :param serving: the one that goes on.
    """
    return RefusedError(409, f"Still serving {serving}; the release was refused: {error}")


def large_body(limit: int) -> RefusedError:
    """413 for more bytes than a body may have.

    :param limit: that many.
    """
    problem = FieldProblem(field="body", message=f"is longer than {limit:,} bytes; send it in several requests")
    return RefusedError(413, "The request body is too large.", problem)


def wrong_kind(media_type: str, right: str) -> RefusedError:
    """415 for a body of another kind.

    :param right: what is taken.
    """
    return RefusedError(415, f"Send {right}, not {media_type}.")


def used_too_often(per_minute: int, seconds: float) -> RefusedError:
    """429 for a key that has spent its requests.

    :param seconds: until it has another.
    """
    wait = str(max(1, round(seconds + 0.5)))
    return RefusedError(
        429, f"More than {per_minute} requests a minute; try again in {wait} s.", headers={"Retry-After": wait}
    )


def late(seconds: float) -> RefusedError:
    """504 for an answer that is not there in time.

    :param seconds: that it may take.
    """
    return RefusedError(504, f"The request could not be answered within {seconds} s.")


def overloaded(seconds: float) -> RefusedError:
    """503 that says when to come back.

    :param seconds: how long the work at hand is measured to take.
    """
    wait = str(max(1, math.ceil(seconds)))
    return RefusedError(503, f"The service is overloaded; try again in {wait} s.", headers={"Retry-After": wait})


def fault() -> RefusedError:
    """500 that tells where to look, and nothing of what went wrong."""
    return RefusedError(
        500, "Something went wrong in the service; its log tells what, under this answer's X-Request-ID."
    )


def too_long(field: str, seconds: float, limit: float) -> RefusedError:
    """413 for more work than can be done in the time for an answer.

    :param field: what is to be sent in parts.
    :param seconds: how long it is measured to take, with nobody else there.
    """
    message = f"would take about {math.ceil(seconds):,} s, and an answer has {limit:,.0f} s; send it in parts"
    if field == "texts":
        message += ", or ask for lines (Accept: application/x-ndjson), which may take any time"
    return RefusedError(413, f"{field}: {message}", FieldProblem(field=field, message=message))


def invalid(error: ValidationError) -> RefusedError:
    """400 naming each field at fault."""
    problem = what_is_invalid(error)
    return RefusedError(400, problem.error, *problem.detail)


def what_is_invalid(error: ValidationError) -> Problem:
    """Each field at fault, up to ten, without the values, which may be someone's text."""
    if error.error_count() > _MAX_PROBLEMS_LISTED:
        message = f"has {error.error_count():,} things wrong with it, most often unknown fields; see /docs"
        return Problem(error=f"body: {message}", detail=[FieldProblem(field="body", message=message)])
    errors = error.errors(include_url=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return not_json(errors[0]["msg"])
    problems = [FieldProblem(field=_place(each), message=_message(each)) for each in errors[:_MAX_PROBLEMS_TOLD]]
    return Problem(error=f"{problems[0].field}: {problems[0].message}", detail=problems)


def not_json(reason: str) -> Problem:
    """A body, or line, that cannot be parsed."""
    return Problem(error="Not valid JSON.", detail=[FieldProblem(field="body", message=reason)])


def _place(error: ErrorDetails) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{_cut(part)}" for part in error["loc"]]
    return "".join(parts).lstrip(".") or "body"


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_CHARACTERS_TOLD else f"{name[:_MAX_CHARACTERS_TOLD]}..."


def _message(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field; check its spelling"
    return error["msg"].removeprefix("Value error, ")
