from __future__ import annotations

import pytest

from tocsin_training.corpus import Record
from tocsin_training.gazetteer import infer_country, measure
from tocsin_training.regions import region


def record(text: str, country: str | None) -> Record:
    place = {"country": country, "register": "wire", "batch": "b"}
    return Record.model_validate(
        {"id": "b-1", "text": text, "labels": [], "annotations": {"writer": []}, "reason": "sport", **place}
    )


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("Gunmen attacked a village in Kenya.", "KEN"),
        ("Kenyan police arrested four men.", "KEN"),
        ("NAIROBI (Reuters) - Police arrested four men.", "KEN"),
        ("Turkish drones struck Raqqa overnight.", "SYR"),
        ("A Nigerian-led force entered Freetown.", "SLE"),
        ("The road from Goma to Bukavu was cut.", "COD"),
        ("Clashes broke out in Yaoundé.", "CMR"),
        ("Côte d'Ivoire's army held the bridge.", "CIV"),
    ],
)
def test_the_places_named_tell_the_country(text: str, country: str) -> None:
    assert infer_country(text) == country


@pytest.mark.parametrize(
    "text",
    [
        "Gunmen attacked a village on Monday.",
        "Delegates of Kenya and Uganda met.",
        "the police were reading the orange report",
        "",
    ],
)
def test_where_no_place_or_no_one_place_is_named_nothing_is_inferred(text: str) -> None:
    assert infer_country(text) is None


def test_accuracy_is_reckoned_on_the_stated_countries_alone() -> None:
    accuracy = measure(
        [
            record("Gunmen attacked a village in Kenya.", "KEN"),
            record("Gunmen attacked a village in Kenya.", "UGA"),
            record("Gunmen attacked a village in Kenya.", "SYR"),
            record("Gunmen attacked a village.", "KEN"),
            record("Gunmen attacked a village in Kenya.", None),
        ]
    )
    assert (accuracy.records, accuracy.guessed, accuracy.wrong_country, accuracy.wrong_region) == (4, 3, 2, 1)
    assert accuracy.guessed_share == 0.75
    assert accuracy.error == pytest.approx(2 / 3)
    assert measure([]).error == 0.0


def test_every_inferred_country_has_a_region() -> None:
    from tocsin_training import gazetteer

    lost = {country for country, _ in gazetteer._gazetteer().values() if region(country) == "?"}
    # Islands and dependencies with no record; anything larger missing would fall out of the tables.
    assert not lost & {"KEN", "SYR", "UKR", "COL", "IDN", "FJI", "XKX", "PSE"}
    assert region(infer_country("Fighting went on in Kharkiv.")) == "Europe and Caucasus"
