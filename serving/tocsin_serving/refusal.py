"""Requests that get no further, and what their senders are told."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.responses import JSONResponse

from tocsin_serving.schemas import FieldProblem, Problem

_MAX_PROBLEMS_TOLD = 10


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


def invalid(error: ValidationError) -> RefusedError:
    """400 naming each field at fault."""
    problem = what_is_invalid(error)
    return RefusedError(400, problem.error, *problem.detail)


def what_is_invalid(error: ValidationError) -> Problem:
    """Each field at fault, without the values, which may be someone's text."""
    errors = error.errors(include_url=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return not_json(errors[0]["msg"])
    problems = [FieldProblem(field=_place(each), message=_message(each)) for each in errors[:_MAX_PROBLEMS_TOLD]]
    return Problem(error=f"{problems[0].field}: {problems[0].message}", detail=problems)


def not_json(reason: str) -> Problem:
    """A body, or line, that cannot be parsed."""
    return Problem(error="Not valid JSON.", detail=[FieldProblem(field="body", message=reason)])


def _place(error: ErrorDetails) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]]
    return "".join(parts).lstrip(".") or "body"


def _message(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field; check its spelling"
    return error["msg"].removeprefix("Value error, ")
