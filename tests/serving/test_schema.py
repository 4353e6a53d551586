"""The served OpenAPI document and the service say the same, whatever is sent and whoever sends it.

CI repeats a fixed seed; `make fuzz` tries more, with whatever seed it is given.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support import other_version

from tocsin import EventClassifier
from tocsin.drift import Profile
from tocsin_serving.keys import VARIABLE, new_key
from tocsin_serving.openapi_refusals import UNKNOWN_FOLDER
from tocsin_serving.schemas import EXAMPLE_TEXTS
from tocsin_serving.stream import NDJSON

CASES = int(os.environ.get("FUZZ_CASES", "15"))
"""Tried of each operation, on each server."""
SEED = int(os.environ.get("FUZZ_SEED", "20260101"))
JSON = "application/json"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    ("POST", "/classify"),
    ("POST", "/classify_document"),
    ("POST", "/admin/reload"),
    ("GET", "/taxonomy"),
    ("GET", "/model"),
    ("GET", "/profile"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
]
SENDING = [operation for operation in OPERATIONS if operation[0] == "POST"]
CLIENT_GENERATOR = shutil.which("openapi-python-client")
ServingTocsin = Callable[..., AbstractContextManager[str]]
Operation = tuple[str, str]


@schemathesis.serializer(NDJSON)
def lines_of(_: schemathesis.SerializationContext, value: Any) -> bytes:  # noqa: ANN401  any JSON
    """A body of lines; what is no list is one line."""
    if isinstance(value, bytes):
        return value
    return b"".join(json.dumps(line).encode() + b"\n" for line in (value if isinstance(value, list) else [value]))


@schemathesis.deserializer(NDJSON)
def values_of(_: schemathesis.DeserializationContext, response: schemathesis.Response) -> list[Any]:
    """The values of an answer's lines, the last one with its end."""
    *lines, rest = response.content.split(b"\n")
    if rest:
        raise ValueError("the last line has no end")
    return [json.loads(line) for line in lines]


def with_one_kind_of_body(document: dict[str, Any], kind: str) -> dict[str, Any]:
    """The document with one kind of body of /classify, and with lines as the array that they stand for.

    What `contentSchema` says, schemathesis takes for a mere note.
    """
    document = copy.deepcopy(document)
    operation = document["paths"]["/classify"]["post"]
    body, answer = operation["requestBody"], operation["responses"]["200"]
    for content in (body["content"], answer["content"]):
        content[NDJSON]["schema"] = content[NDJSON]["schema"]["contentSchema"]
        del content[NDJSON]["example"]
    body["content"] = {kind: body["content"][kind]}
    return document


@dataclass
class Server:
    """A server, who may ask it, and what it was asked."""

    url: str
    callers: list[str | None] = field(default_factory=lambda: [None])
    """Keys to ask with, the first most often; none asks without."""
    releases: list[str | None] = field(default_factory=list)
    """What /admin/reload is asked for beside what is made up."""
    told: Counter[tuple[Operation, str, str, int]] = field(default_factory=Counter)
    """Operation, kind of body, kind of answer, status -> cases."""

    @property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document, as it is served now."""
        answer: dict[str, Any] = self.ask("GET", "/docs.json").json()
        return answer

    def operation(self, method: str, path: str, kind: str) -> schemathesis.APIOperation:
        """One operation with one kind of body, for schemathesis."""
        return schemathesis.openapi.from_dict(with_one_kind_of_body(self.document, kind))[path][method]

    @cached_property
    def session(self) -> requests.Session:
        """Connections that are used again."""
        return requests.Session()

    def headers(self, caller: str | None) -> dict[str, str]:
        """Those by which a caller is known."""
        return {} if caller is None else {"Authorization": f"Bearer {caller}"}

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask as the first caller."""
        headers = {**self.headers(self.callers[0]), **options.pop("headers", {})}
        return httpx.request(method, f"{self.url}{path}", headers=headers, timeout=60, **options)

    def try_one(self, case: schemathesis.Case, caller: str | None, accept: str | None, *more_checks: Any) -> int:
        """Send a case, hold the answer against the document, and give its status."""
        headers = {**self.headers(caller), **({"Accept": accept} if accept else {})}
        response = case.call(base_url=self.url, headers=headers, session=self.session)
        case.validate_response(response, checks=[*CHECKS, *more_checks])
        kind = response.headers["content-type"][0].split(";")[0]
        operation = case.operation.method.upper(), case.operation.path
        self.told[operation, case.media_type or "-", kind, response.status_code] += 1
        return int(response.status_code)

    def statuses(self, operation: Operation) -> set[int]:
        """What an operation was answered with."""
        return {status for asked, _, _, status in self.told if asked == operation}

    def print_told(self) -> None:
        """A line for each kind of question and answer; `make fuzz` shows them."""
        print(f"\n{self.url}, seed {SEED}: {self.told.total():,} cases")
        for ((method, path), body, answer, status), cases in sorted(self.told.items()):
            print(f"{method:4} {path:18} {body:20} -> {status} {answer:20} {cases:7,}")


OPERATOR, OPERATORS = new_key("operator", admin=True)
NEWSROOM, NEWSROOMS = new_key("newsroom", requests_per_minute=60)
HURRIED, HURRIEDS = new_key("hurried", requests_per_minute=1)


@pytest.fixture(scope="module")
def open_server(live: str) -> Iterator[Server]:
    """The shipped release without keys, as a user starts it."""
    server = Server(live)
    yield server
    server.print_told()


@pytest.fixture(scope="module")
def locked_server(
    serving_tocsin: ServingTocsin, tiny_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A tiny release with keys, where the first caller is an admin."""
    folder = tmp_path_factory.mktemp("releases")
    served, newer = shutil.copytree(tiny_release, folder / "served"), other_version(tiny_release, folder / "newer", "1")
    broken = shutil.copytree(tiny_release, folder / "broken")
    (broken / "model.onnx").write_bytes(b"x")
    keys = "\n".join(key.model_dump_json() for key in (OPERATORS, NEWSROOMS, HURRIEDS))
    with serving_tocsin(served, **{VARIABLE: keys, "TOCSIN_BODY_SECONDS": "1"}) as url:
        releases = [None, str(served), str(newer), str(broken), UNKNOWN_FOLDER, "x" * 20_000]
        server = Server(url, [OPERATOR, OPERATOR, OPERATOR, NEWSROOM, HURRIED, "tocsin_0_wrong", None], releases)
        yield server
        server.print_told()


@pytest.fixture(params=["open_server", "locked_server"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of them."""
    found: Server = request.getfixturevalue(request.param)
    return found


many = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def test_every_documented_operation_is_tried(server: Server) -> None:
    documented = {(method.upper(), path) for path, item in server.document["paths"].items() for method in item}
    assert documented == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path", "kind"), [*((*each, JSON) for each in OPERATIONS), ("POST", "/classify", NDJSON)])
def test_whatever_is_sent_is_answered_as_documented(server: Server, method: str, path: str, kind: str) -> None:
    operation = server.operation(method, path, kind)
    right = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    accept = [None, NDJSON] if (path, kind) == ("/classify", JSON) else [None]

    @seed(SEED)
    @many
    @given(
        case=st.one_of(right, wrong) if method == "POST" else right,
        caller=st.sampled_from(server.callers),
        accept=st.sampled_from(accept),
    )
    def try_one(case: schemathesis.Case, caller: str | None, accept: str | None) -> None:
        server.try_one(case, caller, accept, negative_data_rejection, positive_data_acceptance)

    try_one()
