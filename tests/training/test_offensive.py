from __future__ import annotations

import re

import pytest

from tocsin_training import offensive
from tocsin_training.offensive import offensive_words, word_hash


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decent words to test with, in place of the list."""
    hashes = frozenset(map(word_hash, ("thistle", "garden gnome")))
    monkeypatch.setattr(offensive, "_hashes", lambda: hashes)


@pytest.mark.usefixtures("listed")
def test_words_and_phrases_are_found_whatever_their_case_and_punctuation() -> None:
    assert offensive_words("You THISTLE! A garden-gnome, he said.") == ["thistle", "garden gnome"]


@pytest.mark.usefixtures("listed")
def test_a_word_within_another_is_not_meant() -> None:
    assert offensive_words("Thistledown drifted over gardens and gnomes.") == []


def test_the_list_holds_hashes_and_no_word_can_be_read_in_it() -> None:
    lines = offensive._LIST.read_text().split()
    assert len(lines) > 1000
    assert all(re.fullmatch(r"[0-9a-f]{16}", line) for line in lines)


def test_the_words_of_war_are_decent() -> None:
    text = "A booby trap killed a MILF commander in Negros; the bomber, a suicide attacker, was shot."
    assert offensive_words(text) == []
