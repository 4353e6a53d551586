"""The classifier: text in, conflict events out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.calibration import DEFAULT_OBJECTIVE, union, union_by_parent
from tocsin.encoder import Encoder
from tocsin.errors import InputError
from tocsin.language import detect_language
from tocsin.prediction import (
    DocumentPrediction,
    DocumentSummary,
    Event,
    EventSummary,
    Prediction,
    ReviewReason,
    SentencePrediction,
)
from tocsin.release import Release
from tocsin.sentences import Sentence, split_sentences
from tocsin.stores import resolve_release
from tocsin.taxonomy import Taxonomy
from tocsin.text import replace_lone_surrogates


@dataclass(frozen=True)
class Readings:
    """What is read off texts, one row a text: all that answers are made of."""

    logits: NDArray[np.float32]
    """Shape (texts, labels); minus infinity for a text that the screen answers."""
    windows: NDArray[np.intp]
    """How many windows each text was read in, shape (texts,); 0 for one that the screen answers."""
    languages: list[str]
    """ISO 639 codes, a text each."""


@dataclass(frozen=True)
class Scores:
    """Answers for many texts as arrays, one row a text. Batch jobs work on these and never build a Prediction."""

    taxonomy: Taxonomy
    model_version: str
    probabilities: NDArray[np.float32]
    """Calibrated, shape (texts, labels)."""
    given: NDArray[np.bool_]
    """Which labels are given, shape (texts, labels); none for text in a language the model cannot read."""
    event_type_probabilities: NDArray[np.float32]
    """Shape (texts, event types)."""
    no_event: NDArray[np.float32]
    """Probability that no label holds, shape (texts,); means nothing for text in a language the model cannot read."""
    confidence: NDArray[np.float32]
    """How sure the first answer is, shape (texts,); see `Calibration.confidence`."""
    needs_review: NDArray[np.bool_]
    """Whether `confidence` is below the release's line or the model cannot read the language, shape (texts,)."""
    read: NDArray[np.bool_]
    """Whether the text is in a language that the model can read, shape (texts,)."""
    truncated: NDArray[np.bool_]
    """Whether the text was read in several windows, shape (texts,)."""
    settled: NDArray[np.bool_]
    """Whether the screen answered in the encoder's place, shape (texts,); never without `cascade`."""
    languages: list[str]
    """ISO 639 codes, a text each."""

    def __len__(self) -> int:
        return len(self.languages)

    def predictions(self, *, scores: bool = True) -> list[Prediction]:
        """The same answers as objects; `scores=False` leaves the per-label and per-type probabilities out."""
        return [self.prediction(row, scores=scores) for row in range(len(self))]

    def ranked(self, row: int) -> list[int]:
        """Positions of the labels given to a row, most probable first."""
        positions = np.flatnonzero(self.given[row])
        order = np.argsort(-self.probabilities[row, positions], kind="stable")
        return [int(position) for position in positions[order]]

    def prediction(self, row: int, *, scores: bool = True) -> Prediction:
        """One row's answer as an object."""
        parents = [parent.name for parent in self.taxonomy.event_types]
        return Prediction(
            events=tuple(self._event(row, position) for position in self.ranked(row)),
            no_event_probability=float(self.no_event[row]),
            needs_review=bool(self.needs_review[row]),
            review_reason=self._review_reason(row),
            truncated=bool(self.truncated[row]),
            language=self.languages[row],
            scores=_table(self.taxonomy.names, self.probabilities[row]) if scores else None,
            event_type_scores=_table(parents, self.event_type_probabilities[row]) if scores else None,
            model_version=self.model_version,
        )

    def _review_reason(self, row: int) -> ReviewReason | None:
        if not self.needs_review[row]:
            return None
        return "low_probability" if self.read[row] else "language_not_read"

    def _event(self, row: int, position: int) -> Event:
        label = self.taxonomy.labels[position]
        return Event(
            label=label.label,
            name=label.name,
            sub_event_type=label.sub_event_type,
            event_type=label.event_type,
            disorder_type=label.disorder_type,
            probability=float(self.probabilities[row, position]),
        )


class EventClassifier:
    """Says which conflict events a text reports. Thread-safe; make one and keep it.

    >>> classifier = EventClassifier.load()
    >>> classifier.classify("Warplanes struck the market.").events[0].name
    'Airstrike'
    """

    def __init__(self, release: Release, *, threads: int = 1, cascade: bool = False) -> None:
        self.release = release
        self.taxonomy = release.taxonomy
        self.cascade = cascade
        self.version = f"{release.name}+cascade" if cascade else release.name
        self._screen = release.require_screen() if cascade else None
        self._calibration = release.calibration
        self.languages = release.manifest.languages
        self._encoder = Encoder(release, threads=threads)

    @classmethod
    def load(cls, release: str | Path | None = None, *, threads: int = 1, cascade: bool = False) -> EventClassifier:
        """Load a release and check it.

        :param release: none for the shipped one, a folder, or `store:name` for a release kept by an installed extra
            (`bentoml:tocsin:latest` with tocsin[serve]).
        :param threads: threads inside one text's computation. Several processes of one thread each are faster than one
            process of several.
        :param cascade: let the release's screen settle texts that plainly report nothing. Faster where most do, at the
            price of some events lost; answers carry `+cascade` in their model version.
        :raises ReleaseError: the folder is missing, altered or does not fit together, or has no screen for `cascade`.
        """
        return cls(Release.open(resolve_release(release)), threads=threads, cascade=cascade)

    def classify(self, text: str) -> Prediction:
        """Classify one text.

        :raises InputError: the text is not a string or holds nothing but white space.
        """
        _check([text], what="text")
        return self.classify_batch([text])[0]

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        """Classify texts of any number and length, order kept.

        :raises InputError: naming the position of a text that is not a string or is empty.
        """
        return self.score_batch(texts).predictions()

    def classify_document(self, document: str) -> DocumentPrediction:
        """Cut a document into sentences, classify each, and roll them up.

        :raises InputError: the document is not a string or is empty.
        """
        _check([document], what="document")
        document = replace_lone_surrogates(document)
        sentences = split_sentences(document)
        predictions = self.classify_batch([sentence.text for sentence in sentences])
        return self.roll_up(document, sentences, predictions)

    def roll_up(
        self, document: str, sentences: Sequence[Sentence], predictions: Sequence[Prediction]
    ) -> DocumentPrediction:
        """A document's answer from those of its sentences; for callers who classify the sentences themselves."""
        placed = tuple(
            SentencePrediction(start=sentence.start, end=sentence.end, text=sentence.text, **dict(prediction))
            for sentence, prediction in zip(sentences, predictions, strict=True)
        )
        return DocumentPrediction(
            sentences=placed,
            summary=_summarize(placed),
            language=detect_language(document, self.languages),
            model_version=self.version,
        )

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the thresholds this release carries, `default` first."""
        return self._calibration.objective_names

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens the model reads for each text, which is what it costs; texts must be strings."""
        return self._encoder.token_counts([replace_lone_surrogates(text) for text in texts])

    def score_batch(self, texts: Sequence[str], *, objective: str = DEFAULT_OBJECTIVE) -> Scores:
        """Classify texts into arrays; see Scores for their shapes.

        :param objective: which of the release's thresholds decide; see `objectives`.
        :raises InputError: naming the position of a text that is not a string or is empty, or an unknown objective.
        """
        return self.answers(self.read(texts), objective=objective)

    @property
    def reads_alone(self) -> bool:
        """Whether what is read off a text is the same to the last bit whatever texts it is read with."""
        return self._encoder.reads_alone

    def read(self, texts: Sequence[str]) -> Readings:
        """What takes the time: tokens, the encoder, the language; `answers` makes answers of it.

        :raises InputError: naming the position of a text that is not a string or is empty.
        """
        texts = list(texts)
        _check(texts)
        texts = [replace_lone_surrogates(text) for text in texts]
        logits, windows = self._encoder.logits(texts, self._screen)
        return Readings(logits, windows, [detect_language(text, self.languages) for text in texts])

    def answers(self, readings: Readings, *, objective: str = DEFAULT_OBJECTIVE) -> Scores:
        """Answers from what this classifier has read; see `score_batch`.

        :raises InputError: an unknown objective.
        """
        settled = readings.windows == 0
        probabilities = self._calibration.probabilities(readings.logits)
        if self._screen is not None:
            probabilities[settled] = self._screen.rates
        languages = readings.languages
        read = np.array([language in self.languages for language in languages], dtype=np.bool_)
        confidence = self._calibration.confidence(probabilities, objective).astype(np.float32)
        parents, count = self.taxonomy.parents, len(self.taxonomy.event_types)
        return Scores(
            taxonomy=self.taxonomy,
            model_version=self.version,
            probabilities=probabilities,
            given=self._calibration.decide(probabilities, objective) & read[:, None],
            event_type_probabilities=union_by_parent(probabilities, parents, count),
            no_event=1.0 - union(probabilities).astype(np.float32),
            confidence=confidence,
            needs_review=(confidence < self._calibration.review_below) | ~read,
            read=read,
            truncated=readings.windows > 1,
            settled=settled,
            languages=languages,
        )

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raw logits, shape (texts, labels): what calibration and parity checks compare."""
        return self._encoder.logits([replace_lone_surrogates(text) for text in texts])[0]


def _check(texts: Sequence[object], what: str = "texts") -> None:
    for index, text in enumerate(texts):
        place = f"{what}[{index}]" if what == "texts" else what
        if not isinstance(text, str):
            raise InputError(f"{place} must be a string, not {type(text).__name__}")
        if not text.strip():
            raise InputError(f"{place} is empty; leave it out or give it text")


def _table(names: Sequence[str], values: NDArray[np.float32]) -> dict[str, float]:
    return dict(zip(names, (float(value) for value in values), strict=True))


def _summarize(sentences: Sequence[SentencePrediction]) -> DocumentSummary:
    places: dict[str, list[int]] = defaultdict(list)
    best: dict[str, Event] = {}
    for index, sentence in enumerate(sentences):
        for event in sentence.events:
            places[event.label].append(index)
            if event.label not in best or event.probability > best[event.label].probability:
                best[event.label] = event
    events = (
        EventSummary(
            label=label,
            name=best[label].name,
            event_type=best[label].event_type,
            sentences=tuple(positions),
            max_probability=best[label].probability,
        )
        for label, positions in places.items()
    )
    return DocumentSummary(
        sentences=len(sentences),
        sentences_with_events=sum(bool(sentence.events) for sentence in sentences),
        sentences_to_review=sum(sentence.needs_review for sentence in sentences),
        sentences_unread=sum(sentence.review_reason == "language_not_read" for sentence in sentences),
        events=tuple(sorted(events, key=lambda event: (-len(event.sentences), -event.max_probability))),
    )
