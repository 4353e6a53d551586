from __future__ import annotations

import pytest

from tocsin.language import UNKNOWN, detect_language

ENGLISH = [
    "Warplanes bombed a village on Tuesday, killing six people.",
    "M23 rebels seize Kiwanja",
    "REBELS SHELL GOMA AIRPORT",
    "Gunmen rake market lorry in Katsina",
    "Army takes back Mocimboa da Praia",
    "Taliban seize Kunduz",
]


@pytest.mark.parametrize("text", ENGLISH)
def test_english_full_of_foreign_names_is_english(text: str) -> None:
    assert detect_language(text, ("en",)) == "en"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Des hommes armés ont attaqué le village dans la nuit de lundi à mardi.", "fr"),
        ("Вооружённые люди напали на деревню в ночь на вторник.", "ru"),
        ("هاجم مسلحون القرية ليلة الثلاثاء وقتلوا ثلاثة أشخاص.", "ar"),
        ("Hombres armados atacaron el pueblo en la noche del martes.", "es"),
    ],
)
def test_another_language_is_named(text: str, language: str) -> None:
    assert detect_language(text, ("en",)) == language


@pytest.mark.parametrize(
    "text", ["Ataque aéreo mata civiles", "Armija zauzela selo", "Bombardamento a Gaza", "Взрыв в Донецке"]
)
def test_a_foreign_headline_is_not_taken_for_english(text: str) -> None:
    assert detect_language(text, ("en",)) not in ("en", UNKNOWN)


@pytest.mark.parametrize("order", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_long_text_is_foreign_when_a_part_of_it_is(order: tuple[int, ...]) -> None:
    parts = ("Вооружённые люди напали на деревню в ночь на вторник. " * 30, ENGLISH[0] * 30)
    assert detect_language(" ".join(parts[which] for which in order), ("en",)) == "ru"


@pytest.mark.parametrize("text", ["123 456", "... !!!", "🙂🙂", "\x00\x00"])
def test_text_without_letters_has_no_language(text: str) -> None:
    assert detect_language(text, ("en",)) == UNKNOWN
