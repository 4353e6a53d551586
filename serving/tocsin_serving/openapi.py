"""Additions to BentoML's OpenAPI document: the GET paths, refusals and real example answers."""

from __future__ import annotations

import json
from typing import Any

from tocsin import DocumentPrediction, EventClassifier, Prediction, Taxonomy
from tocsin_serving.schemas import EXAMPLE_DOCUMENT, EXAMPLE_TEXTS, FieldProblem, Problem, without_scores

_DESCRIPTION = "Says which conflict events a news text reports, in ACLED's vocabulary."
_REFUSALS = {
    "400": "The body is not JSON or breaks a rule; `detail` names the fields.",
    "413": "The body is too large.",
    "415": "The body is not sent as JSON.",
    "503": "The service is overloaded; the header Retry-After says when to come back.",
}


def complete(document: dict[str, Any], classifier: EventClassifier) -> dict[str, Any]:
    """BentoML's document with what it leaves out, the examples answered by the model that is serving."""
    document = json.loads(json.dumps(document))  # its status codes are whole numbers, JSON's are strings
    paths = document["paths"]
    example = classifier.score_batch(EXAMPLE_TEXTS).predictions(scores=False)
    _complete_post(paths["/classify"]["post"], [prediction.model_dump(mode="json") for prediction in example])
    answer = without_scores(classifier.classify_document(EXAMPLE_DOCUMENT))
    _complete_post(paths["/classify_document"]["post"], answer.model_dump(mode="json"))
    paths["/taxonomy"] = {"get": _get("Every label with its ACLED names, definition and aliases.", "Taxonomy")}
    paths["/model"] = {"get": _get("The release that is serving, its metrics and this service's limits.", None)}
    schemas = document["components"]["schemas"]
    for model in (Problem, FieldProblem, Taxonomy, Prediction, DocumentPrediction):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    document["info"] = {"title": "Tocsin", "version": classifier.version, "description": _DESCRIPTION}
    return document


def _complete_post(operation: dict[str, Any], example: Any) -> None:  # noqa: ANN401  any JSON
    operation["responses"]["200"]["content"]["application/json"]["example"] = example
    for status in ("404", "500"):
        operation["responses"].pop(status, None)
    for status, description in _REFUSALS.items():
        operation["responses"][status] = {
            "description": description,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }


def _get(description: str, model: str | None) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"} if model else {"type": "object"}
    return {
        "description": description,
        "tags": ["Service APIs"],
        "responses": {"200": {"description": description, "content": {"application/json": {"schema": schema}}}},
    }
