"""What GET /model says: where the serving release comes from, how it decides, and what this service takes."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from tocsin import EventClassifier
from tocsin.calibration import ReviewPromise
from tocsin.release import Manifest
from tocsin_serving.schemas import SETTINGS


class Limits(BaseModel):
    """What one request may hold; more is refused with 400 or 413."""

    model_config = ConfigDict(frozen=True)

    max_text_characters: int = Field(default=SETTINGS.max_text_characters, description="longest text")
    max_texts: int = Field(default=SETTINGS.max_texts, description="most texts of a JSON request; lines have no limit")
    max_document_characters: int = Field(default=SETTINGS.max_document_characters, description="longest document")
    max_body_bytes: int = Field(default=SETTINGS.max_body_bytes, description="longest body, that of lines apart")
    max_line_bytes: int = Field(default=SETTINGS.max_line_bytes, description="longest line of a body of lines")


class ModelAnswer(Manifest):
    """The manifest of the release that is serving, how it decides, and this service's limits."""

    model_config = ConfigDict(title="ModelAnswer")

    model_version: str = Field(description="name and version, as every answer carries them")
    review_below: float = Field(description="first answers less probable than this go to review")
    review_promise: ReviewPromise | None = Field(description="what that keeps; none in releases that do not say")
    objectives: tuple[str, ...] = Field(description="what `objective` may be; the default first")
    objective_targets: dict[str, float] = Field(description="objective -> precision that its thresholds are to reach")
    thresholds: dict[str, dict[str, float]] = Field(
        description="objective -> label -> the probability from which on the label is given"
    )
    limits: Limits = Field(description="what one request may hold")

    @classmethod
    def of(cls, classifier: EventClassifier) -> Self:
        """What is to be said of a classifier's release."""
        release = classifier.release
        return cls(
            **release.manifest.model_dump(),
            model_version=classifier.version,
            review_below=release.calibration.review_below,
            review_promise=release.calibration.review_promise,
            objectives=classifier.objectives,
            objective_targets=release.calibration.objective_targets,
            thresholds=release.thresholds,
            limits=Limits(),
        )
