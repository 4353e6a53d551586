"""The OpenAPI document: BentoML's, with the other paths, refusals, streams, headers, keys and real example answers.

Schemas are pydantic's own, which are those of OpenAPI 3.1; BentoML's are of 3.0, where nothing may be null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from tocsin import DocumentPrediction, EventClassifier, Prediction, Taxonomy
from tocsin.drift import Profile
from tocsin.sentences import Sentence, split_sentences
from tocsin_serving.admin import RELOAD_PATH
from tocsin_serving.guard import HEALTH_PATHS
from tocsin_serving.model_header import MODEL_HEADER
from tocsin_serving.request_log import REQUEST_ID_HEADER, REQUEST_ID_PATTERN
from tocsin_serving.schemas import (
    EXAMPLE_DOCUMENT,
    EXAMPLE_TEXTS,
    ClassifyRequest,
    DocumentRequest,
    FieldProblem,
    Line,
    LineProblem,
    Options,
    Problem,
    ReloadAnswer,
    ReloadRequest,
    StreamOptions,
)
from tocsin_serving.stream import NDJSON

_DESCRIPTION = """Says which events a news text reports, in the vocabulary of the release that is serving (`/taxonomy`).

Look at `language` before you count: text in a language that is not among those of `/model` is not read. It has no
events, whatever it reports, and its probabilities mean nothing: `no_event_probability` may be low beside no `events`.

`needs_review` judges the first answer: the probability of the first event, or of no event where none is given, is
below the `review_below` of `/model`, or the language is not read; `review_reason` says which. Further events of the
same text are not judged by it.

Every answer carries `X-Tocsin-Model-Version` and `X-Request-ID`. Where the server was started with API keys, send one
as `Authorization: Bearer KEY` to everything but /healthz, /livez and /readyz."""
_MODEL = """The release that is serving and this service's limits. `languages` are those it reads; `thresholds` are
objective -> label -> the probability from which on the label is given; first answers below `review_below` go to
review; `metrics` were measured on the test split."""
_REFUSALS = {
    "400": "The body, a header or an option breaks a rule; `detail` names the fields.",
    "401": "The server was started with API keys, and none of them was sent.",
    "403": "The key may not do this, or /admin is off.",
    "408": "The body did not come in time.",
    "409": "The release was refused; the old one goes on serving.",
    "413": "The body is too large, or would take longer to answer than there is time for; send it in parts.",
    "415": "The body is of another kind.",
    "429": "The key has been used too often, or holds its share; the header Retry-After says when to come back.",
    "500": "Something went wrong in the service; its log tells what, under the answer's X-Request-ID.",
    "503": "The service is overloaded; the header Retry-After says when to come back.",
    "504": "The request could not be answered in time.",
}
_ANYWHERE = ("400", "401", "403", "429")
_WITH_BODY = (*_ANYWHERE, "408", "413", "415", "500", "503", "504")
_RETRY_AFTER = {
    "Retry-After": {"description": "seconds", "required": True, "schema": {"type": "integer", "minimum": 1}}
}
_HEADERS = {
    MODEL_HEADER: {"description": "the release that answered", "schema": {"type": "string"}},
    REQUEST_ID_HEADER: {"description": "the id sent, or one made for the request", "schema": {"type": "string"}},
}
_REQUEST_ID = {
    "name": REQUEST_ID_HEADER,
    "in": "header",
    "description": "given back in the answer and written into the log",
    "schema": {"type": "string", "pattern": REQUEST_ID_PATTERN},
}
_REQUESTS = (ClassifyRequest, DocumentRequest, Line, ReloadRequest)
_ANSWERS = (Problem, LineProblem, FieldProblem, Taxonomy, Profile, Prediction, DocumentPrediction, ReloadAnswer)


def complete(document: dict[str, Any], classifier: EventClassifier) -> dict[str, Any]:
    """BentoML's document with what it leaves out, the examples answered by the model that is serving."""
    document = json.loads(json.dumps(document))  # its status codes are whole numbers, JSON's are strings
    document["openapi"] = "3.1.0"
    document["components"] = {
        "schemas": _schemas("validation", _REQUESTS) | _schemas("serialization", _ANSWERS),
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
    }
    paths = document["paths"]
    _complete_classify(paths["/classify"]["post"], classifier)
    answer = classifier.roll_up(*_example_sentences(classifier)).model_dump(mode="json")
    _complete_post(paths["/classify_document"]["post"], DocumentRequest, _reference(DocumentPrediction), answer)
    paths["/taxonomy"] = {"get": _get("Every label with its names, event type, definition and aliases.", Taxonomy)}
    paths["/model"] = {"get": _get(_MODEL, None)}
    paths["/profile"] = {
        "get": _get("How the newest texts were answered, as counts; a file for TOCSIN_DRIFT_REFERENCE.", Profile)
    }
    paths[RELOAD_PATH] = {"post": _reload()}
    _complete_system(paths)
    _name_operations(paths)
    # The empty one: a server without keys asks for none.
    document["security"] = [{}, {"key": []}]
    document["info"] = {"title": "Tocsin", "version": classifier.version, "description": _DESCRIPTION}
    return document


def _example_sentences(classifier: EventClassifier) -> tuple[str, list[Sentence], list[Prediction]]:
    sentences = split_sentences(EXAMPLE_DOCUMENT)
    scores = classifier.score_batch([sentence.text for sentence in sentences])
    return EXAMPLE_DOCUMENT, sentences, scores.predictions(scores=False)


def _schemas(mode: JsonSchemaMode, models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode=mode)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    return schemas


def _complete_classify(operation: dict[str, Any], classifier: EventClassifier) -> None:
    example = classifier.score_batch(EXAMPLE_TEXTS).predictions(scores=False)
    answer = [prediction.model_dump(mode="json") for prediction in example]
    _complete_post(operation, ClassifyRequest, {"type": "array", "items": _reference(Prediction)}, answer)
    operation["description"] += (
        ' A body of application/x-ndjson, one `{"text": ...}` a line and without end if need be, is answered line by '
        "line in order, with its options in the query string; a line that cannot be used is answered by a LineProblem. "
        "A JSON body is answered in lines too when Accept names application/x-ndjson."
    )
    operation["parameters"] += _stream_parameters()
    text = "\n".join(json.dumps({"text": text}) for text in EXAMPLE_TEXTS) + "\n"
    operation["requestBody"]["content"][NDJSON] = {"schema": {"type": "string"}, "example": text}
    lines = "".join(prediction.model_dump_json() + "\n" for prediction in example)
    operation["responses"]["200"]["content"][NDJSON] = {"schema": {"type": "string"}, "example": lines}


def _stream_parameters() -> list[dict[str, Any]]:
    """Options of a stream, from the model that reads them; a query string has no null, and its defaults go unsaid."""
    parameters = []
    for name, field in StreamOptions.model_json_schema()["properties"].items():
        kinds = field.get("anyOf", [field])
        schema = next(kind for kind in kinds if kind["type"] != "null")
        schema = {key: value for key, value in schema.items() if key not in ("title", "description", "default")}
        description = f"of a body of lines only; {Options.model_fields[name].description}"
        parameters.append({"name": name, "in": "query", "description": description, "schema": schema})
    return parameters


def _complete_post(
    operation: dict[str, Any],
    request: type[BaseModel],
    answer: dict[str, Any],
    example: Any,  # noqa: ANN401  any JSON
) -> None:
    operation["parameters"] = [_REQUEST_ID]
    operation["requestBody"] = _request_body(request)
    content = {"application/json": {"schema": answer, "example": example}}
    answered = {"description": "The answers.", "headers": _HEADERS, "content": content}
    operation["responses"] = {"200": answered, **_refusals(_WITH_BODY)}


def _request_body(model: type[BaseModel]) -> dict[str, Any]:
    example: Any = model.model_config["json_schema_extra"]
    return {"required": True, "content": {"application/json": {"schema": _reference(model), **example}}}


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _refusals(statuses: Iterable[str]) -> dict[str, Any]:
    content = {"application/json": {"schema": _reference(Problem)}}
    return {
        status: {
            "description": _REFUSALS[status],
            "headers": {**_HEADERS, **(_RETRY_AFTER if status in ("429", "503") else {})},
            "content": content,
        }
        for status in statuses
    }


def _get(description: str, model: type[BaseModel] | None) -> dict[str, Any]:
    schema = _reference(model) if model else {"type": "object"}
    answer = {"description": description, "headers": _HEADERS, "content": {"application/json": {"schema": schema}}}
    return {
        "description": description,
        "parameters": [_REQUEST_ID],
        "responses": {"200": answer, **_refusals(_ANYWHERE)},
    }


def _reload() -> dict[str, Any]:
    description = "Serve another release, or the present folder as it is now. Needs an admin key."
    operation = _get(description, ReloadAnswer)
    return {
        **operation,
        "requestBody": {**_request_body(ReloadRequest), "required": False},
        "security": [{"key": []}],
        "responses": {**operation["responses"], **_refusals(("408", "409", "413", "503"))},
    }


def _name_operations(paths: dict[str, Any]) -> None:
    """Names that make good functions in a generated client."""
    for path, item in paths.items():
        for operation in item.values():
            operation["operationId"] = path.strip("/").replace("/", "_")
            operation["tags"] = ["tocsin"]


def _complete_system(paths: dict[str, Any]) -> None:
    """BentoML's own paths: what the guard in front of them adds."""
    for path in (*HEALTH_PATHS, "/metrics"):
        operation = paths[path]["get"]
        operation["parameters"] = [_REQUEST_ID]
        operation["responses"].update(_refusals(("400",) if path in HEALTH_PATHS else _ANYWHERE))
        if path in HEALTH_PATHS:
            operation["security"] = []
    paths["/readyz"]["get"]["responses"]["503"] = {
        "description": "The worker that was asked computes no texts any more.",
        "headers": _HEADERS,
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
