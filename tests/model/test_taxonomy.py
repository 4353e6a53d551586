from __future__ import annotations

from pathlib import Path

import pytest
from support import TAXONOMY

from tocsin import Taxonomy, TaxonomyError

ACLED_SUB_EVENT_TYPES = 25

PARENT = '[[event_types]]\nname = "Battles"\n'
WEATHER = '[[event_types]]\nname = "Weather"\n'
FLAT = """
[[labels]]
label = "flood"
name = "Flood"
definition = "Water covers land."
[[labels]]
label = "storm"
name = "Storm"
definition = "Strong wind."
"""


def entry(label: str, **changes: str) -> str:
    fields = {
        "label": label,
        "name": label.title(),
        "sub_event_type": "Armed clash",
        "event_type": "Battles",
        "disorder_type": "Political violence",
        "definition": "People fight.",
    } | changes
    return "[[labels]]\n" + "".join(f'{key} = "{value}"\n' for key, value in fields.items() if value)


def load(folder: Path, text: str) -> Taxonomy:
    path = folder / "taxonomy.toml"
    path.write_text(text, encoding="utf-8")
    return Taxonomy.load(path)


def test_shipped_taxonomy_has_every_acled_sub_event_type_under_its_six_event_types() -> None:
    taxonomy = Taxonomy.load(TAXONOMY)
    assert len({label.sub_event_type for label in taxonomy.labels}) == ACLED_SUB_EVENT_TYPES
    assert len(taxonomy.event_types) == 6
    assert {label.event_type for label in taxonomy.labels} == {parent.name for parent in taxonomy.event_types}


def test_ground_offensive_is_an_armed_clash_in_acled_columns() -> None:
    label = Taxonomy.load(TAXONOMY).find("Ground offensive")
    assert (label.sub_event_type, label.event_type) == ("Armed clash", "Battles")


def test_excessive_force_has_two_disorder_types() -> None:
    label = Taxonomy.load(TAXONOMY).find("excessive_force_against_protesters")
    assert label.disorder_type == "Political violence; Demonstrations"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("air_drone_strike", "air_drone_strike"),
        ("Air/drone strike", "air_drone_strike"),
        ("AIRSTRIKE", "air_drone_strike"),
        ("air raid", "air_drone_strike"),
        ("Armed clash", "armed_clash"),
        ("Other", "other_strategic_development"),
    ],
)
def test_a_label_is_found_by_identifier_acled_name_plain_name_or_alias(text: str, label: str) -> None:
    assert Taxonomy.load(TAXONOMY).find(text).label == label


def test_an_event_type_is_found_by_alias() -> None:
    assert Taxonomy.load(TAXONOMY).find_event_type("remote violence").name == "Explosions/Remote violence"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    taxonomy = Taxonomy.load(TAXONOMY)
    with pytest.raises(TaxonomyError, match=r"'earthquake'; labels are: armed_clash"):
        taxonomy.find("earthquake")
    with pytest.raises(TaxonomyError, match="no event type goes by 'weather'"):
        taxonomy.find_event_type("weather")
    with pytest.raises(TaxonomyError, match="no label 'earthquake'"):
        taxonomy.index("earthquake")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PARENT + entry("a_b", event_type="Wars"), r"unknown event_type 'Wars'.*Battles"),
        (PARENT + entry("a_b") + entry("a_b", name="Other name"), "label given more than once: a_b"),
        (PARENT + entry("a_b", name="Same") + entry("b_c", name="Same"), "name given more than once: Same"),
        (PARENT + PARENT + entry("a_b"), "event type given more than once: Battles"),
        (
            PARENT + entry("a_b", definition=""),
            r"entry 1 \(a_b\), field 'definition': every label needs one; write a sentence",
        ),
        (
            PARENT + entry("a_b").replace('"Armed clash"', '""'),
            r"entry 1 \(a_b\), field 'sub_event_type': must not be empty",
        ),
        (PARENT + entry("a_b") + entry("Not Snake"), r"entry 2 \(Not Snake\).*snake_case"),
        (PARENT + entry("a_b", colour="red"), r"entry 1 \(a_b\), field 'colour': is no field that is known"),
        (PARENT + entry("a_b") + entry("9_lives"), r"entry 2 \(9_lives\), field 'label'.*a letter first"),
        (PARENT + entry("a_b", name="***"), r"entry 1 \(a_b\), field 'name': .* no letter or digit"),
        (PARENT + entry("a_b", name=r"A\tB"), r"entry 1 \(a_b\), field 'name': .* control character"),
        (PARENT + entry("a_b") + 'aliases = [""]', r"entry 1 \(a_b\), field 'aliases': .* no letter or digit"),
        (PARENT + WEATHER + entry("a_b"), "event type without a label: Weather"),
        (
            PARENT
            + 'aliases = ["W"]\n'
            + WEATHER
            + 'aliases = ["w"]\n'
            + entry("a_b")
            + entry("b_c", event_type="Weather"),
            "alias 'w' belongs to both 'Battles' and 'Weather'",
        ),
        (
            entry("a_b", event_type="B C") + entry("b_c", name="B C", event_type="A B"),
            "'a_b' stands under 'B C'.*'A B'",
        ),
        (
            entry("a_b", name="A", event_type="B") + entry("b_c", name="B", event_type="A"),
            r"'a_b' stands under 'B', .* \(a circle: A -> B -> A\); there are two levels only.*: take event_type",
        ),
        (
            '[[event_types]]\nname = "A"\nevent_type = "B"\n[[event_types]]\nname = "B"\nevent_type = "A"\n'
            + entry("a_b", event_type="A"),
            r"entry 1 \(A\), field 'event_type': .* nothing \(a circle: A -> B -> A\); .*: take event_type out$",
        ),
        (
            '[[event_types]]\nname = "A"\nevent_type = "Above"\n' + entry("a_b", event_type="A"),
            r"entry 1 \(A\), field 'event_type': event types stand under nothing; there are two levels only",
        ),
        (
            PARENT + entry("a_b") + 'parent = "Battles"\n',
            r"field 'parent': a label's parent is called event_type, and there are two levels only",
        ),
        (PARENT, r"holds no \[\[labels\]\]"),
        ("", r"holds no \[\[labels\]\]"),
        ("labels = []", r"holds no \[\[labels\]\]"),
        ('labels = "storm"', r"\[\[labels\]\]: must be a list"),
        ("not toml [", "not a TOML file"),
    ],
)
def test_a_broken_rule_is_named_with_its_entry(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TaxonomyError, match=message):
        load(tmp_path, text)


def test_a_flat_taxonomy_needs_no_event_types_and_none_of_acled_s_names(tmp_path: Path) -> None:
    taxonomy = load(tmp_path, FLAT)
    assert [parent.name for parent in taxonomy.event_types] == ["Flood", "Storm"]
    assert taxonomy.parents.tolist() == [0, 1]
    assert not taxonomy.has_acled_names
    assert taxonomy.find("STORM").event_type == "Storm"
    assert Taxonomy.load(TAXONOMY).has_acled_names


def test_labels_tell_the_event_types_where_none_are_declared(tmp_path: Path) -> None:
    taxonomy = load(tmp_path, entry("a_b", event_type="Wars") + entry("b_c", event_type="Crime") + FLAT)
    assert [parent.name for parent in taxonomy.event_types] == ["Wars", "Crime", "Flood", "Storm"]


def test_one_label_without_acled_s_names_leaves_the_taxonomy_without_them(tmp_path: Path) -> None:
    assert load(tmp_path, PARENT + entry("a_b")).has_acled_names
    assert not load(tmp_path, PARENT + entry("a_b") + FLAT).has_acled_names


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + FLAT).names == ("flood", "storm")


def test_an_alias_of_two_labels_is_refused(tmp_path: Path) -> None:
    first = entry("a_b") + 'aliases = ["fight"]\n'
    with pytest.raises(TaxonomyError, match="alias 'fight' belongs to both 'a_b' and 'b_c'"):
        load(tmp_path, PARENT + first + entry("b_c") + 'aliases = ["Fight"]\n')


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=r"none\.toml: cannot read the taxonomy"):
        Taxonomy.load(tmp_path / "none.toml")
