"""How far answers have moved from those that a release is known by.

A profile counts answers by bins: the first label or none, and how sure the answer was. Training writes the profile of
the validation split into the release, the service keeps one of its newest answers, and the population stability index
says how far apart two profiles are. Texts in a language that the model cannot read are in neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

if TYPE_CHECKING:
    from tocsin.classifier import Scores

Bins = NDArray[np.integer[Any]]
Counts = Mapping[str, Bins]
"""Quantity -> answers by bin."""

FIRST_ANSWER = "first_answer"
CONFIDENCE = "confidence"
QUANTITIES = (FIRST_ANSWER, CONFIDENCE)
CONFIDENCE_EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Upper edges of the bins of confidence, each in its bin; the last bin ends at 1. Finer where answers crowd."""
# Jeffreys' prior: a bin that one side never saw must not make the index infinite.
_PRIOR = 0.5


class Profile(BaseModel):
    """How some texts were answered, as counts; holds no text."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_version: str = Field(description="whose answers")
    labels: tuple[str, ...] = Field(min_length=1, description="those of the release's taxonomy")
    first_answers: tuple[NonNegativeInt, ...] = Field(
        description="texts by their most probable label, in the order of `labels`; last, those without event"
    )
    confidence_edges: tuple[float, ...] = Field(
        CONFIDENCE_EDGES, description="upper edges of the bins of confidence; the last bin ends at 1"
    )
    confidence: tuple[NonNegativeInt, ...] = Field(description="texts by confidence, one bin more than edges")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.first_answers) != len(self.labels) + 1:
            raise ValueError("first_answers must have one entry per label and one for no event")
        if len(self.confidence) != len(self.confidence_edges) + 1:
            raise ValueError("confidence must have one entry more than confidence_edges")
        if any(low >= high for low, high in zip(self.confidence_edges, self.confidence_edges[1:], strict=False)):
            raise ValueError("confidence_edges must rise")
        if sum(self.confidence) != self.texts:
            raise ValueError("first_answers and confidence must count the same texts")
        return self

    @classmethod
    def of(cls, scores: Scores) -> Self:
        """The profile of some answers."""
        return cls.from_counts(scores.model_version, scores.taxonomy.names, count(scores))

    @classmethod
    def from_counts(
        cls, model_version: str, labels: Sequence[str], counts: Counts, edges: Sequence[float] = CONFIDENCE_EDGES
    ) -> Self:
        """The profile that holds some counts."""
        return cls(
            model_version=model_version,
            labels=tuple(labels),
            first_answers=tuple(counts[FIRST_ANSWER].tolist()),
            confidence_edges=tuple(edges),
            confidence=tuple(counts[CONFIDENCE].tolist()),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; a broken rule raises pydantic's ValidationError."""
        return cls.model_validate_json(path.read_bytes())

    def save(self, path: Path) -> None:
        """Write a file."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @property
    def texts(self) -> int:
        """How many texts it counts."""
        return sum(self.first_answers)

    @property
    def counts(self) -> Counts:
        """Answers by quantity and bin."""
        return {FIRST_ANSWER: np.array(self.first_answers), CONFIDENCE: np.array(self.confidence)}


def count(scores: Scores, edges: Sequence[float] = CONFIDENCE_EDGES) -> Counts:
    """Answers by bin, of the texts in a language that the model can read."""
    given, labels = scores.given[scores.read], scores.given.shape[1]
    best = np.where(given, scores.probabilities[scores.read], -1.0).argmax(axis=1)
    first = np.where(given.any(axis=1), best, labels)
    sure = np.searchsorted(np.array(edges), scores.confidence[scores.read])
    return {
        FIRST_ANSWER: np.bincount(first, minlength=labels + 1),
        CONFIDENCE: np.bincount(sure, minlength=len(edges) + 1),
    }


def stability_index(reference: Bins, found: Bins) -> float:
    """Population stability index of two distributions over the same bins, given as counts.

    The sum over bins of ``(f - r) * ln(f / r)``, where f and r are the bins' shares (Siddiqi, Credit Risk Scorecards,
    2006, which reads less than 0.1 as no change and more than 0.25 as a shift); it is Kullback and Leibler's divergence
    (1951) in both directions together. Every count is raised by a half first. Chance alone makes it about
    ``(bins - 1) * (1 / n + 1 / m)`` for n and m texts (Yurdakul, Statistical Properties of Population Stability Index,
    2018), so that a few texts say nothing.
    """
    reference_share = (reference + _PRIOR) / (reference + _PRIOR).sum()
    found_share = (found + _PRIOR) / (found + _PRIOR).sum()
    return float(((found_share - reference_share) * np.log(found_share / reference_share)).sum())


def drift(reference: Counts, found: Counts) -> dict[str, float]:
    """Stability index of every quantity."""
    return {quantity: stability_index(reference[quantity], found[quantity]) for quantity in QUANTITIES}
