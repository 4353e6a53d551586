"""Errors meant for people: each message says what was wrong, where, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


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


def first_fault(error: ValidationError) -> str:
    """The first rule that data broke, after the field it stands in, as one line for people."""
    first = error.errors()[0]
    field, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message
