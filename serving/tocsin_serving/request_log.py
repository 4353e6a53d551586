"""One line of log a request: who asked, how much, how it went. No text, unless TOCSIN_LOG_TEXTS=1 asks for it.

The hash of a text tells which request carried a text one has at hand. It also lets whoever reads the log test a guess;
see SECURITY.md.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Message, Scope

from tocsin_serving.broken import Reason, tell_broken
from tocsin_serving.refusal import RefusedError
from tocsin_serving.schemas import FieldProblem

REQUEST_ID_HEADER = "X-Request-ID"
REQUEST_ID_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
# As many characters of a SHA-256 as tell texts apart in a log.
_HASH_CHARACTERS = 16
_MAX_TEXTS_TOLD = 20
CLIENT_GONE = 499
"""Status in the log of a request whose client hung up, as nginx writes it; nobody is sent it."""
_BROKEN_BY: dict[int, Reason] = {
    CLIENT_GONE: "client",
    408: "client",
    400: "refused",
    429: "refused",
    503: "overload",
    504: "timeout",
    500: "fault",
}

# A child of BentoML's logger, for its handlers are the ones a server has.
logger = logging.getLogger("bentoml.tocsin.request")


@dataclass
class Exchange:
    """A request and its answer, as far as the log is to tell."""

    client: str | None
    """Address of who asked; none on a Unix socket."""
    method: str
    path: str
    request_id: str
    begun: float = field(default_factory=time.perf_counter)
    key_name: str | None = None
    model_version: str | None = None
    status: int = CLIENT_GONE
    """As it was sent; of an answer that broke off, what it would have been sent with."""
    heard: bool = False
    """Whether the request's body was read to its end."""
    started: bool = False
    """Whether the answer's headers are gone."""
    complete: bool = False
    """Whether the answer was sent to its end."""
    texts: int = 0
    characters: int = 0
    sample: list[str] = field(default_factory=list)
    """The first few texts."""

    @classmethod
    def of(cls, scope: Scope) -> Exchange:
        """The exchange that a request begins, with an id made for it; see `adopt_request_id`."""
        address, *_ = scope.get("client") or (None,)
        return cls(client=address, method=scope["method"], path=scope["path"], request_id=secrets.token_hex(16))

    def adopt_request_id(self, headers: Headers) -> None:
        """Take the id that the sender gave, if any.

        :raises RefusedError: 400, it could not be written into a log or header as it is.
        """
        given = headers.get(REQUEST_ID_HEADER)
        if given is None:
            return
        if not re.match(REQUEST_ID_PATTERN, given) or given.endswith("\n"):
            raise unfit_request_id()
        self.request_id = given

    @property
    def seconds(self) -> float:
        """How long it takes so far."""
        return time.perf_counter() - self.begun

    def received(self, message: Message) -> None:
        """Take note of a part of the request."""
        if message["type"] == "http.request":
            self.heard = not message.get("more_body", False)

    def sent(self, message: Message) -> None:
        """Take note of a part of the answer."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)

    def break_off(self, status: int) -> None:
        """There will be no more of the answer.

        :param status: what its client would be told, could it still be told anything.
        """
        # What goes wrong after the answer's end was told with the answer, if it was meant to be.
        if self.complete:
            return
        self.status = status
        if self.started:
            tell_broken(_BROKEN_BY.get(status, "fault"))

    def saw(self, texts: Sequence[str]) -> None:
        """Count texts of the request."""
        self.texts += len(texts)
        self.characters += sum(map(len, texts))
        self.sample += texts[: _MAX_TEXTS_TOLD - len(self.sample)]

    def log(self, *, with_texts: bool) -> None:
        """Write the line."""
        entry: dict[str, Any] = {
            "request_id": self.request_id,
            "client": self.client,
            "key": self.key_name,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "complete": self.complete,
            "seconds": round(self.seconds, 4),
            "model_version": self.model_version,
            "texts": self.texts,
            "characters": self.characters,
            "sha256": [_short_hash(text) for text in self.sample],
        }
        if with_texts:
            entry["sample"] = self.sample
        logger.info("%s", json.dumps(entry))


def unfit_request_id() -> RefusedError:
    """400 for an id that could not be written into a log or header as it is."""
    problem = FieldProblem(field=REQUEST_ID_HEADER, message=f"must match {REQUEST_ID_PATTERN}")
    return RefusedError(400, f"The header {REQUEST_ID_HEADER} {problem.message}.", problem)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:_HASH_CHARACTERS]
