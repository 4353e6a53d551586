"""Tocsin reads news text and says which conflict events it reports, in ACLED's vocabulary."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from tocsin.classifier import EventClassifier, Scores
from tocsin.errors import InputError, ReleaseError, TaxonomyError, TocsinError, UsageError
from tocsin.prediction import DocumentPrediction, Event, Prediction, SentencePrediction
from tocsin.release import Release
from tocsin.taxonomy import EventType, Label, Taxonomy

__version__: str

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


# Type checkers would take any misspelt name for an attribute.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        # Asked for and not looked up at import: in a bento the library is there without a distribution with a version.
        if name == "__version__":
            return version("tocsin")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
