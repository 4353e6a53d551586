"""Errors meant for people: each message says what was wrong, where, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


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


def how_to_install(extra: str) -> str:
    """What brings the packages of an extra, for the end of a message: Tocsin is on no package index."""
    return f"install tocsin[{extra}]; in a checkout: `.venv/bin/pip install -c constraints.txt -e '.[{extra}]'`"


def first_fault(error: ValidationError) -> str:
    """The first rule that data broke, after the field it stands in, as one line for people."""
    first = error.errors()[0]
    field, message = ".".join(map(str, first["loc"])), in_words(first)
    return f"{field}: {message}" if field else message


_IN_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda limits: "is missing, and is needed",
    "extra_forbidden": lambda limits: "is no field that is known; check its spelling, or take it out",
    "string_type": lambda limits: "must be text, in quotes",
    "string_too_short": lambda limits: "must not be empty",
    "too_short": lambda limits: f"needs at least {limits['min_length']}",
    "tuple_type": lambda limits: "must be a list",
    "list_type": lambda limits: "must be a list",
    "model_type": lambda limits: "must be a table of fields",
    "model_attributes_type": lambda limits: "must be a table of fields",
    "bool_type": lambda limits: "must be true or false",
    "bool_parsing": lambda limits: "must be true or false",
    "int_type": lambda limits: "must be a whole number",
    "int_parsing": lambda limits: "must be a whole number",
    "int_from_float": lambda limits: "must be a whole number",
    "float_type": lambda limits: "must be a number",
    "float_parsing": lambda limits: "must be a number",
    "greater_than_equal": lambda limits: f"must be {limits['ge']} or more",
    "greater_than": lambda limits: f"must be more than {limits['gt']}",
    "less_than_equal": lambda limits: f"must be {limits['le']} or less",
    "less_than": lambda limits: f"must be less than {limits['lt']}",
    "literal_error": lambda limits: f"must be {limits['expected']}",
}
"""What pydantic calls a broken rule -> that rule, for somebody who has never heard of pydantic."""


def in_words(fault: ErrorDetails) -> str:
    """A rule that data broke, in words; the value is left out, for it may be someone's text."""
    told = _IN_WORDS.get(fault["type"])
    return fault["msg"].removeprefix("Value error, ") if told is None else told(fault.get("ctx", {}))
