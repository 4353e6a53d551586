"""Errors meant for people: each message says what was wrong, where, and what to do."""

from __future__ import annotations


class TocsinError(Exception):
    """Base of every error whose message is meant to be shown to a user as it is."""


class UsageError(TocsinError):
    """The command or call was put together wrongly (exit code 2 on the command line)."""


class InputError(TocsinError):
    """A text, row or file the user gave cannot be used."""


class TaxonomyError(TocsinError):
    """A taxonomy file breaks a rule, or a name is not in the taxonomy."""


class ReleaseError(TocsinError):
    """A release folder is incomplete, altered, or its parts do not fit each other."""
