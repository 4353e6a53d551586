"""Requests that get no further, and what their senders are told."""

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


class RefusedError(Exception):
    """A request that gets no further, with the answer to give."""

    def __init__(
        self, status: int, error: str, *details: FieldProblem, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.status = status
        self.problem = Problem(error=error, detail=list(details))
        self._headers = headers

    @property
    def response(self) -> JSONResponse:
        """The answer to send."""
        return JSONResponse(self.problem.model_dump(), status_code=self.status, headers=self._headers)


class ClientGoneError(Exception):
    """The client hung up before its request was complete or answered."""


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
