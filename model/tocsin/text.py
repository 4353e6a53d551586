"""Text that came from outside: made fit for UTF-8, and made comparable."""

from __future__ import annotations

import re


def fold(text: str) -> str:
    """A text without its case and punctuation, one space between words: what folds alike is one name, or one text."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def replace_lone_surrogates(text: str) -> str:
    """Put U+FFFD where, say, a JSON escape such as ``\\ud800`` left half a character, which no UTF-8 can carry.

    One character for one, so offsets stay as they are.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text
