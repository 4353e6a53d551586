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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest
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

from tocsin.drift import Profile
from tocsin_serving.admin import MAX_BODY_BYTES, RELOAD_PATH
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
SENDING = [
    ("POST", "/classify", JSON),
    ("POST", "/classify", NDJSON),
    ("POST", "/classify_document", JSON),
    ("POST", RELOAD_PATH, JSON),
]
"""Operations with each kind of body that they take."""
READING = ["/taxonomy", "/model", "/profile", "/metrics", "/healthz", "/livez", "/readyz"]
"""Paths of operations that take none."""
EACH = [*SENDING, *(("GET", path, "-") for path in READING)]
CLIENT_GENERATOR = shutil.which("openapi-python-client")
ServingTocsin = Callable[..., AbstractContextManager[str]]
# For a body of /admin/reload.
TOO_LONG = "x" * MAX_BODY_BYTES
Operation = tuple[str, str]
Check = Callable[..., bool | None]


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

    What `contentSchema` says, schemathesis takes for a mere note; that the query string is for lines only, no schema
    can say.
    """
    document = copy.deepcopy(document)
    operation = document["paths"]["/classify"]["post"]
    body, answer = operation["requestBody"], operation["responses"]["200"]
    for content in (body["content"], answer["content"]):
        content[NDJSON]["schema"] = content[NDJSON]["schema"]["contentSchema"]
        del content[NDJSON]["example"]
    body["content"] = {each: content for each, content in body["content"].items() if each == kind}
    if kind == JSON:
        operation["parameters"] = [each for each in operation["parameters"] if each["in"] != "query"]
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

    def operation(self, method: str, path: str, kind: str) -> schemathesis.APIOperation[Any, Any, Any, Any]:
        """One operation with one kind of body, for schemathesis."""
        return schemathesis.openapi.from_dict(with_one_kind_of_body(self.document, kind))[path][method]

    @cached_property
    def client(self) -> httpx.Client:
        """Connections that are used again."""
        return httpx.Client(base_url=self.url, timeout=60)

    def headers(self, caller: str | None) -> dict[str, str]:
        """Those by which a caller is known."""
        return {} if caller is None else {"Authorization": f"Bearer {caller}"}

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: str | bytes | None = None,
        kind: str = JSON,
        caller: str | None = None,
    ) -> httpx.Response:
        """Ask once, as the first caller or another one."""
        headers = {**self.headers(caller or self.callers[0]), "Content-Type": kind}
        return self.client.request(method, path, headers=headers, content=body)

    def described(self, method: str, path: str) -> dict[str, Any]:
        """An operation as the document has it now."""
        found: dict[str, Any] = self.document["paths"][path][method.lower()]
        return found

    def example(self, method: str, path: str, status: int, kind: str = JSON) -> Any:  # noqa: ANN401  any JSON
        """The document's answer with a status."""
        return self.described(method, path)["responses"][str(status)]["content"][kind]["example"]

    def try_one(
        self,
        case: schemathesis.Case[Any],
        caller: str | None,
        *,
        accept: str | None = None,
        more_checks: Sequence[Check] = (),
    ) -> None:
        """Send a case and hold the answer against the document."""
        headers = {**self.headers(caller), **({"Accept": accept} if accept else {})}
        response = case.call(base_url=self.url, headers=headers)
        case.validate_response(response, checks=[*CHECKS, *more_checks])
        kind = response.headers["content-type"][0].split(";")[0]
        operation = case.operation.method.upper(), case.operation.path
        self.told[operation, case.media_type or "-", kind, response.status_code] += 1

    def kinds(self, operation: Operation, body: str) -> set[str]:
        """What an operation with one kind of body was answered with where all was well."""
        return {kind for asked, sent, kind, status in self.told if (asked, sent, status) == (operation, body, 200)}

    def print_told(self) -> None:
        """A line for each kind of question and answer; `make fuzz` shows them."""
        print(f"\n{self.url}, seed {SEED}: {self.told.total():,} cases")
        for ((method, path), body, answer, status), cases in sorted(self.told.items()):
            print(f"{method:4} {path:18} {body:20} -> {status} {answer:20} {cases:7,}")


OPERATOR, OPERATORS = new_key("operator", admin=True)
NEWSROOM, NEWSROOMS = new_key("newsroom")
HURRIED, HURRIEDS = new_key("hurried", requests_per_minute=1)
BUSY, BUSYS = new_key("busy", admin=True, requests_per_minute=60)


@pytest.fixture(scope="module")
def open_server(live: str) -> Iterator[Server]:
    """The shipped release without keys, as a user starts it."""
    server = Server(live)
    yield server
    server.client.close()
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
    keys = "\n".join(key.model_dump_json() for key in (OPERATORS, NEWSROOMS, HURRIEDS, BUSYS))
    with serving_tocsin(served, **{VARIABLE: keys, "TOCSIN_BODY_SECONDS": "1"}) as url:
        releases = [None, str(served), str(newer), str(broken), UNKNOWN_FOLDER, TOO_LONG]
        server = Server(url, [OPERATOR, OPERATOR, OPERATOR, NEWSROOM, HURRIED, "tocsin_0_wrong", None], releases)
        yield server
        # An open connection would hold up the server's end.
        server.client.close()
        server.print_told()


@pytest.fixture(params=["open_server", "locked_server"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of them."""
    found: Server = request.getfixturevalue(request.param)
    return found


def many(test: Callable[..., None]) -> Callable[..., None]:
    """So many cases, the same for one seed."""
    how = settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    return seed(SEED)(how(test))


def test_every_documented_operation_is_tried(server: Server) -> None:
    documented = {(method.upper(), path) for path, item in server.document["paths"].items() for method in item}
    assert documented == {*((method, path) for method, path, _ in SENDING), *(("GET", path) for path in READING)}


@pytest.mark.parametrize(("method", "path", "kind"), EACH)
def test_whatever_is_sent_is_answered_as_documented(server: Server, method: str, path: str, kind: str) -> None:
    operation = server.operation(method, path, kind)
    right = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    # A wrong line is no wrong request: it is answered in its place.
    checks = [positive_data_acceptance] if kind == NDJSON else [positive_data_acceptance, negative_data_rejection]
    in_lines = [None, NDJSON] if (path, kind) == ("/classify", JSON) else [None]

    @many
    @given(
        case=right if method == "GET" else st.one_of(right, wrong),
        caller=st.sampled_from(server.callers),
        accept=st.sampled_from(in_lines),
    )
    def try_one(case: schemathesis.Case[Any], caller: str | None, accept: str | None) -> None:
        server.try_one(case, caller, accept=accept, more_checks=checks)

    try_one()
    if server.callers == [None] and path != RELOAD_PATH:
        documented = set(server.described(method, path)["responses"]["200"]["content"])
        assert server.kinds((method, path), kind) == ({NDJSON} if kind == NDJSON else documented)


# What might stand in a body, and what one can be.
PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\n",
    b"\\u",
    b"\xff",
    b"\x00",
    b'"text"',
    b'"texts"',
    b"null",
    b"1e999",
]
WHOLE = [b'{"text": "An airstrike."}\n', b'{"texts": ["An airstrike."]}', b'{"document": "An airstrike."}']
BYTES = st.lists(st.sampled_from(PIECES + WHOLE) | st.binary(max_size=8), max_size=12).map(b"".join)


@pytest.mark.parametrize(("method", "path", "kind"), SENDING)
def test_any_bytes_are_answered_as_documented(server: Server, method: str, path: str, kind: str) -> None:
    operation = server.operation(method, path, kind)

    @many
    @given(body=BYTES, caller=st.sampled_from(server.callers))
    def try_one(body: bytes, caller: str | None) -> None:
        server.try_one(operation.Case(body=body, media_type=kind), caller)

    try_one()


def test_whatever_release_is_asked_for_the_answer_is_as_documented(locked_server: Server) -> None:
    operation = locked_server.operation("POST", RELOAD_PATH, JSON)

    @many
    @given(wanted=st.sampled_from(locked_server.releases))
    def try_one(wanted: str | None) -> None:
        case = operation.Case(body={"release": wanted}, media_type=JSON)
        locked_server.try_one(case, OPERATOR)

    try_one()
    told = {status for (_, path), _, _, status in locked_server.told if path == RELOAD_PATH}
    assert {200, 409, 413} <= told


@pytest.mark.parametrize(("method", "path", "kind"), EACH)
def test_the_examples_are_what_is_answered(server: Server, method: str, path: str, kind: str) -> None:
    if path == RELOAD_PATH and server.callers == [None]:
        pytest.skip("needs a key")
    sent = server.described(method, path).get("requestBody", {"content": {kind: {}}})["content"][kind].get("example")
    answer = server.ask(
        method, path, body=sent if sent is None or isinstance(sent, str) else json.dumps(sent), kind=kind
    )
    answered = answer.headers["Content-Type"].partition(";")[0]
    example = server.example(method, path, 200, answered)
    if path == "/metrics":
        assert set(example.splitlines()[:2]) <= set(answer.text.splitlines())
    elif path == "/profile":
        # Of the two texts among the examples; the service's own changes with every answer.
        assert Profile.model_validate(example).texts == len(EXAMPLE_TEXTS)
        assert answer.json().keys() == example.keys()
    else:
        assert example == (answer.json() if answered == JSON else answer.text)


@pytest.mark.parametrize(
    ("status", "wanted", "caller"),
    [
        (400, 1, OPERATOR),
        (401, None, "tocsin_0_wrong"),
        (403, None, NEWSROOM),
        (409, UNKNOWN_FOLDER, OPERATOR),
        (413, TOO_LONG, OPERATOR),
    ],
    ids=["400", "401", "403", "409", "413"],
)
def test_the_examples_of_a_refused_release_are_what_is_answered(
    locked_server: Server, status: int, wanted: object, caller: str
) -> None:
    answer = locked_server.ask("POST", RELOAD_PATH, body=json.dumps({"release": wanted}), caller=caller)
    assert answer.status_code == status
    assert answer.json() == locked_server.example("POST", RELOAD_PATH, status)


def test_the_example_of_too_many_requests_is_what_is_answered(locked_server: Server) -> None:
    # A bucket of sixty, into which another falls every second.
    answers = (locked_server.ask("GET", "/no/such/path", caller=BUSY) for _ in range(1_000))
    answer = next(answer for answer in answers if answer.status_code == 429)
    assert answer.json() == locked_server.example("GET", "/model", 429)
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("status", "kind", "body"), [(400, JSON, b"{}"), (413, JSON, b" " * 5_000_000), (415, "text/csv", b"a,b")]
)
def test_the_examples_of_a_refused_text_are_what_is_answered(
    server: Server, status: int, kind: str, body: bytes
) -> None:
    for path in ("/classify", "/classify_document"):
        answer = server.ask("POST", path, body=body, kind=kind)
        assert answer.status_code == status
        assert answer.json() == server.example("POST", path, status)


def test_the_example_of_a_body_that_does_not_come_is_what_is_answered(locked_server: Server) -> None:
    host, _, port = locked_server.url.removeprefix("http://").partition(":")
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nX-API-Key: {OPERATOR}\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(head.encode())
        answer = HTTPResponse(client)
        answer.begin()
        told = json.load(answer)
    assert (answer.status, told) == (408, locked_server.example("POST", "/classify", 408))


@pytest.mark.skipif(CLIENT_GENERATOR is None, reason="needs openapi-python-client on the PATH, as `make test` has it")
def test_a_generated_client_classifies(open_server: Server, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(open_server.document))
    command = [str(CLIENT_GENERATOR), "generate", "--path", "openapi.json", "--meta", "none", "--output-path", "made"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout
    script = f"""
from made import Client
from made.api.tocsin import classify, model
from made.models import ClassifyRequest
client = Client("{open_server.url}")
answer = classify.sync(client=client, body=ClassifyRequest(texts=["An airstrike hit the market."]))
print(answer[0].events[0].label, model.sync(client=client).model_version == answer[0].model_version)
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout.strip() == "air_drone_strike True", ran.stderr
