"""The GET side by itself."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import other_version

from tocsin import EventClassifier, Scores
from tocsin_serving.site import KeptDocument


def openapi() -> dict[str, Any]:
    """As much of BentoML's document as is completed."""
    paths: dict[str, Any] = {path: {"post": {"description": ""}} for path in ("/classify", "/classify_document")}
    paths |= {path: {"get": {"responses": {}}} for path in ("/healthz", "/livez", "/readyz", "/metrics")}
    return {"paths": paths}


def test_the_model_runs_once_a_release_for_all_who_ask_for_the_openapi_document(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    score_batch = EventClassifier.score_batch

    def count(self: EventClassifier, texts: Sequence[str], **options: str) -> Scores:
        runs.append(self.version)
        return score_batch(self, texts, **options)

    monkeypatch.setattr(EventClassifier, "score_batch", count)
    first = EventClassifier.load(tiny_release)
    document = KeptDocument(openapi)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(document.of, [first] * 8))
    assert len(set(told)) == 1
    assert len(runs) == 2  # the texts and the document among the examples
    assert json.loads(told[0])["info"]["version"] == "tiny-0"
    second = EventClassifier.load(other_version(tiny_release, tmp_path / "new", "1"))
    assert json.loads(document.of(second))["info"]["version"] == "tiny-1"
    assert runs == ["tiny-0", "tiny-0", "tiny-1", "tiny-1"]


def test_a_release_that_serves_no_more_is_not_kept_for_its_document(tiny_release: Path) -> None:
    classifier = EventClassifier.load(tiny_release)
    document = KeptDocument(openapi)
    document.of(classifier)
    gone = weakref.ref(classifier)
    del classifier
    gc.collect()
    assert gone() is None
