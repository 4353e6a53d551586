"""What the classifier answers. The same models travel through Python, the command line's JSON and HTTP."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
    """What one text reports."""

    events: tuple[Event, ...] = Field(description="highest probability first; empty when no event is reported")
    no_event_probability: float = Field(ge=0, le=1, description="probability that the text reports none of the labels")
    needs_review: bool = Field(description="the answer is too unsure to be used without a person's look")
    truncated: bool = Field(
        description="the text was longer than the model's window and was read in overlapping windows, all of it"
    )
    language: str = Field(description="ISO 639 code; 'und' when it cannot be told")
    scores: dict[str, float] | None = Field(description="label -> probability, every label")
    event_type_scores: dict[str, float] | None = Field(
        description="event type -> probability that any of its labels holds"
    )
    model_version: str


class SentencePrediction(Prediction):
    """What one sentence of a document reports, and where it stands."""

    start: int = Field(ge=0, description="offset of its first character in the document")
    end: int = Field(ge=0, description="offset after its last character")
    text: str


class EventSummary(_Answer):
    """One kind of event over a whole document."""

    label: str
    name: str
    event_type: str
    sentences: tuple[int, ...] = Field(description="positions of the sentences that report it, from 0")
    max_probability: float = Field(ge=0, le=1)


class DocumentSummary(_Answer):
    """A document's sentences rolled up."""

    sentences: int = Field(ge=0)
    sentences_with_events: int = Field(ge=0)
    sentences_to_review: int = Field(ge=0)
    events: tuple[EventSummary, ...] = Field(description="the kinds of event reported, most sentences first")


class DocumentPrediction(_Answer):
    """A document cut into sentences, each classified on its own."""

    sentences: tuple[SentencePrediction, ...]
    summary: DocumentSummary
    language: str = Field(description="of the document as a whole")
    model_version: str
