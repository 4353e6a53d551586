"""What an operation may be refused with, for the OpenAPI document: the service's own answers, made as it makes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from tocsin import EventClassifier, Release, ReleaseError
from tocsin_serving import admin
from tocsin_serving.body import parsed
from tocsin_serving.guard import kinds_of
from tocsin_serving.refusal import (
    RefusedError,
    fault,
    large_body,
    late,
    no_admin_key,
    no_key,
    overloaded,
    release_refused,
    slow_body,
    used_too_often,
    wrong_kind,
)
from tocsin_serving.request_log import unfit_request_id
from tocsin_serving.schemas import BODIES, SETTINGS, Problem, ReloadRequest

UNKNOWN_FOLDER = "/no/such/release"
"""What the example of a refused release asks for."""
_MEANING = {
    400: "The body, a header or an option breaks a rule; `detail` names the fields.",
    401: "The server was started with API keys, and none of them was sent.",
    403: "The key may not do this, or /admin is off.",
    408: "The body did not come in time.",
    409: "The release was refused; the old one goes on serving.",
    413: "The body is too large, or would take longer to answer than there is time for; send it in parts.",
    415: "The body is of another kind.",
    429: "The key has been used too often, or holds its share; the header Retry-After says when to come back.",
    500: "Something went wrong in the service; its log tells what, under the answer's X-Request-ID.",
    503: "The service is overloaded; the header Retry-After says when to come back.",
    504: "The request could not be answered in time.",
}
_HEADERS: dict[str, dict[str, Any]] = {
    "Retry-After": {"description": "seconds", "required": True, "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {
        "description": "has a browser ask for the key",
        "required": True,
        "schema": {"type": "string"},
    },
}


def of_health() -> list[RefusedError]:
    """Refusals of the paths that are open to everybody."""
    return [unfit_request_id(), fault()]


def of_reading() -> list[RefusedError]:
    """Refusals of a path that takes nothing."""
    return [*of_health(), no_key(), used_too_often(per_minute=60, seconds=0.4)]


def of_classifying(path: str) -> list[RefusedError]:
    """Refusals of a path that takes texts."""
    return [
        *of_reading(),
        _refused(BODIES[path], b"{}"),
        slow_body(SETTINGS.body_seconds),
        large_body(SETTINGS.max_body_bytes),
        wrong_kind("text/csv", kinds_of(path)),
        overloaded(2),
        late(SETTINGS.timeout_seconds),
    ]


def of_reloading(classifier: EventClassifier) -> list[RefusedError]:
    """Refusals of a change to another release.

    :param classifier: the one that serves.
    """
    return [
        *of_reading(),
        _refused(ReloadRequest, b'{"release": 1}'),
        no_admin_key("newsroom"),
        slow_body(admin.BODY_SECONDS),
        _unknown_release(classifier.version),
        large_body(admin.MAX_BODY_BYTES),
        overloaded(1),
    ]


def responses(refusals: Iterable[RefusedError], headers: dict[str, Any]) -> dict[str, Any]:
    """Refusals by their status; of two with one status the later is the example.

    :param headers: those of every answer.
    """
    return {str(refused.status): _response(refused, headers) for refused in refusals}


def _response(refused: RefusedError, headers: dict[str, Any]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        "description": _MEANING[refused.status],
        "headers": {**headers, **{name: _HEADERS[name] for name in refused.headers}},
        "content": {"application/json": {"schema": schema, "example": refused.problem.model_dump()}},
    }


def _refused(model: type[BaseModel], body: bytes) -> RefusedError:
    try:
        parsed(model, body)
    except RefusedError as refused:
        return refused
    raise ValueError(f"{body!r} is a good {model.__name__}, and so no example of a bad one")


def _unknown_release(serving: str) -> RefusedError:
    try:
        Release.open(UNKNOWN_FOLDER)
    except ReleaseError as error:
        return release_refused(serving, error)
    raise ValueError(f"{UNKNOWN_FOLDER} is a release, and so no example of one that is not there")
