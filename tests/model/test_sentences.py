from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencex import get_sentence_boundaries

from tocsin import sentences
from tocsin.sentences import PIECE_CHARACTERS, split_sentences

# Lone surrogates are left out: the classifier replaces them before it splits.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@settings(deadline=None)
@given(ANY_TEXT, st.integers(1, 40))
def test_offsets_reproduce_every_sentence_and_nothing_but_white_space_is_left_out(text: str, times: int) -> None:
    document = text * times
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


NEWS = (
    "Dr. Haddad of the U.N. spoke on Jan. 5. ",
    "“We fled at dawn. They burned the school. Nobody came to help us,” she said. ",
    '"Rockets fell. Then it was quiet," a witness (who gave no name. He fears for his family) told\nreporters. ',
    "Two died! 🙂 The army’s spokesman said: «Nothing of the kind. It is a lie.» ",
    "Fighting went on in Zamboanga.\n",
)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*NEWS, "\n\n", "\r\n\r\n", "\n\n\n"]), min_size=50, max_size=400))
def test_a_long_document_is_cut_as_if_it_were_read_at_once(parts: list[str]) -> None:
    document = "".join(parts)
    at_once = [document[each["start_index"] : each["end_index"]] for each in get_sentence_boundaries("en", document)]
    assert [sentence.text for sentence in split_sentences(document)] == [raw.strip() for raw in at_once if raw.strip()]


@pytest.mark.parametrize("around", ["{}", "{}a. ", "{}a b c", "a{} {}", "A. {}"])
@pytest.mark.parametrize("mark", [*"\"'`«»‘’‚“”‛„‟‹›《「()[]{}<>（.@", "``", "x", " ", "\n", "\n\n", "\u200b"])
def test_time_grows_with_the_length_whatever_quotes_stand_open(
    mark: str, around: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_at_once: list[int] = []

    def counted(language: str, text: str) -> object:
        given_at_once.append(len(text))
        return get_sentence_boundaries(language, text)

    monkeypatch.setattr(sentences, "get_sentence_boundaries", counted)
    document = around.replace("{}", mark) * 20_000
    document = document[:20_000]
    split_sentences(document)
    # Its time for one piece is bounded by the piece's length, whatever is in it; so is the number of pieces.
    assert max(given_at_once) <= PIECE_CHARACTERS
    assert sum(given_at_once) <= 4 * len(document)


def test_what_has_no_end_is_cut_between_words() -> None:
    found = split_sentences("word " * 5_000)
    assert len(found) < 10
    assert {word for sentence in found for word in sentence.text.split(" ")} == {"word"}
