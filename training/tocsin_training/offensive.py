"""Offensive words in a text, by a published list that is kept here as hashes, for decency and not for secrecy.

The list is that of the npm package cuss 2.2.0 (MIT, Titus Wormer, https://github.com/words/cuss): the English words and
phrases that it rates as most likely profane, less those that news uses in another sense (booby traps, the MILF, Negros,
the dong). A word's line in ``offensive.txt`` is the first 16 digits of the SHA-256 of its lower-case form.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

_LIST = Path(__file__).with_name("offensive.txt")
_DIGITS = 16


def offensive_words(text: str) -> list[str]:
    """The words, and runs of two or three words, that are on the list, in the text's order."""
    words = re.findall(r"\w+", text.casefold())
    runs = (" ".join(words[start : start + size]) for size in (1, 2, 3) for start in range(len(words) - size + 1))
    return [run for run in dict.fromkeys(runs) if _is_listed(run)]


@cache
def _is_listed(run: str) -> bool:
    return word_hash(run) in _hashes()


def word_hash(word: str) -> str:
    """A word's line in the list."""
    return hashlib.sha256(word.casefold().encode()).hexdigest()[:_DIGITS]


@cache
def _hashes() -> frozenset[str]:
    return frozenset(_LIST.read_text(encoding="ascii").split())
