"""What the HTTP interface takes and, for errors, gives. Answers are the library's own models."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StrictBool, StrictInt

from tocsin import Prediction
from tocsin.calibration import DEFAULT_OBJECTIVE
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


# For the OpenAPI document: what `_not_blank` asks for, as far as a pattern can say it.
# Python's `strip` takes some control characters for white space, which `\s` of JSON Schema does not.
_SOMETHING: dict[str, JsonValue] = {"pattern": r"[^\s\x1c-\x1f\x85]"}
# Longest name of a release: of paths, PATH_MAX on Linux.
MAX_RELEASE_CHARACTERS = 4_096


def _whole(number: object) -> object:
    """1.0 is an integer, says JSON Schema (2020-12, section 4.2.3), and some clients write it so."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Text = Annotated[
    str,
    Field(strict=True, max_length=SETTINGS.max_text_characters, json_schema_extra=_SOMETHING),
    AfterValidator(_not_blank),
]
Document = Annotated[
    str,
    Field(strict=True, max_length=SETTINGS.max_document_characters, json_schema_extra=_SOMETHING),
    AfterValidator(_not_blank),
]


class Options(BaseModel):
    """What a request may ask for beside its text; a stream gives the same names in its query string."""

    model_config = ConfigDict(extra="forbid")

    scores: StrictBool = Field(default=False, description="add the probability of every label and event type")
    top_k: Annotated[StrictInt | None, BeforeValidator(_whole)] = Field(
        default=None, ge=1, description="give at most so many events a text"
    )
    min_probability: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, strict=True, description="leave out events less probable"
    )
    objective: Annotated[str, Field(strict=True, min_length=1, max_length=100)] = Field(
        default=DEFAULT_OBJECTIVE, description="which of the release's thresholds decide; GET /model lists them"
    )

    @property
    def as_released(self) -> bool:
        """Whether the answer is the release's own: not narrowed, and by its usual thresholds."""
        return (self.top_k, self.min_probability, self.objective) == (None, None, DEFAULT_OBJECTIVE)

    def narrowed(self, prediction: Prediction) -> Prediction:
        """The prediction with the events asked for; what it says of no event and of review stays what it was."""
        if self.top_k is None and self.min_probability is None:
            return prediction
        least = self.min_probability or 0.0
        events = tuple(event for event in prediction.events if event.probability >= least)
        return prediction.model_copy(update={"events": events[: self.top_k]})


class StreamOptions(Options):
    """Options as a query string gives them: everything is text there."""

    scores: bool = False
    top_k: int | None = Field(default=None, ge=1)
    min_probability: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)


class ClassifyRequest(Options):
    """Texts to classify, each on its own."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"texts": [*EXAMPLE_TEXTS], "scores": False}}
    )

    texts: list[Text] = Field(
        min_length=1, max_length=SETTINGS.max_texts, description="sentences or short reports; each has its own answer"
    )


class DocumentRequest(Options):
    """An article or report, to be cut into sentences."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"document": EXAMPLE_DOCUMENT, "scores": False}}
    )

    document: Document = Field(description="the whole of it, paragraphs parted by empty lines")


class Line(BaseModel):
    """One line of a stream."""

    model_config = ConfigDict(extra="forbid")

    text: Text = Field(description="as one of `texts` in a JSON body")


class ReloadRequest(BaseModel):
    """Which release to serve from now on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"release": None}})

    release: Annotated[str, Field(strict=True, min_length=1, max_length=MAX_RELEASE_CHARACTERS)] | None = Field(
        default=None, description="a folder on the server or store:name; none reads the present one's folder again"
    )


class ReloadAnswer(BaseModel):
    """What changed."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str = Field(description="what the worker that answered serves from now on")
    previous_version: str = Field(description="what it served before")
    other_workers_within_seconds: float = Field(description="by then the other worker processes serve it too")


BODIES: dict[str, type[ClassifyRequest] | type[DocumentRequest]] = {
    "/classify": ClassifyRequest,
    "/classify_document": DocumentRequest,
}
"""Path -> the body it takes."""


class FieldProblem(BaseModel):
    """One thing wrong with a request."""

    field: str = Field(description="where, e.g. texts[3]; body when it is the request as a whole")
    message: str = Field(description="what it should be instead")


class Problem(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="what was wrong, and what to do")
    detail: list[FieldProblem] = Field(description="the fields at fault; empty where it was none")


class LineProblem(Problem):
    """Why a line of a stream has no answer; stands where its answer would."""

    line: int = Field(ge=1, description="number of the line in the request, from 1")
