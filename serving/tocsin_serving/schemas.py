"""What the HTTP interface takes and, for errors, gives. Answers are the library's own models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from tocsin import DocumentPrediction
from tocsin_serving.settings import Settings

SETTINGS = Settings.from_environment()

EXAMPLE_TEXTS = (
    "Warplanes struck a market in the besieged town on Tuesday, killing at least twelve people.",
    "The central bank left interest rates unchanged.",
)
EXAMPLE_DOCUMENT = (
    "Government warplanes bombed two villages overnight, residents said. Thousands of people marched in the capital "
    "to demand an end to the war.\n\nThe foreign minister said talks would continue next week."
)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; leave it out or give it text")
    return text


Text = Annotated[str, Field(strict=True, max_length=SETTINGS.max_text_characters), AfterValidator(_not_blank)]
Document = Annotated[str, Field(strict=True, max_length=SETTINGS.max_document_characters), AfterValidator(_not_blank)]
WithScores = Annotated[StrictBool, Field(description="add the probability of every label and event type")]


class TextToClassify(NamedTuple):
    """One text of a request, with what its sender asked for: the unit that the batcher mixes."""

    text: str
    scores: bool


class ClassifyRequest(BaseModel):
    """Texts to classify, each on its own.

    BentoML's batcher joins requests by iterating over them and cuts the joined answers by their length, so a request
    is iterable and sized. Thus options travel with each text, and requests with different options share a batch.
    """

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"texts": [*EXAMPLE_TEXTS], "scores": False}}
    )
    # BentoML hands the whole request to the method as its one argument.
    __root_input__: ClassVar[bool] = True

    texts: list[Text] = Field(min_length=1, max_length=SETTINGS.max_texts)
    scores: WithScores = False

    def __iter__(self) -> Iterator[TextToClassify]:  # type: ignore[override]
        return (TextToClassify(text, self.scores) for text in self.texts)

    def __len__(self) -> int:
        return len(self.texts)


class DocumentRequest(BaseModel):
    """An article or report, to be cut into sentences."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"document": EXAMPLE_DOCUMENT, "scores": False}}
    )

    document: Document
    scores: WithScores = False


BODIES: dict[str, type[BaseModel]] = {"/classify": ClassifyRequest, "/classify_document": DocumentRequest}
"""Path -> the body it takes."""


class FieldProblem(BaseModel):
    """One thing wrong with a request."""

    field: str = Field(description="where, e.g. texts[3]; body when it is the request as a whole")
    message: str


class Problem(BaseModel):
    """Why a request was refused."""

    error: str
    detail: list[FieldProblem]


def without_scores(answer: DocumentPrediction) -> DocumentPrediction:
    """The answer to a request that did not ask for scores."""
    blank = {"scores": None, "event_type_scores": None}
    sentences = tuple(sentence.model_copy(update=blank) for sentence in answer.sentences)
    return answer.model_copy(update={"sentences": sentences})
