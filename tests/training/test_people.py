from __future__ import annotations

import pytest

from tocsin_training.people import namings


def named(text: str) -> list[tuple[str, bool]]:
    return [(naming.name, naming.allowed) for naming in namings(text)]


@pytest.mark.parametrize(
    "text",
    [
        "Forces loyal to Muammar Gaddafi shelled the port.",
        "GADDAFI TROOPS SHELL PORT",
        "Pro-Gaddafi gunmen held the road.",
        "Gaddafi's forces were driven out.",
        "Troops loyal to President Qaddafi, helped by others, came.",
        "The men of Colonel Gaddafi were gone.",
        "Troops loyal to President Gaddafi left the port.",
    ],
)
def test_a_head_of_state_may_be_named_in_passing(text: str) -> None:
    assert named(text) == [("Muammar Gaddafi", True)]


@pytest.mark.parametrize(
    "text",
    [
        "President Vladimir Putin said on Monday that the town was calm.",
        "Putin has again ordered a partial withdrawal.",
        "The town was calm, said President Putin.",
        "On Monday Vladimir Putin, who also visited the front, promised more.",
    ],
)
def test_no_words_or_deeds_are_put_on_a_head_of_state(text: str) -> None:
    assert named(text) == [("Vladimir Putin", False)]


@pytest.mark.parametrize(
    "text", ["Fighters of Joseph Kony crossed the river.", "Troops hunted Kony's men.", "KONY SEEN NEAR BORDER"]
)
def test_anyone_else_of_the_list_may_not_be_named_at_all(text: str) -> None:
    assert named(text) == [("Joseph Kony", False)]


@pytest.mark.parametrize(
    "text",
    [
        "A rocket hit Rafic Hariri International Airport.",
        "Shots were fired on Nelson Mandela Avenue.",
        "Police closed the Olusegun Obasanjo Library.",
        "DERA ISMAIL KHAN: Two policemen were hurt.",
    ],
)
def test_a_place_named_after_a_person_is_no_person(text: str) -> None:
    assert named(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Captain Daniel Putin of the militia was buried.",
        "The farmer, Ruth Taylor, said she saw nothing.",
        "Captain Taylor said the road was open.",
        "A brown bush burned near the park in May.",
    ],
)
def test_a_common_surname_or_another_given_name_is_another_person(text: str) -> None:
    assert named(text) == []


def test_a_common_surname_counts_with_its_given_name_or_an_office() -> None:
    assert named("Rebels of Charles Taylor held the town.") == [("Charles Taylor", True)]
    assert named("Rebels who want President Taylor gone held the town.") == [("Charles Taylor", True)]


def test_accents_hide_nobody() -> None:
    assert named("Loyalists of Slobodan Milošević marched.") == [("Slobodan Milosevic", True)]
