"""The first of BentoML's middlewares, its request metrics, with two things mended.

One name for every path that the service does not have: BentoML makes a series of each path that anyone asks for, so
whoever sends a thousand paths would make thousands of series, and what a path says would stand on /metrics for all to
read. And headers in UTF-8: the next middleware, OpenTelemetry's, decodes some as that, always, and fails on others
before the guard could answer.
"""

from __future__ import annotations

from typing import Any

from bentoml._internal.server.http import instruments
from starlette.types import ASGIApp, Receive, Scope, Send

OTHER_PATHS = "other"
_ASKED = "tocsin.path"


class BoundedTrafficMetrics(instruments.RunnerTrafficMetricsMiddleware):
    """Tells the metrics another path than the application."""

    known: frozenset[str] = frozenset()
    """Paths that have a name of their own."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:  # noqa: ANN401  BentoML's own
        async def with_the_path_asked_for(scope: Scope, receive: Receive, send: Send) -> None:
            if _ASKED in scope:
                scope = {**scope, "path": scope[_ASKED]}
            await app(scope, receive, send)

        super().__init__(with_the_path_asked_for, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request and pass it on."""
        if "headers" in scope:
            scope = {**scope, "headers": [(name, _in_utf_8(value)) for name, value in scope["headers"]]}
        if scope["type"] == "http" and scope["path"] not in self.known:
            scope = {**scope, "path": OTHER_PATHS, _ASKED: scope["path"]}
        await super().__call__(scope, receive, send)


def _in_utf_8(value: bytes) -> bytes:
    """A header's value; one that is not UTF-8 is taken for Latin-1, as HTTP had it once (RFC 9110, section 5.5)."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


def bound_endpoints(paths: frozenset[str]) -> None:
    """Have BentoML use it; there is no setting for that.

    :param paths: those the service has.
    """
    BoundedTrafficMetrics.known = paths
    instruments.RunnerTrafficMetricsMiddleware = BoundedTrafficMetrics  # type: ignore[misc, assignment]
