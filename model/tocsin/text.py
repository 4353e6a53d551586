"""Text that came from outside: made fit for UTF-8, made comparable, and what Excel says of its own."""

from __future__ import annotations

import re

_SEPARATOR = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


def fold(text: str) -> str:
    """A text without its case and punctuation, one space between words: what folds alike is one name, or one text."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def excel_separator(line: str) -> str | None:
    """The delimiter in Excel's line above the header of CSV, such as ``sep=;``; none in any other line."""
    named = _SEPARATOR.fullmatch(line)
    return None if named is None else named[1]


def replace_lone_surrogates(text: str) -> str:
    """Put U+FFFD where, say, a JSON escape such as ``\\ud800`` left half a character, which no UTF-8 can carry.

    One character for one, so offsets stay as they are.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text
