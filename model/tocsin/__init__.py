"""Tocsin reads news text and says which conflict events it reports, in ACLED's vocabulary."""

from __future__ import annotations

from tocsin.classifier import EventClassifier, Scores
from tocsin.errors import InputError, ReleaseError, TaxonomyError, TocsinError, UsageError
from tocsin.prediction import DocumentPrediction, Event, Prediction, SentencePrediction
from tocsin.release import Release
from tocsin.taxonomy import EventType, Label, Taxonomy

__version__ = "0.1.0"

__all__ = [
    "DocumentPrediction",
    "Event",
    "EventClassifier",
    "EventType",
    "InputError",
    "Label",
    "Prediction",
    "Release",
    "ReleaseError",
    "Scores",
    "SentencePrediction",
    "Taxonomy",
    "TaxonomyError",
    "TocsinError",
    "UsageError",
    "__version__",
]
