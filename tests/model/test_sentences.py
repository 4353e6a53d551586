from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.sentences import split_sentences


@given(st.text(max_size=300))
def test_offsets_reproduce_every_sentence_and_nothing_but_white_space_is_left_out(document: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in document):
        return  # the classifier replaces them before it splits
    position = 0
    for sentence in split_sentences(document):
        assert document[sentence.start : sentence.end] == sentence.text
        assert document[position : sentence.start].strip() == ""
        position = sentence.end
    assert document[position:].strip() == ""


@pytest.mark.parametrize(
    ("document", "sentences"),
    [
        ("Dr. Haddad of the U.N. spoke on Jan. 5. Two died.", ["Dr. Haddad of the U.N. spoke on Jan. 5.", "Two died."]),
        ("Headline without stop\n\nBody text.", ["Headline without stop", "Body text."]),
        ('"We fled," she said. 🙂 Then rockets fell!', ['"We fled," she said.', "🙂 Then rockets fell!"]),
        ("قصف. هجوم.", ["قصف.", "هجوم."]),
        ("", []),
    ],
)
def test_abbreviations_quotes_and_blank_lines_are_understood(document: str, sentences: list[str]) -> None:
    assert [sentence.text for sentence in split_sentences(document)] == sentences
