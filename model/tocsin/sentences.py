"""Cutting documents into sentences with Wikimedia's sentencex, without losing or changing a character.

sentencex looks for the end of every quotation and bracket to the end of the paragraph, so that a paragraph of opening
quotes alone takes it a time that grows with the square of their number, seconds for a document, and no other thread
runs meanwhile. It is therefore given a document in pieces of bounded length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sentencex import get_sentence_boundaries

# Whose abbreviations end no sentence. Stops of other scripts are known whatever it says, and a document is cut before
# anybody knows its language.
_LANGUAGE = "en"
PIECE_CHARACTERS = 4_000
"""Most that sentencex is given at once: some milliseconds of work at worst."""
# What is left at the end of a piece inside a paragraph to be read again with the next one: a quotation that begins
# there may go on behind it. Quotations of several sentences have some hundred characters.
_OVERLAP = 1_000
# The same that sentencex takes for the end of a paragraph; no quotation goes beyond one.
_PARAGRAPH_END = re.compile(r"\n\r*\n")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and where it stands: ``document[start:end] == text``, offsets in characters."""

    start: int
    end: int
    text: str


def split_sentences(document: str) -> list[Sentence]:
    """Sentences of a document in order, without the white space around them, in time that grows with its length.

    A line break inside a paragraph does not end a sentence, a blank line always does. What has no end within
    `PIECE_CHARACTERS`, as a table may, is cut at the last white space before that, or there when it has none.
    """
    sentences = []
    for start, end in _boundaries(document):
        raw = document[start:end]
        text = raw.strip()
        if text:
            place = start + len(raw) - len(raw.lstrip())
            sentences.append(Sentence(place, place + len(text), text))
    return sentences


def _boundaries(document: str) -> Iterator[tuple[int, int]]:
    """Where sentences begin and end, piece by piece."""
    position = 0
    while position < len(document):
        piece = document[position : position + PIECE_CHARACTERS]
        is_last = position + len(piece) == len(document)
        found = _of_finished(piece) if is_last else _of_unfinished(piece)
        yield from ((position + start, position + end) for start, end in found)
        position += found[-1][1]


def _of_finished(piece: str) -> list[tuple[int, int]]:
    """Sentences of a piece that ends where a paragraph does; they cover all of it."""
    return [(each["start_index"], each["end_index"]) for each in get_sentence_boundaries(_LANGUAGE, piece)]


def _of_unfinished(piece: str) -> list[tuple[int, int]]:
    """Those sentences at the beginning of a piece, at least one, that what follows the piece cannot change."""
    paragraph_ends = [match.end() for match in _PARAGRAPH_END.finditer(piece)]
    if paragraph_ends:
        return _of_finished(piece[: paragraph_ends[-1]])
    *complete, _ = _of_finished(piece)
    settled = [(start, end) for start, end in complete if end <= len(piece) - _OVERLAP]
    return settled or complete[:1] or [(0, _last_white_space(piece))]


def _last_white_space(piece: str) -> int:
    """Where to cut what has no sentence's end: before its last word, or at its end when it is one word."""
    words = piece.rsplit(maxsplit=1)
    return len(words[0]) if len(words) == 2 else len(piece)
