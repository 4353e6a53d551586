"""From logits to probabilities that mean what they say, and to decisions.

Per-label affine (Platt) scaling on validation data: ``p = sigmoid(scale * logit + bias)`` (Platt 1999; Guo et al.
2017 for the one-temperature case, in which every scale is the same and every bias 0). Parents follow from children, so
an event type can never contradict its labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tocsin.errors import InputError

Floats = NDArray[np.floating[Any]]

DEFAULT_OBJECTIVE = "default"
"""Name of the thresholds every release has."""


class ReviewPromise(BaseModel):
    """What the review band keeps, as measured on the validation split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_accuracy: float = Field(
        ge=0, le=1, description="share of texts not sent to review whose first answer is asked to be right"
    )
    validation_accuracy: float = Field(ge=0, le=1, description="share reached on validation")
    validation_review_share: float = Field(ge=0, le=1, description="share of validation texts sent to review")
    validation_texts: int | None = Field(
        None, ge=0, description="texts that this share is of; none in releases that do not say"
    )


class Calibration(BaseModel):
    """Everything that turns logits of shape (texts, labels) into probabilities and decisions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: tuple[float, ...] = Field(description="per label, positive")
    bias: tuple[float, ...] = Field(description="per label, on the logit scale")
    thresholds: tuple[float, ...] = Field(description="per label: a probability at or above it gives the label")
    review_below: float = Field(ge=0, le=1, description="texts of lower `confidence` go to review")
    review_promise: ReviewPromise | None = None
    objectives: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, description="name -> other thresholds per label, such as `precision`; none by default"
    )

    objective_targets: dict[str, float] = Field(
        default_factory=dict, description="objective -> precision that its thresholds are to reach; see `calibrate`"
    )

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if not len(self.scale) == len(self.bias) == len(self.thresholds):
            raise ValueError("scale, bias and thresholds must have one entry per label each")
        if any(scale <= 0 for scale in self.scale):
            raise ValueError("every scale must be positive, or a higher logit would mean a lower probability")
        if any(len(thresholds) != len(self.thresholds) for thresholds in self.objectives.values()):
            raise ValueError("every objective must have one threshold per label")
        if any(not 0 < threshold < 1 for row in (self.thresholds, *self.objectives.values()) for threshold in row):
            raise ValueError("every threshold must lie between 0 and 1")
        if DEFAULT_OBJECTIVE in self.objectives:
            raise ValueError(f"the objective {DEFAULT_OBJECTIVE!r} is `thresholds` itself; give others another name")
        if not self.objective_targets.keys() <= self.objectives.keys():
            raise ValueError("every target must be that of an objective")
        return self

    @classmethod
    def identity(cls, labels: int) -> Calibration:
        """No calibration: sigmoid of the logit, threshold 0.5, nothing sent to review."""
        return cls(scale=(1.0,) * labels, bias=(0.0,) * labels, thresholds=(0.5,) * labels, review_below=0.0)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read ``calibration.json``; a broken rule raises pydantic's ValidationError."""
        return cls.model_validate_json(path.read_bytes())

    def save(self, path: Path) -> None:
        """Write ``calibration.json``."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def probabilities(self, logits: Floats) -> NDArray[np.float32]:
        """Calibrated probability of every label, shape (texts, labels)."""
        margin = logits.astype(np.float64) * np.array(self.scale) + np.array(self.bias)
        # exp of a non-positive number only: no overflow however sure the model is.
        tail = np.exp(-np.abs(margin))
        result: NDArray[np.float32] = (np.where(margin >= 0, 1.0, tail) / (1.0 + tail)).astype(np.float32)
        return result

    @property
    def objective_names(self) -> tuple[str, ...]:
        """What `decide` can be asked for."""
        return (DEFAULT_OBJECTIVE, *self.objectives)

    def thresholds_of(self, objective: str) -> tuple[float, ...]:
        """Thresholds of an objective, one per label.

        :raises InputError: the calibration has none for it.
        """
        if objective not in self.objective_names:
            known = ", ".join(self.objective_names)
            raise InputError(f"objective {objective!r} is not one of this release's: {known}")
        return self.objectives.get(objective, self.thresholds)

    def decide(self, probabilities: Floats, objective: str = DEFAULT_OBJECTIVE) -> NDArray[np.bool_]:
        """Which labels are given, shape (texts, labels).

        :raises InputError: the calibration has no thresholds for the objective.
        """
        return probabilities >= np.array(self.thresholds_of(objective), dtype=np.float32)

    def confidence(self, probabilities: Floats, objective: str = DEFAULT_OBJECTIVE) -> Floats:
        """How sure the first answer is, shape (texts,): the likeliest label given, or no event where none is.

        This is the number that ``review_below`` is compared with. Labels given beside the likeliest play no part in
        it: they may be far less sure, and each has its own probability.
        """
        given = np.where(self.decide(probabilities, objective), probabilities, 0.0)
        first = given.max(axis=-1)
        confidence: Floats = np.where(first > 0, first, 1.0 - union(probabilities))
        return confidence


def union(probabilities: Floats) -> Floats:
    """Probability that at least one of the events on the last axis is reported (noisy-or).

    Never below the largest of them and never above their sum, whatever the model says.
    """
    complement: Floats = np.prod(1.0 - probabilities, axis=-1, dtype=np.float64)
    result: Floats = (1.0 - complement).astype(np.float32)
    return result


def union_by_parent(probabilities: Floats, parents: NDArray[np.intp], count: int) -> NDArray[np.float32]:
    """Probability of each event type, shape (texts, event types), from its labels' probabilities (texts, labels)."""
    columns = [union(probabilities[..., parents == parent]) for parent in range(count)]
    return np.stack(columns, axis=-1).astype(np.float32)
