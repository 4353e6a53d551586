"""What the service answers to GET: the page for people, the model, the labels, the OpenAPI document.

Mounted before BentoML's own routes, so that its index page, which loads a tag manager from the internet, is never
served.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tocsin import EventClassifier
from tocsin.drift import Profile
from tocsin_serving.model_answer import ModelAnswer
from tocsin_serving.openapi import complete

PATHS = ("/", "/docs", "/taxonomy", "/model", "/profile", "/docs.json")
"""What is answered here."""


def create_site(
    classifier: Callable[[], EventClassifier],
    openapi: Callable[[], dict[str, Any]],
    profile: Callable[[], Profile],
    *,
    extra_routes: Sequence[Route] = (),
) -> Starlette:
    """The GET side of the service.

    :param classifier: gives the worker's classifier, which is loaded after this application is made.
    :param openapi: gives BentoML's OpenAPI document.
    :param profile: gives the newest answers as counts.
    :param extra_routes: mounted beside these.
    """

    def taxonomy(_: Request) -> Response:
        return JSONResponse(classifier().taxonomy.model_dump(mode="json"))

    def model(_: Request) -> Response:
        return JSONResponse(ModelAnswer.of(classifier()).model_dump(mode="json"))

    document = KeptDocument(openapi)

    def docs(_: Request) -> Response:
        return Response(document.of(classifier()), media_type="application/json")

    def newest_answers(_: Request) -> Response:
        return JSONResponse(profile().model_dump(mode="json"))

    answers: dict[str, Callable[[Request], Response]] = {
        "/": _page("page.html"),
        "/docs": _page("docs.html", scripts_from_self=True),
        "/taxonomy": taxonomy,
        "/model": model,
        "/profile": newest_answers,
        "/docs.json": docs,
    }
    return Starlette(routes=[*(Route(path, answers[path]) for path in PATHS), *extra_routes])


class KeptDocument:
    """The OpenAPI document of each release that serves, made once: its examples are answered by the model."""

    def __init__(self, openapi: Callable[[], dict[str, Any]]) -> None:
        self._openapi = openapi
        self._making = threading.Lock()
        # Weak, so that a release which serves no more can go.
        self._documents: WeakKeyDictionary[EventClassifier, bytes] = WeakKeyDictionary()

    def of(self, classifier: EventClassifier) -> bytes:
        """The document in JSON."""
        with self._making:
            document = self._documents.get(classifier)
            if document is None:
                document = json.dumps(complete(self._openapi(), classifier), ensure_ascii=False).encode()
                self._documents[classifier] = document
            return document


def _page(name: str, *, scripts_from_self: bool = False) -> Callable[[Request], Response]:
    html = (files("tocsin_serving") / "pages" / name).read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": _content_security_policy(html, scripts_from_self),
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }

    def page(_: Request) -> Response:
        return HTMLResponse(html, headers=headers)

    return page


def _content_security_policy(html: str, scripts_from_self: bool) -> str:
    """Only the page's own inline script and style run, whatever text gets into the page."""
    source = " 'self'" if scripts_from_self else ""
    # Swagger writes style attributes, which have no hash.
    style = "'self' 'unsafe-inline'" if scripts_from_self else _hashes(html, "style")
    return (
        f"default-src 'none'; script-src {_hashes(html, 'script')}{source}; style-src {style}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(html: str, tag: str) -> str:
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
