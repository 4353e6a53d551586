from __future__ import annotations

from pathlib import Path

import pytest

from tocsin_training.corpus import Line, Record
from tocsin_training.variety import TOLD_BY, grid, measure_variety, proper_names, ways_of_telling

NAMES = frozenset({"israeli", "kenyan", "m23", "naxal"})
ACTORS = ("actor named", "actor described only", "no actor")
CASUALTIES = ("casualties", "no casualties, said so", "no word of casualties")


def ways(text: str) -> set[str]:
    return set(ways_of_telling(text, NAMES))


def line(text: str, *, event: bool) -> Line:
    fields = {"id": "b-1", "text": text, "labels": ["storm"] if event else [], "register": "wire", "batch": "b"}
    return Line(Record.model_validate(fields | {"annotations": {"writer": []}}), "train", Path("b.jsonl"), 1)


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("actor named", "Israeli troops entered the town."),
        ("actor named", "In Goma M23's political commander left the town."),
        ("actor named", "Fighters of the RSF entered the town."),
        ("actor named", "The Lord's Resistance Army entered the town."),
        ("actor named", "A convoy left when al-Shabaab came."),
        ("actor described only", "Female soldiers entered the town."),
        ("actor described only", "LAGOS - Masked gunmen entered the town."),
        ("actor described only", "GOMA (AFP) - Students marched."),
        ("no actor", "The bridge was closed in Kampala."),
        ("actor unknown, said so", "Unidentified armed men entered the town."),
        ("actor unknown, said so", "The house burned. No armed group has claimed it."),
        ("casualties", "Eleven were wounded in the square."),
        ("casualties", "No injuries at the gate, but two died in the yard."),
        ("no casualties, said so", "There were no immediate reports of casualties."),
        ("no casualties, said so", "Nobody was seriously hurt."),
        ("no word of casualties", "The bridge was closed."),
        ("passive", "Four men were later taken to the station."),
        ("passive", "The town has been badly shelled."),
        ("event as a noun, with its object", "The shelling of the town went on."),
        ("event as a noun, with its object", "An attack by gunmen closed the road."),
        ("event or weapon as the subject", "Clashes broke out at noon."),
        ("event or weapon as the subject", "A roadside bomb killed two."),
        ("reported speech", "The road is open, according to residents."),
        ("quotation", "“We saw nothing.”"),
        ("slug", "GOMA, Congo, Aug 3 (AFP) - The road is open."),
        ("slug", "KUMASI: The road is open."),
        ("slug", "06:40 The road is open."),
        ("careless copy", "the road is open"),
        ("careless copy", "The the road is open."),
        ("careless copy", "The road is open,they say."),
        ("careless copy", "Many ppl on the road."),
    ],
)
def test_a_way_of_telling_is_recognised(way: str, text: str) -> None:
    assert way in ways(text)


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("passive", "Four men were at the station, and troops shelled the town."),
        ("event as a noun, with its object", "Troops attack a village of the north."),
        ("event or weapon as the subject", "Soldiers killed two with a bomb."),
        ("reported speech", "The road is open."),
        ("quotation", "The mayor's road is 'open'."),
        ("slug", "The road is open - for now."),
        ("slug", "Two killed: the road is open."),
        ("careless copy", "The road that that man took is open, he had had enough."),
        ("actor unknown, said so", "Little is known of the road."),
    ],
)
def test_what_only_resembles_it_is_not(way: str, text: str) -> None:
    assert way not in ways(text)


@pytest.mark.parametrize("text", ["Israeli troops killed two.", "Gunmen fled, nobody was hurt.", "The road is open."])
def test_actors_are_told_in_one_way_and_casualties_in_one_at_least(text: str) -> None:
    found = list(ways_of_telling(text, NAMES))
    assert sum(way in found for way in ACTORS) == 1
    assert any(way in found for way in CASUALTIES)
    assert len(found) == len(set(found)) and set(found) <= set(TOLD_BY)


def test_a_name_is_what_hardly_ever_stands_without_a_capital() -> None:
    texts = ["Rebel fighters met Kenyan police.", "A rebel met the Kenyan.", *["Kenyan"] * 20, "kenyan troops"]
    names = proper_names(texts)
    assert "kenyan" in names, "one careless writer of twenty"
    assert not {"rebel", "fighters", "the"} & names


def test_shares_are_of_the_records_with_an_event_and_of_those_without() -> None:
    lines = [
        line('He said: "No."', event=False),
        line("The road is open.", event=False),
        line("Israeli troops fled.", event=True),
    ]
    rows = {row[0]: tuple(row[2:]) for row in grid(measure_variety(lines)).rows}
    assert list(rows) == list(TOLD_BY)
    assert rows["quotation"] == ("0 (0.0%)", "1 (50.0%)")
    assert rows["no word of casualties"] == ("1 (100.0%)", "2 (100.0%)")
    assert {tuple(row[2:]) for row in grid(measure_variety([])).rows} == {("0 (0.0%)", "0 (0.0%)")}
