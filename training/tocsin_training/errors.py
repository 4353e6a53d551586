"""The training room's errors; all of them are messages for people (see ``tocsin.errors``)."""

from __future__ import annotations

from tocsin.errors import TocsinError


class ConfigError(TocsinError):
    """A recipe (TOML file) is missing, unreadable or breaks a rule."""


class CorpusError(TocsinError):
    """The corpus cannot be read or breaks its own rules."""


class BaseModelError(TocsinError):
    """The pretrained weights to start from are missing or are not the ones expected."""


class VerificationError(TocsinError):
    """An exported model does not answer like the model it was exported from."""


class PromotionError(TocsinError):
    """A run may not become the shipped release."""


class ComparisonError(TocsinError):
    """Two releases cannot be held against each other."""


class AcledError(TocsinError):
    """ACLED's API refuses, cannot be reached, or does not speak as it is documented to."""
