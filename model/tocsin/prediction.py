"""What the classifier answers. The same models travel through Python, the command line's JSON and HTTP."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ReviewReason = Literal["language_not_read", "low_probability"]
"""Why a person should look; one reason only, for where a text is not read its probabilities mean nothing."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Event(_Answer):
    """One kind of event that a text reports."""

    label: str = Field(description="identifier, e.g. air_drone_strike")
    name: str = Field(description="plain name, e.g. Airstrike")
    sub_event_type: str | None = Field(description="ACLED's sub-event type; null where a label is not ACLED's")
    event_type: str = Field(description="the label's event type; ACLED's where the labels are")
    disorder_type: str | None = Field(description="ACLED's disorder type; null where a label is not ACLED's")
    probability: float = Field(ge=0, le=1, description="calibrated probability that the text reports it")


class Prediction(_Answer):
    """What one text reports.

    Text in a language that the release does not list is not read, which `language` and `review_reason` tell: it has no
    `events`, whatever it reports, `needs_review` is true, and its probabilities mean nothing.
    """

    events: tuple[Event, ...] = Field(
        description="highest probability first; empty when no event is reported, and where the language is not read"
    )
    no_event_probability: float = Field(
        ge=0,
        le=1,
        description=(
            "probability that the text reports none of the labels; it means nothing where the language is not read, "
            "and may then be low although there are no events"
        ),
    )
    needs_review: bool = Field(
        description=(
            "a person should look: the probability of the first event, or of no event where none is given, is below "
            "the release's review_below, or the language is not read. Events after the first play no part in it; each "
            "has its own probability"
        )
    )
    review_reason: ReviewReason | None = Field(
        description=(
            "why needs_review is true: low_probability, that of the first answer is below review_below; or "
            "language_not_read, whatever the probabilities are. Null where needs_review is false"
        )
    )
    truncated: bool = Field(
        description="the text was longer than the model's window and was read in overlapping windows, all of it"
    )
    language: str = Field(
        description=(
            "ISO 639 code; 'und' when it cannot be told. Text in one that is not among the release's languages is not "
            "read: no events, needs_review, probabilities that mean nothing"
        )
    )
    scores: dict[str, float] | None = Field(description="label -> probability, every label")
    event_type_scores: dict[str, float] | None = Field(
        description="event type -> probability that any of its labels holds"
    )
    model_version: str = Field(description="the release that answered, name and version")


class SentencePrediction(Prediction):
    """What one sentence of a document reports, and where it stands."""

    start: int = Field(ge=0, description="offset of its first character in the document")
    end: int = Field(ge=0, description="offset after its last character")
    text: str = Field(description="the sentence itself, without the white space around it")


class EventSummary(_Answer):
    """One kind of event over a whole document."""

    label: str = Field(description="as in an event")
    name: str = Field(description="as in an event")
    event_type: str = Field(description="as in an event")
    sentences: tuple[int, ...] = Field(description="positions of the sentences that report it, from 0")
    max_probability: float = Field(ge=0, le=1, description="the highest of those sentences")


class DocumentSummary(_Answer):
    """A document's sentences rolled up."""

    sentences: int = Field(ge=0, description="how many there are")
    sentences_with_events: int = Field(ge=0, description="those with at least one event")
    sentences_to_review: int = Field(ge=0, description="those with needs_review, unread ones among them")
    sentences_unread: int = Field(
        ge=0,
        description="those not read, for their language: without events whatever they report, so no sign of quiet",
    )
    events: tuple[EventSummary, ...] = Field(description="the kinds of event reported, most sentences first")


class DocumentPrediction(_Answer):
    """A document cut into sentences, each classified on its own."""

    sentences: tuple[SentencePrediction, ...] = Field(description="in the order of the document")
    summary: DocumentSummary = Field(description="the sentences rolled up")
    language: str = Field(description="of the document as a whole; each sentence has its own")
    model_version: str = Field(description="the release that answered, name and version")
