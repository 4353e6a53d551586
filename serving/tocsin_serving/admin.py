"""What an admin may do to a running server. The guard has checked the key before a request comes here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tocsin import TocsinError
from tocsin_serving.body import parsed, read_body
from tocsin_serving.refusal import ClientGoneError, RefusedError, release_refused
from tocsin_serving.releases import FOLLOW_SECONDS, ServedRelease
from tocsin_serving.schemas import MAX_RELEASE_CHARACTERS, ReloadAnswer, ReloadRequest
from tocsin_serving.settings import BYTES_A_CHARACTER
from tocsin_serving.shares import Room

RELOAD_PATH = "/admin/reload"
MAX_BODY_BYTES = MAX_RELEASE_CHARACTERS * BYTES_A_CHARACTER + 1_024
"""Longest body: that of the longest name, with every character escaped."""
BODY_SECONDS = 10
"""Time for a body to arrive."""


def admin_routes(releases: Callable[[], ServedRelease]) -> list[Route]:
    """The routes under /admin.

    :param releases: gives what the worker serves, which is loaded after the routes are made.
    """
    memory = Room(16 * MAX_BODY_BYTES).of(None)

    async def reload(request: Request) -> Response:
        try:
            body = await read_body(request.receive, limit=MAX_BODY_BYTES, seconds=BODY_SECONDS, memory=memory)
            memory.release(len(body))
            wanted = parsed(ReloadRequest, body or b"{}")[0]
            return JSONResponse((await _reload(releases(), wanted)).model_dump())
        except RefusedError as refused:
            return refused.response
        except ClientGoneError:
            return Response(status_code=400)

    return [Route(RELOAD_PATH, reload, methods=["POST"])]


async def _reload(served: ServedRelease, wanted: ReloadRequest) -> ReloadAnswer:
    """Change to another release.

    :raises RefusedError: 409, it was refused and the old one goes on serving.
    """
    previous = served.classifier.version
    try:
        # A thread of its own: answers go on meanwhile.
        classifier = await asyncio.to_thread(served.change_to, wanted.release)
    except TocsinError as error:
        raise release_refused(previous, error) from error
    return ReloadAnswer(
        model_version=classifier.version,
        previous_version=previous,
        other_workers_within_seconds=FOLLOW_SECONDS,
    )
