"""The OpenAPI document: BentoML's, with the other paths, refusals, streams, headers, keys and real example answers.

Schemas are pydantic's own, which are those of OpenAPI 3.1; BentoML's are of 3.0, where nothing may be null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from tocsin import DocumentPrediction, EventClassifier, Prediction, Taxonomy
from tocsin.drift import Profile
from tocsin.sentences import Sentence, split_sentences
from tocsin_serving import openapi_refusals as refusals
from tocsin_serving.admin import RELOAD_PATH
from tocsin_serving.guard import HEALTH_PATHS
from tocsin_serving.model_answer import ModelAnswer
from tocsin_serving.model_header import MODEL_HEADER
from tocsin_serving.refusal import RefusedError
from tocsin_serving.releases import FOLLOW_SECONDS
from tocsin_serving.request_log import REQUEST_ID_HEADER, REQUEST_ID_PATTERN
from tocsin_serving.schemas import (
    BODIES,
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
_EMPTY_BODY = "\n"
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
_ANSWERS = (
    Problem,
    LineProblem,
    FieldProblem,
    Taxonomy,
    ModelAnswer,
    Profile,
    Prediction,
    DocumentPrediction,
    ReloadAnswer,
)
_TEXT = "text/plain"
_METRICS = """# HELP tocsin_texts_total Texts answered.
# TYPE tocsin_texts_total counter
tocsin_texts_total{{model_version="{}"}} 2.0
"""
_NOT_READY_EXAMPLE = "Service is not ready because .__is_ready__() returns False."
_NOT_READY = "The worker that is asked computes nothing any more; give others its requests."
_SYSTEM = {
    "/healthz": "As /livez; older orchestrators ask here.",
    "/livez": "200 as long as the worker that is asked answers at all.",
    "/readyz": "200 once the worker that is asked takes requests and computes them.",
    "/metrics": "What Prometheus reads, in its text format: the server's traffic, the answers and their drift.",
}


def complete(document: dict[str, Any], classifier: EventClassifier) -> dict[str, Any]:
    """BentoML's document with what it leaves out, the examples answered by the model that is serving."""
    document = json.loads(json.dumps(document))  # its status codes are whole numbers, JSON's are strings
    document["openapi"] = "3.1.0"
    document["components"] = {
        "schemas": _request_schemas(classifier) | _schemas("serialization", _ANSWERS),
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
    }
    paths = document["paths"]
    scores = classifier.score_batch(EXAMPLE_TEXTS)
    _complete_classify(paths, scores.predictions(scores=False), classifier.objectives)
    answer = _json(classifier.roll_up(*_example_sentences(classifier)))
    _complete_post(paths, "/classify_document", _reference(DocumentPrediction), answer)
    paths["/taxonomy"] = _get("Every label with its names, event type, definition and aliases.", classifier.taxonomy)
    paths["/model"] = _get("The release that is serving and this service's limits.", ModelAnswer.of(classifier))
    paths["/profile"] = _get(
        "How the newest texts were answered, as counts; a file for TOCSIN_DRIFT_REFERENCE.", Profile.of(scores)
    )
    paths[RELOAD_PATH] = {"post": _reload(classifier)}
    _complete_system(paths, classifier)
    _name_operations(paths)
    # The empty one: a server without keys asks for none.
    document["security"] = [{}, {"key": []}]
    document["info"] = {"title": "Tocsin", "version": classifier.version, "description": _DESCRIPTION}
    return document


def _example_sentences(classifier: EventClassifier) -> tuple[str, list[Sentence], list[Prediction]]:
    sentences = split_sentences(EXAMPLE_DOCUMENT)
    scores = classifier.score_batch([sentence.text for sentence in sentences])
    return EXAMPLE_DOCUMENT, sentences, scores.predictions(scores=False)


def _request_schemas(classifier: EventClassifier) -> dict[str, Any]:
    schemas = _schemas("validation", _REQUESTS)
    for model in BODIES.values():
        schemas[model.__name__]["properties"]["objective"]["enum"] = list(classifier.objectives)
    return schemas


def _schemas(mode: JsonSchemaMode, models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode=mode)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    return schemas


def _json(model: BaseModel) -> Any:  # noqa: ANN401  any JSON
    return model.model_dump(mode="json")


def _complete_classify(paths: dict[str, Any], example: list[Prediction], objectives: Sequence[str]) -> None:
    answer = {"type": "array", "items": _reference(Prediction)}
    _complete_post(paths, "/classify", answer, [_json(prediction) for prediction in example])
    operation = paths["/classify"]["post"]
    operation["description"] += (
        ' A body of application/x-ndjson, one `{"text": ...}` a line and without end if need be, is answered line by '
        "line in order, with its options in the query string; a line that cannot be used is answered by a LineProblem. "
        "A JSON body is answered in lines too when Accept names application/x-ndjson."
    )
    operation["parameters"] += _stream_parameters(objectives)
    text = "".join(json.dumps({"text": text}) + "\n" for text in EXAMPLE_TEXTS)
    operation["requestBody"]["content"][NDJSON] = {"schema": _lines(_reference(Line)), "example": text}
    lines = "".join(prediction.model_dump_json() + "\n" for prediction in example)
    line = {"anyOf": [_reference(Prediction), _reference(LineProblem)]}
    operation["responses"]["200"]["content"][NDJSON] = {"schema": _lines(line), "example": lines}


def _lines(line: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body of lines, each of one kind.

    A string by whose content JSON Schema (2020-12, Validation, section 8.5) means an array of the lines: OpenAPI has a
    word for that, `itemSchema`, from version 3.2 on, which generators of clients do not read yet.
    """
    return {"type": "string", "contentMediaType": NDJSON, "contentSchema": {"type": "array", "items": line}}


def _stream_parameters(objectives: Sequence[str]) -> list[dict[str, Any]]:
    """Options of a stream, from the model that reads them; a query string has no null, and its defaults go unsaid."""
    parameters = []
    for name, field in StreamOptions.model_json_schema()["properties"].items():
        kinds = field.get("anyOf", [field])
        schema = next(kind for kind in kinds if kind["type"] != "null")
        schema = {key: value for key, value in schema.items() if key not in ("title", "description", "default")}
        if name == "objective":
            schema["enum"] = list(objectives)
        description = f"of a body of lines only; {Options.model_fields[name].description}"
        parameters.append({"name": name, "in": "query", "description": description, "schema": schema})
    return parameters


def _complete_post(
    paths: dict[str, Any],
    path: str,
    answer: dict[str, Any],
    example: Any,  # noqa: ANN401  any JSON
) -> None:
    operation = paths[path]["post"]
    operation["parameters"] = [_REQUEST_ID]
    operation["requestBody"] = _request_body(BODIES[path])
    answered = _answered("The answers.", "application/json", answer, example)
    operation["responses"] = {"200": answered, **_refused(refusals.of_classifying(path))}


def _request_body(model: type[BaseModel]) -> dict[str, Any]:
    example: Any = model.model_config["json_schema_extra"]
    return {"required": True, "content": {"application/json": {"schema": _reference(model), **example}}}


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _answered(
    description: str,
    media_type: str,
    schema: dict[str, Any],
    example: Any,  # noqa: ANN401  any JSON
) -> dict[str, Any]:
    content = {media_type: {"schema": schema, "example": example}}
    return {"description": description, "headers": _HEADERS, "content": content}


def _refused(possible: Iterable[RefusedError]) -> dict[str, Any]:
    return refusals.responses(possible, _HEADERS)


def _operation(description: str, answer: BaseModel, possible: Iterable[RefusedError]) -> dict[str, Any]:
    answered = _answered(description, "application/json", _reference(type(answer)), _json(answer))
    return {
        "description": description,
        "parameters": [_REQUEST_ID],
        "responses": {"200": answered, **_refused(possible)},
    }


def _get(description: str, answer: BaseModel) -> dict[str, Any]:
    return {"get": _operation(description, answer, refusals.of_reading())}


def _reload(classifier: EventClassifier) -> dict[str, Any]:
    description = "Serve another release, or the present folder as it is now. Needs an admin key."
    answer = ReloadAnswer(
        model_version=classifier.version,
        previous_version=classifier.version,
        other_workers_within_seconds=FOLLOW_SECONDS,
    )
    return {
        **_operation(description, answer, refusals.of_reloading(classifier)),
        "requestBody": {**_request_body(ReloadRequest), "required": False},
        "security": [{"key": []}],
    }


def _name_operations(paths: dict[str, Any]) -> None:
    """Names that make good functions in a generated client."""
    for path, item in paths.items():
        for operation in item.values():
            operation["operationId"] = path.strip("/").replace("/", "_")
            operation["tags"] = ["tocsin"]


def _complete_system(paths: dict[str, Any], classifier: EventClassifier) -> None:
    """BentoML's own paths, which it says little of."""
    for path, description in _SYSTEM.items():
        open_to_all = path in HEALTH_PATHS
        example = _EMPTY_BODY if open_to_all else _METRICS.format(classifier.version)
        answered = _answered(description, _TEXT, {"type": "string"}, example)
        possible = refusals.of_health() if open_to_all else refusals.of_reading()
        paths[path] = {
            "get": {
                "description": description,
                "parameters": [_REQUEST_ID],
                "responses": {"200": answered, **_refused(possible)},
                **({"security": []} if open_to_all else {}),
            }
        }
    not_ready = _answered(_NOT_READY, _TEXT, {"type": "string"}, _NOT_READY_EXAMPLE)
    paths["/readyz"]["get"]["responses"]["503"] = not_ready
