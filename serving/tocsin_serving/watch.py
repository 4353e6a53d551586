"""What a worker tells on /metrics of its answers, beside what BentoML tells of requests.

Every label value is one of a few: no text, no key and no path of anyone's becomes a metric. Counters tell of answers
as the release gives them, before a request narrows them (`top_k`, `min_probability`).
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import mark_process_dead

from tocsin import EventClassifier, Release, Scores
from tocsin.calibration import DEFAULT_OBJECTIVE
from tocsin.drift import CONFIDENCE_EDGES, FIRST_ANSWER, QUANTITIES, Counts, Profile, count, drift
from tocsin.language import UNKNOWN
from tocsin.release import LAYOUT
from tocsin_serving.drift import References, Window, no_answers, release_key
from tocsin_serving.settings import Settings

UPDATE_SECONDS = 5.0
"""How often a worker puts its counts to those of the others and tells of drift anew."""
TOKEN_EDGES = (8, 16, 32, 64, 128, 256, 512, 1024, 4096)
OTHER = "other"
# Large languages of news beside the model's own; the detector knows 176, and each would be a series.
_NAMED_LANGUAGES = frozenset({"ar", "de", "es", "fa", "fr", "hi", "pt", "ru", "tr", "uk", "zh", UNKNOWN})
_HASH_CHARACTERS = 12

# A child of BentoML's logger, for its handlers are the ones a server has.
logger = logging.getLogger("bentoml.tocsin.watch")


class AnswerMetrics:
    """Counters and histograms of answers."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        def counter(name: str, description: str, *labels: str) -> Counter:
            return Counter(f"tocsin_{name}", description, labels, registry=registry)

        self._texts = counter("texts", "Texts answered.", "model_version")
        self._empty = counter("texts_without_event", "Texts given no event.", "model_version")
        self._review = counter("texts_to_review", "Texts whose answer needs a person's look.", "model_version")
        self._truncated = counter("texts_truncated", "Texts read in several windows.", "model_version")
        self._foreign = counter("texts_foreign", "Texts in a language the model cannot read.", "model_version")
        self._languages = counter("texts_by_language", "Texts by ISO 639 code, the rarer as other.", "language")
        self._events = counter("events", "Events given.", "model_version", "label")
        self._confidence = Histogram(
            "tocsin_confidence",
            "How sure answers were: probability of the first event, or of no event.",
            ["model_version"],
            buckets=CONFIDENCE_EDGES,
            registry=registry,
        )
        self._tokens = Histogram(
            "tocsin_text_tokens", "Length of texts in the model's tokens.", buckets=TOKEN_EDGES, registry=registry
        )
        self._release = Gauge(
            "tocsin_model_info",
            "1 for the release that serves, 0 for those that served before.",
            ["model_version", "model_sha256", "quantization", "created"],
            multiprocess_mode="livemax",
            registry=registry,
        )

    def serves(self, release: Release, *, instead_of: Release | None) -> None:
        """Tell which release answers from now on. Its series start at 0, so that their first rise is seen as one."""
        if instead_of is not None:
            self._release.labels(*_description(instead_of)).set(0)
        self._release.labels(*_description(release)).set(1)
        for metric in (self._texts, self._empty, self._review, self._truncated, self._foreign, self._confidence):
            metric.labels(release.name)
        for label in release.taxonomy.names:
            self._events.labels(release.name, label)

    def saw(self, scores: Scores, tokens: Sequence[int], languages: Sequence[str]) -> None:
        """Count answers.

        :param languages: those the model was trained on.
        """
        version = scores.model_version
        self._texts.labels(version).inc(len(scores))
        self._empty.labels(version).inc(int((~scores.given.any(axis=1)).sum()))
        self._review.labels(version).inc(int(scores.needs_review.sum()))
        self._truncated.labels(version).inc(int(scores.truncated.sum()))
        given = scores.given.sum(axis=0)
        for position in np.flatnonzero(given):
            self._events.labels(version, scores.taxonomy.names[position]).inc(int(given[position]))
        for language in scores.languages:
            self._languages.labels(_bounded(language, languages)).inc()
        self._foreign.labels(version).inc(int((~scores.read).sum()))
        confidence = self._confidence.labels(version)
        for value in scores.confidence.tolist():
            confidence.observe(value)
        for length in tokens:
            self._tokens.observe(length)


def _bounded(language: str, languages: Sequence[str]) -> str:
    return language if language in languages or language in _NAMED_LANGUAGES else OTHER


def _description(release: Release) -> tuple[str, str, str, str]:
    manifest = release.manifest
    return release.name, manifest.files[LAYOUT.model][:_HASH_CHARACTERS], manifest.quantization, manifest.created


class DriftMetrics:
    """Gauges of drift. Every worker tells the same of all of them together, so the newest word counts."""

    def __init__(self, registry: CollectorRegistry | None, settings: Settings) -> None:
        def gauge(name: str, description: str, *labels: str) -> Gauge:
            return Gauge(f"tocsin_drift_{name}", description, labels, multiprocess_mode="mostrecent", registry=registry)

        self._least = settings.drift_min_texts
        self._threshold = settings.drift_alarm_psi
        self._index = gauge("psi", "Population stability index; NaN while nothing can be said.", "quantity")
        self._alarm = gauge("alarm", "1 when the index reached the threshold.", "quantity")
        self._texts = gauge("window_texts", "Texts in the window.")
        self._reference_texts = gauge("reference_texts", "Texts in the reference; 0 where there is none.")
        gauge("threshold", "Index from which there is an alarm.").set(self._threshold)
        gauge("min_texts", "Texts in the window from which there is an index.").set(self._least)

    def tell(self, reference: Profile | None, found: Counts) -> None:
        """Hold the window's answers against the reference."""
        texts = int(found[FIRST_ANSWER].sum())
        self._texts.set(texts)
        self._reference_texts.set(0 if reference is None else reference.texts)
        indices = dict.fromkeys(QUANTITIES, math.nan)
        if reference is not None and texts >= self._least:
            indices = drift(reference.counts, found)
        for quantity, index in indices.items():
            self._index.labels(quantity).set(index)
            # NaN is below every threshold.
            self._alarm.labels(quantity).set(index >= self._threshold)


class Watch:
    """Counts answers where they are computed, and tells of drift every few seconds."""

    def __init__(
        self,
        window: Window,
        settings: Settings,
        references: References,
        *,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """Start counting.

        :param registry: for tests. None in a server: its /metrics reads the files of all its processes, into which
            values go whatever the registry.
        """
        self._answers = AnswerMetrics(registry)
        self._drift = DriftMetrics(registry, settings)
        self._window = window
        self._references = references
        self._release: Release | None = None
        self._new: dict[str, Counts] = {}
        self._lock = threading.Lock()
        self._failed = False

    def saw(self, classifier: EventClassifier, scores: Scores, tokens: Sequence[int], objective: str) -> None:
        """Count answers; whatever goes wrong with that costs nobody an answer.

        Only answers by the release's usual thresholds go into the window, as those of the reference are.

        :param tokens: length of each text.
        """
        try:
            self._answers.saw(scores, tokens, classifier.languages)
            if objective == DEFAULT_OBJECTIVE:
                self._keep(classifier, scores)
        except Exception:
            if not self._failed:
                logger.exception("Answers are not counted on /metrics; said once")
            self._failed = True

    def _keep(self, classifier: EventClassifier, scores: Scores) -> None:
        counts = count(scores, self._references.edges(classifier.release))
        key = release_key(classifier.release)
        with self._lock:
            held = self._new.get(key)
            self._new[key] = (
                counts if held is None else {quantity: held[quantity] + counts[quantity] for quantity in counts}
            )

    def update(self, release: Release) -> None:
        """Put the counts to those of the other workers, and tell of drift.

        :param release: the one that serves.
        """
        with self._lock:
            new, self._new = self._new, {}
        try:
            self._announce(release)
            for key, counts in new.items():
                self._window.add(key, counts)
            self._drift.tell(self._references.of(release), self._in_window(release))
        except (sqlite3.Error, OSError) as error:
            logger.warning("Newest counts lost, drift is told anew in %.0f s: %s", UPDATE_SECONDS, error)
        forget_dead_workers()

    def profile(self, release: Release) -> Profile:
        """The window's answers as a profile, such as TOCSIN_DRIFT_REFERENCE names one."""
        edges = self._references.edges(release)
        return Profile.from_counts(release.name, release.taxonomy.names, self._in_window(release), edges)

    def first_to_tell(self, message: str) -> bool:
        """Whether no worker of this server has said so yet. One that cannot find out says it."""
        try:
            return self._window.first_to_tell(message)
        except sqlite3.Error:
            return True

    def _in_window(self, release: Release) -> Counts:
        like = no_answers(len(release.taxonomy.names), len(self._references.edges(release)))
        return self._window.counts(release_key(release), like)

    def _announce(self, release: Release) -> None:
        if release is self._release:
            return
        self._answers.serves(release, instead_of=self._release)
        self._release = release
        problem = self._references.problem(release)
        if problem and self.first_to_tell(problem):
            logger.warning("/metrics tells no drift, for %s; see docs/watching.md", problem)


def forget_dead_workers() -> None:
    """Take back the gauges of this server's processes that were killed; those that end properly do so themselves."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return
    for file in Path(folder).glob("gauge_live*.db"):
        process = int(file.stem.rpartition("_")[2])
        if not _is_alive(process):
            # Another worker may be at it too.
            with suppress(FileNotFoundError):
                mark_process_dead(process, folder)  # type: ignore[no-untyped-call]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
