"""Cutting documents into sentences with Wikimedia's sentencex, without losing or changing a character."""

from __future__ import annotations

from dataclasses import dataclass

from sentencex import get_sentence_boundaries


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and where it stands: ``document[start:end] == text``, offsets in characters."""

    start: int
    end: int
    text: str


def split_sentences(document: str, language: str = "en") -> list[Sentence]:
    """Sentences of a document in order, without the white space around them.

    A line break inside a paragraph does not end a sentence, a blank line always does.
    """
    sentences = []
    for boundary in get_sentence_boundaries(language, document):
        start, end = boundary["start_index"], boundary["end_index"]
        raw = document[start:end]
        text = raw.strip()
        if text:
            start += len(raw) - len(raw.lstrip())
            sentences.append(Sentence(start, start + len(text), text))
    return sentences
