"""The HTTP interface in process: the library's answers, and refusals that help."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Scope
from support import ROOT, assert_same_predictions

from tocsin import DocumentPrediction, EventClassifier, Prediction
from tocsin.sentences import split_sentences
from tocsin_serving.model_answer import ModelAnswer
from tocsin_serving.request_log import CLIENT_GONE
from tocsin_serving.schemas import EXAMPLE_DOCUMENT, EXAMPLE_TEXTS, SETTINGS
from tocsin_serving.stream import NDJSON
from tocsin_serving.work import Job, Seen, Turn

TEXTS = [
    *EXAMPLE_TEXTS,
    "Shelling of the village and an airstrike on the market.",
    "Looting \U0001f525 emoji, \u0642\u0635\u0641 right to left, <b>HTML</b>, NUL \x00 and a protest.",
    "An airstrike " + "was reported in a village near the river, " * 40 + "and a protest.",
    "La conférence de presse du ministre a eu lieu hier soir à Paris devant les journalistes.",
]


def _predictions(answer: list[dict[str, Any]]) -> list[Prediction]:
    return [Prediction.model_validate(one) for one in answer]


def test_http_gives_the_librarys_answers(client: TestClient, classifier: EventClassifier) -> None:
    response = client.post("/classify", json={"texts": TEXTS, "scores": True})

    assert response.status_code == 200
    assert response.headers["X-Tocsin-Model-Version"] == classifier.version
    assert_same_predictions(classifier.classify_batch(TEXTS), _predictions(response.json()))


def test_scores_are_given_only_when_asked_for(client: TestClient) -> None:
    (answer,) = client.post("/classify", json={"texts": TEXTS[:1]}).json()
    assert answer["scores"] is None
    assert answer["event_type_scores"] is None


def test_requests_in_one_batch_keep_their_own_order_and_options(
    client: TestClient, classifier: EventClassifier
) -> None:
    def ask(number: int) -> tuple[list[str], bool, list[Prediction]]:
        texts = TEXTS[number % len(TEXTS) :] + TEXTS[: number % 3]
        response = client.post("/classify", json={"texts": texts, "scores": number % 2 == 0})
        assert response.status_code == 200
        return texts, number % 2 == 0, _predictions(response.json())

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(24)))
    for texts, scores, answer in answers:
        assert_same_predictions(classifier.classify_batch(texts), answer)
        assert all((prediction.scores is not None) == scores for prediction in answer)


def test_documents_get_the_librarys_answers(client: TestClient, classifier: EventClassifier) -> None:
    response = client.post("/classify_document", json={"document": EXAMPLE_DOCUMENT, "scores": True})
    answer = DocumentPrediction.model_validate(response.json())
    expected = classifier.classify_document(EXAMPLE_DOCUMENT)

    assert_same_predictions(expected.sentences, answer.sentences)
    assert answer.summary == expected.summary
    assert all(EXAMPLE_DOCUMENT[s.start : s.end] == s.text for s in answer.sentences)


def test_lone_surrogates_become_replacement_characters(client: TestClient, classifier: EventClassifier) -> None:
    response = client.post("/classify_document", content=rb'{"document": "An airstrike \ud800 hit \ud83d\ude00"}')
    assert response.json()["sentences"][0]["text"] == "An airstrike \ufffd hit \U0001f600"


LONG = "a" * (SETTINGS.max_text_characters + 1)
BAD_BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "nothing": ("/classify", b"", 400, "body"),
    "malformed": ("/classify", b'{"texts": [', 400, "body"),
    "not UTF-8": ("/classify", b'{"texts": ["\xff"]}', 400, "body"),
    "bad escape": ("/classify", rb'{"texts": ["\u12"]}', 400, "body"),
    "array": ("/classify", b'["text"]', 400, "body"),
    "deep": ("/classify", b"[" * 100_000, 400, "body"),
    "deep with escapes": ("/classify", b'["\\u0041",' + b"[" * 100_000, 400, "body"),
    "no texts": ("/classify", b"{}", 400, "texts"),
    "empty list": ("/classify", b'{"texts": []}', 400, "texts"),
    "string for list": ("/classify", b'{"texts": "one"}', 400, "texts"),
    "number for text": ("/classify", b'{"texts": ["one", 2]}', 400, "texts[1]"),
    "null text": ("/classify", b'{"texts": [null]}', 400, "texts[0]"),
    "empty text": ("/classify", b'{"texts": ["one", ""]}', 400, "texts[1]"),
    "blank text": ("/classify", rb'{"texts": [" \n\t "]}', 400, "texts[0]"),
    "long text": ("/classify", json.dumps({"texts": ["one", LONG]}).encode(), 400, "texts[1]"),
    "1 MB of text": ("/classify", json.dumps({"texts": ["a" * 1_000_000]}).encode(), 400, "texts[0]"),
    "100,000 texts": ("/classify", json.dumps({"texts": ["a"] * 100_000}).encode(), 400, "texts"),
    "unknown field": ("/classify", b'{"texts": ["one"], "score": true}', 400, "score"),
    "string for flag": ("/classify", b'{"texts": ["one"], "scores": "yes"}', 400, "scores"),
    "large body": ("/classify", b'{"texts": ["' + b"a" * SETTINGS.max_body_bytes + b'"]}', 413, "body"),
    "empty document": ("/classify_document", b'{"document": ""}', 400, "document"),
    "list for document": ("/classify_document", b'{"document": ["a"]}', 400, "document"),
    "1 MB document": ("/classify_document", json.dumps({"document": "a" * 1_000_000}).encode(), 400, "document"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_bad_bodies_are_refused_by_field(client: TestClient, case: str) -> None:
    path, body, status, field = BAD_BODIES[case]
    response = client.post(path, content=body)

    assert response.status_code == status
    answer = response.json()
    assert answer["detail"][0]["field"] == field
    assert answer["error"]
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("path", "body"), [("/classify", {"texts": TEXTS[:1]}), ("/classify_document", {"document": TEXTS[0]})]
)
def test_a_fault_while_computing_is_answered_as_any_other_and_logged_once_with_the_requests_id(
    client: TestClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, object],
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("the model wants more than there is")

    monkeypatch.setattr(logging.getLogger("bentoml"), "propagate", True)
    with monkeypatch.context() as patch:
        patch.setattr(Turn, "compute", fail)
        response = client.post(path, json=body, headers={"X-Request-ID": "id-500"})
    assert response.status_code == 500
    assert response.headers["X-Request-ID"] == "id-500"
    documented = client.get("/docs.json").json()["paths"][path]["post"]["responses"]["500"]
    assert response.json() == documented["content"]["application/json"]["example"]
    assert "model wants" not in response.text
    (told,) = (record for record in caplog.records if record.exc_info)
    assert "id-500" in told.getMessage()
    assert "model wants" in str(told.exc_info)
    assert client.post(path, json=body).status_code == 200


def test_bad_bodies_leave_no_text_in_the_log(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    client.post("/classify", json={"texts": ["a secret source"], "wrong": 1})
    assert "secret" not in caplog.text


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/vnd.bentoml+pickle", "text/csv"])
def test_other_kinds_of_body_are_refused(client: TestClient, kind: str) -> None:
    response = client.post("/classify", content=b"{}", headers={"Content-Type": kind})
    assert response.status_code == 415
    assert "application/json" in response.json()["error"]


def test_wrong_method_is_told_the_right_one(client: TestClient) -> None:
    response = client.get("/classify")
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"


def test_model_and_taxonomy_are_the_releases(client: TestClient, classifier: EventClassifier) -> None:
    model = client.get("/model").json()
    assert model["model_version"] == classifier.version
    assert model["files"] == classifier.release.manifest.files
    assert model["limits"]["max_texts"] == SETTINGS.max_texts
    calibration = classifier.release.calibration
    assert model["review_below"] == calibration.review_below
    assert list(model["thresholds"]) == model["objectives"]
    assert list(model["thresholds"]["default"].values()) == list(calibration.thresholds)
    assert list(model["thresholds"]["precision"].values()) == list(calibration.objectives["precision"])
    labels = client.get("/taxonomy").json()["labels"]
    assert [label["label"] for label in labels] == list(model["thresholds"]["default"])
    assert [label["label"] for label in labels] == list(classifier.taxonomy.names)


def test_openapi_examples_are_real(client: TestClient, classifier: EventClassifier) -> None:
    """Those of the other paths, and of refusals: test_schema.py, where there are keys and a release to change to."""
    document = client.get("/docs.json").json()
    schemas = document["components"]["schemas"]
    for path in ("/classify", "/classify_document"):
        operation = document["paths"][path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        answer = client.post(path, json=example)
        assert answer.json() == operation["responses"]["200"]["content"]["application/json"]["example"]
        assert {"400", "413", "415", "503"} <= operation["responses"].keys()
    paths = document["paths"]
    assert paths["/taxonomy"]["get"]["responses"]["200"]["content"]["application/json"]["example"] == json.loads(
        classifier.taxonomy.model_dump_json()
    )
    assert paths["/model"]["get"]["responses"]["200"]["content"]["application/json"]["example"] == json.loads(
        ModelAnswer.of(classifier).model_dump_json()
    )
    for reference in set(_references(document)):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference


def test_every_answer_has_a_schema_and_an_example(client: TestClient) -> None:
    for path, item in client.get("/docs.json").json()["paths"].items():
        for method, operation in item.items():
            assert {"200", "400", "500"} <= operation["responses"].keys()
            for status, response in operation["responses"].items():
                for kind, content in response["content"].items():
                    assert content["schema"] not in ({}, {"type": "object"}), (method, path, status, kind)
                    assert "example" in content, (method, path, status, kind)


def test_every_field_of_what_is_sent_and_answered_is_described(client: TestClient) -> None:
    for name, schema in client.get("/docs.json").json()["components"]["schemas"].items():
        assert schema["description"], name
        assert [field for field, what in schema["properties"].items() if not what.get("description")] == [], name


def test_an_unread_text_is_told_by_its_language_and_the_reason_for_review(client: TestClient) -> None:
    (answer,) = client.post("/classify", json={"texts": ["Homens armados mataram onze aldeões nas suas casas."]}).json()
    assert answer["language"] not in client.get("/model").json()["languages"]
    assert (answer["events"], answer["needs_review"]) == ([], True)
    assert answer["review_reason"] == "language_not_read"


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []


PAGE_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def test_health_is_told(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/livez", "/healthz", "/readyz")] == [200, 200, 200]


def test_a_worker_whose_turn_does_not_end_is_not_ready_and_says_which(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bentoml  # late, as its telemetry is switched off by the service's module

    entered, gate = threading.Event(), threading.Event()
    compute = Turn.compute

    def hold(self: Turn, seen: Seen | None) -> dict[Job, list[Prediction]]:
        entered.set()
        assert gate.wait(20)
        return compute(self, seen)

    queue = bentoml.get_current_service().desk.queue
    monkeypatch.setattr(logging.getLogger("bentoml"), "propagate", True)
    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(Turn, "compute", hold)
        answer = pool.submit(client.post, "/classify", json={"texts": TEXTS[:1]})
        assert entered.wait(20)
        busy = client.get("/readyz")
        patch.setattr(queue, "clock", lambda: time.perf_counter() + SETTINGS.timeout_seconds + 1)
        stuck, alive = client.get("/readyz"), client.get("/livez")
        gate.set()
        assert answer.result().status_code == 200
    assert (busy.status_code, stuck.status_code, alive.status_code) == (200, 503, 200)
    assert f"the process {os.getpid()} computes no texts" in caplog.text
    assert client.get("/readyz").status_code == 200


def test_pages_are_shown_in_no_frame_and_tell_other_sites_nothing(client: TestClient) -> None:
    for path in ("/", "/docs"):
        headers = client.get(path).headers
        told = {name: headers.get(name) for name in PAGE_HEADERS}
        assert told == PAGE_HEADERS
        policy = [part.strip() for part in headers["Content-Security-Policy"].split(";")]
        assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} <= set(policy)


def test_pages_load_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "https://" not in page.text
        assert "innerHTML" not in page.text


SEVERAL = "Gunmen kidnapped the mayor and burned down twelve houses in the village on Sunday."


def test_events_are_narrowed_to_those_asked_for(client: TestClient, classifier: EventClassifier) -> None:
    whole = classifier.classify(SEVERAL)
    assert len(whole.events) >= 2
    least = whole.events[-1].probability
    wanted: list[tuple[dict[str, float], int]] = [
        ({"top_k": 1}, 1),
        ({"top_k": 99}, len(whole.events)),
        ({"min_probability": least}, len(whole.events)),
        ({"min_probability": least + 1e-6}, len(whole.events) - 1),
    ]
    for options, kept in wanted:
        (answer,) = client.post("/classify", json={"texts": [SEVERAL], **options}).json()
        assert [event["label"] for event in answer["events"]] == [event.label for event in whole.events[:kept]]
        assert answer["needs_review"] == whole.needs_review
        sentences = client.post("/classify_document", json={"document": SEVERAL, **options}).json()["sentences"]
        assert sum(len(sentence["events"]) for sentence in sentences) == kept


@pytest.fixture(scope="module")
def telling(classifier: EventClassifier) -> list[str]:
    """Texts whose events are others by the objective `precision`, and some that have the same by both."""
    records = (ROOT / "datasets/corpus/test/test_01.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(record)["text"] for record in records]
    usual, precise = classifier.score_batch(texts), classifier.score_batch(texts, objective="precision")
    differs = (usual.given != precise.given).any(axis=1)
    assert differs.any()
    return [text for text, other in zip(texts, differs, strict=True) if other][:4] + texts[:4]


def test_another_objective_gives_the_librarys_answers_by_it(
    client: TestClient, classifier: EventClassifier, telling: list[str]
) -> None:
    expected = classifier.score_batch(telling, objective="precision").predictions(scores=True)
    usual = client.post("/classify", json={"texts": telling}).json()
    wanted = {"objective": "precision", "scores": True}

    listed = client.post("/classify", json={"texts": telling, **wanted})
    assert_same_predictions(expected, _predictions(listed.json()))
    assert [answer["events"] for answer in listed.json()] != [answer["events"] for answer in usual]

    lines = "".join(json.dumps({"text": text}) + "\n" for text in telling)
    kind = {"Content-Type": NDJSON}
    streamed = client.post(
        "/classify", params={"objective": "precision", "scores": "true"}, content=lines, headers=kind
    )
    assert_same_predictions(expected, _predictions([json.loads(line) for line in streamed.text.splitlines()]))

    in_lines = client.post("/classify", json={"texts": telling, **wanted}, headers={"Accept": NDJSON})
    assert in_lines.text == streamed.text


def test_a_document_is_read_by_the_objective_asked_for(
    client: TestClient, classifier: EventClassifier, telling: list[str]
) -> None:
    sentences = split_sentences("\n\n".join(telling))
    document = "\n\n".join(telling)
    scores = classifier.score_batch([sentence.text for sentence in sentences], objective="precision")
    expected = classifier.roll_up(document, sentences, scores.predictions(scores=False))

    asked = [{"document": document, "objective": objective} for objective in ("precision", "default")]
    precise, usual = (client.post("/classify_document", json=each).json() for each in asked)
    answer = DocumentPrediction.model_validate(precise)
    assert_same_predictions(expected.sentences, answer.sentences)
    assert answer.summary == expected.summary
    assert precise["sentences"] != usual["sentences"]


def test_a_whole_number_may_be_written_with_a_point(client: TestClient) -> None:
    one, same = (client.post("/classify", json={"texts": [SEVERAL], "top_k": number}).json() for number in (1, 1.0))
    assert one == same
    assert len(one[0]["events"]) == 1


@pytest.mark.parametrize(
    "options",
    [{"top_k": 0}, {"top_k": 1.5}, {"top_k": True}, {"top_k": "1"}, {"min_probability": 1.1}, {"objective": ""}],
)
def test_wrong_options_are_refused_by_name(client: TestClient, options: dict[str, object]) -> None:
    response = client.post("/classify", json={"texts": ["one"], **options})
    assert response.status_code == 400
    assert response.json()["detail"][0]["field"] in options


@pytest.mark.parametrize(
    ("header", "value"),
    [(b"content-type", b"application/json; x=\xff"), (b"user-agent", b"\xff\\x"), (b"traceparent", b"\xff\\x")],
)
def test_a_header_that_is_no_utf_8_costs_nobody_an_answer(client: TestClient, header: bytes, value: bytes) -> None:
    body = b'{"texts": ["An airstrike."]}'
    start, *parts = sent_by(client, [{"type": "http.request", "body": body}], (header, value))
    assert start["status"] == 200
    assert len(json.loads(b"".join(part["body"] for part in parts))) == 1
    assert not parts[-1].get("more_body"), "the answer has its end"


def test_what_is_asked_for_forges_no_line_of_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("bentoml"), "propagate", True)
    client.get("/x%0A[INFO] forged")
    told = [record.getMessage() for record in caplog.records if "forged" in record.getMessage()]
    assert [message for message in told if "\n" in message] == []
    (line,) = (json.loads(message) for message in told if message.startswith("{"))
    assert (line["path"], line["client"]) == ("/x\n[INFO] forged", "testclient")


@pytest.mark.usefixtures("client")
def test_bentomls_time_limit_leaves_a_request_the_time_for_its_body_and_that_for_its_answer() -> None:
    from tocsin_serving.service import Tocsin

    assert Tocsin.config["traffic"]["timeout"] > SETTINGS.body_seconds + SETTINGS.timeout_seconds


@pytest.mark.parametrize("said", [b'{"texts"', b'{"texts": ["An airstrike."]}'], ids=["body", "answer"])
def test_a_client_who_left_before_its_answer_leaves_nothing_behind(client: TestClient, said: bytes) -> None:
    """A request that BentoML's time limit held on to would be a task, and what that holds, for a minute and more."""
    request: Message = {"type": "http.request", "body": said, "more_body": not said.endswith(b"}")}
    sent = sent_by(client, [request, {"type": "http.disconnect"}])
    assert [message.get("status") for message in sent] == [CLIENT_GONE]


def sent_by(client: TestClient, says: list[Message], *headers: tuple[bytes, bytes]) -> list[Message]:
    """What /classify sends to one who says this and then waits; in bytes, which the test client would put in UTF-8.

    :raises TimeoutError: the service is not done with it soon.
    """
    waiting, sent = list(says), list[Message]()

    async def receive() -> Message:
        return waiting.pop(0) if waiting else await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    async def ask() -> None:
        async with asyncio.timeout(20):
            await client.app({**_CLASSIFY, "headers": list(headers)}, receive, send)

    assert client.portal is not None
    client.portal.call(ask)
    return sent


_CLASSIFY: Scope = {
    "type": "http",
    "http_version": "1.1",
    "scheme": "http",
    "method": "POST",
    "path": "/classify",
    "root_path": "",
    "query_string": b"",
    "server": ("testserver", 80),
    "client": ("127.0.0.1", 1),
}
