"""The HTTP service: a thin BentoML shell over the library's classifier.

One process does everything a worker does. ``classify`` is itself the batchable method: a second BentoML service behind
it would be a second process and a copy of every text, and calling a batchable method of one's own service goes through
HTTP once more. Its one parameter is the request, which is a sequence of texts with their options (see ClassifyRequest).

Loopback, telemetry and workers are set by ``tocsin serve``; ``bentoml serve tocsin_serving.service:Tocsin`` works too.
"""

from __future__ import annotations

import os

# Before bentoml is imported: it reads the switch then, and worker processes inherit it.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
# One computing thread a worker; several workers with a pool of tokenizer threads each would trip over each other.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import bentoml

from tocsin import DocumentPrediction, EventClassifier, Prediction
from tocsin_serving.guard import RequestGuard
from tocsin_serving.schemas import BODIES, SETTINGS, ClassifyRequest, DocumentRequest, TextToClassify, without_scores
from tocsin_serving.shadow import Shadow
from tocsin_serving.site import create_site

RELEASE_VARIABLE = "TOCSIN_RELEASE"


class TocsinService:
    """Says which conflict events a news text reports, in ACLED's vocabulary."""

    def __init__(self) -> None:
        self.classifier = EventClassifier.load(os.environ.get(RELEASE_VARIABLE) or None)
        self.shadow = Shadow.from_environment()

    @bentoml.api(  # type: ignore[untyped-decorator]
        input_spec=ClassifyRequest,
        batchable=True,
        max_batch_size=SETTINGS.batch_requests,
        max_latency_ms=SETTINGS.batch_latency_ms,
    )
    def classify(self, batch: list[TextToClassify]) -> list[Prediction]:
        """Classify texts, each on its own. Answers come in the order of the texts."""
        texts = [item.text for item in batch]
        scores = self.classifier.score_batch(texts)
        if self.shadow is not None:
            self.shadow.offer(texts, scores)
        answers = {wanted: scores.predictions(scores=wanted) for wanted in {item.scores for item in batch}}
        return [answers[item.scores][row] for row, item in enumerate(batch)]

    @bentoml.api(input_spec=DocumentRequest)  # type: ignore[untyped-decorator]
    def classify_document(self, document: str, scores: bool) -> DocumentPrediction:
        """Cut an article into sentences, classify each and roll them up. Offsets count characters."""
        answer = self.classifier.classify_document(document)
        return answer if scores else without_scores(answer)


def _classifier() -> EventClassifier:
    classifier: EventClassifier = bentoml.get_current_service().classifier
    return classifier


# Called and not used as a decorator, so that type checkers see what it returns.
Tocsin = bentoml.service(
    name="tocsin",
    workers=SETTINGS.worker_processes,
    traffic={"timeout": SETTINGS.timeout_seconds},
    description=TocsinService.__doc__,
)(TocsinService)
Tocsin.mount_asgi_app(create_site(_classifier, lambda: Tocsin.openapi_spec.asdict()), name="site")
Tocsin.add_asgi_middleware(
    RequestGuard,
    bodies=BODIES,
    settings=SETTINGS,
    model_version=lambda: _classifier().version,
)
