from __future__ import annotations

import random
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from tocsin_training import prepare
from tocsin_training.augment import Example, as_headline, augment, cut_off, in_other_cities
from tocsin_training.base import resolve_base
from tocsin_training.config import AugmentSettings, Settings
from tocsin_training.corpus import learned_records, load_corpus
from tocsin_training.gazetteer import infer_country
from tocsin_training.run import Run

RECORDS = [
    *(Example(f"event-{n}", f"District {n} reported heavy shelling overnight.", ("shelling",)) for n in range(30)),
    *(Example(f"none-{n}", f"Parliament debated budget number {n}, the speaker said.", ()) for n in range(30)),
]
BY_TEXT = {record.text: record for record in RECORDS}


def test_a_joined_text_is_two_records_whole_with_the_labels_of_both() -> None:
    joined = list(augment(RECORDS, AugmentSettings(joined_share=1)))
    assert len(joined) == len(RECORDS)
    for example in joined:
        first, _, second = example.text.partition(". ")
        parts = [BY_TEXT[f"{first}."], BY_TEXT[second]]
        assert set(example.labels) == {label for part in parts for label in part.labels}
    without_event = sum(not example.labels for example in joined)
    assert 0 < without_event < len(joined)


def test_slips_change_letters_and_punctuation_but_no_label() -> None:
    changed = 0
    for example in augment(RECORDS, AugmentSettings(slips_share=1)):
        source = max(RECORDS, key=lambda record: SequenceMatcher(None, record.text, example.text).ratio())
        assert example.labels == source.labels
        changed += example.text != source.text
    assert changed > len(RECORDS) // 3


@pytest.mark.parametrize("short", [0, 1])
def test_texts_too_long_to_be_joined_are_fewer_with_a_warning_and_no_endless_search(
    short: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One short record in 400 joins with itself alone: once in some 100,000 draws."""
    long = [Example(f"long-{n}", f"n{n} " * 84, ("shelling",) if n % 2 else ()) for n in range(400)]
    made = list(augment([*long, *RECORDS[-1:][:short]], AugmentSettings(joined_share=0.5, slips_share=0.1)))
    joined = [example for example in made if example.id.startswith("joined-")]
    assert len(joined) < 10
    assert sum(example.id.startswith("slips-") for example in made) == 40
    assert all(len(example.text.split()) <= 85 for example in joined)
    assert f"{200 - len(joined)} of the 200 joined texts" in caplog.text


def test_the_same_settings_give_the_same_examples_and_another_seed_others() -> None:
    once, again, other = (
        list(augment(RECORDS, AugmentSettings(joined_share=0.5, slips_share=0.5, seed=seed))) for seed in (1, 1, 2)
    )
    assert once == again
    assert once != other
    assert len({example.id for example in once}) == len(once)


def test_only_the_training_split_grows_and_foreign_texts_are_not_mixed_in(
    settings: Settings, corpus: Path, edit_line: Callable[..., None]
) -> None:
    edit_line(corpus / "train" / "one.jsonl", 1, text="Zzyzx a b c.", labels=[], reason="foreign_language")
    plain = load_corpus(corpus)
    learned = learned_records(settings.data.model_copy(update={"corpus": corpus}), AugmentSettings(joined_share=2))
    there = len(plain["train"])
    assert len(learned["train"]) == there + 2 * (there - 1)
    assert learned["train"]["id"][:there] == plain["train"]["id"]
    assert sum("Zzyzx" in text for text in learned["train"]["text"]) == 1
    assert learned["validation"]["id"] == plain["validation"]["id"]


def test_texts_made_of_records_are_counted_apart_from_them(settings: Settings, tmp_path: Path) -> None:
    more = {"runs": tmp_path, "augment": AugmentSettings(joined_share=0.25, slips_share=0.1)}
    run = Run.create(settings.model_copy(update=more), "counted")
    prepare.main(run, resolve_base("tiny", scratch=run.base).path)
    figures = run.figures()["prepare"]
    assert figures["records"] == {"train": 320, "validation": 100, "test": 100}
    assert figures["augmented"] == 80 + 32


CHANGES: dict[str, Callable[[Example, random.Random], str | None]] = {
    "headlines": as_headline,
    "cut": cut_off,
    "cities": in_other_cities,
}


def reworded(kind: str, text: str, labels: tuple[str, ...] = ("x",), seed: int = 1) -> str | None:
    return CHANGES[kind](Example("a", text, labels), random.Random(seed))


@pytest.mark.parametrize(
    ("text", "headline"),
    [
        ("A bomb was found in a bus near the station.", "Bomb found in bus near station"),
        ("Two farmers were shot by gunmen on the road to Jos.", "Two farmers shot by gunmen on road to Jos"),
    ],
)
def test_a_headline_loses_articles_and_auxiliaries_and_may_be_in_title_case(text: str, headline: str) -> None:
    found = {reworded("headlines", text, seed=seed) for seed in range(10)}
    assert found == {headline, " ".join(word[0].upper() + word[1:] for word in headline.split())}


@pytest.mark.parametrize(
    "text",
    [
        "Police said they were attacked. A man was shot in the leg.",
        "Rebels seize town",
        "NAIROBI (Reuters) - A man was shot in the leg.",
        "The " + "very " * 20 + "long story.",
    ],
)
def test_what_is_no_headline_or_one_already_is_left_alone(text: str) -> None:
    assert reworded("headlines", text) is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The man who was killed in Bihac had a shop.", "who was killed in"),
        ("The march will be held in May.", "will be held"),
        ("The soldiers had been captured in March.", "had been captured"),
        ("The rebels were not driven from the town.", "were not driven"),
        ("The soldiers were attacked.", "attacked"),
        ("The guards were seized weapons in hand.", "were seized weapons"),
    ],
)
def test_a_headline_keeps_words_that_tell_who_did_it_or_whether_it_came_to_pass(text: str, kept: str) -> None:
    found = [reworded("headlines", text, seed=seed) for seed in range(10)]
    assert all(headline is not None and kept in headline.lower() for headline in found)


def test_only_a_clause_that_says_who_says_so_is_cut_and_only_where_there_is_an_event() -> None:
    text = "Gunmen killed a chief in Boni on Monday, a local security source said."
    found = {reworded("cut", text, seed=seed) for seed in range(40)}
    body = "Gunmen killed a chief in Boni on Monday"
    assert found == {
        f"{body}.",
        *(f"{body}, {part} ..." for part in ("a", "a local", "a local security", "a local security source")),
    }
    assert reworded("cut", text, labels=()) is None


@pytest.mark.parametrize(
    "text",
    [
        "Gunmen killed a chief.",
        "A mine went off under a lorry, and police who had fired on the crowd said so.",
        "The army took the hill, the rebels that lost it said.",
        "The mayor was there, told by the men they had shot two guards.",
        '"We took the town," the commander said.',
    ],
)
def test_a_text_that_ends_in_anything_else_is_not_cut(text: str) -> None:
    assert reworded("cut", text) is None


def test_a_city_gives_way_to_another_of_its_country_wherever_it_stands() -> None:
    text = "Shells fell on Aleppo. ALEPPO - Rebels near Aleppo's airport fled to Gaziantep; Aleppo University was shut."
    found = {reworded("cities", text, seed=seed) for seed in range(8)}
    assert len(found) > 3
    for other in found:
        assert other is not None
        first = other.removeprefix("Shells fell on ").partition(".")[0]
        assert infer_country(f"in {first}") == "SYR"
        assert f"near {first}'s airport" in other
        assert "Gaziantep" not in other and "Aleppo University" in other


@pytest.mark.parametrize("text", ["Shells fell on Damascus.", "Syrian troops met Marion Jones.", "nothing at all"])
def test_capitals_people_and_texts_without_a_city_stay(text: str) -> None:
    assert reworded("cities", text) is None


@pytest.mark.parametrize("kind", CHANGES)
def test_reworded_records_keep_their_labels_and_no_other_share_changes_them(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    records = [
        Example(f"r-{n}", f"The {n} shells were fired at a post in Homs, a police officer said.", (f"label-{n}",))
        for n in range(20)
    ]
    settings = AugmentSettings.model_validate({f"{kind}_share": 0.5, "seed": 4})
    made = list(augment(records, settings))
    assert len({example.labels for example in made}) == len(made) == 10, "each record once"
    for example in made:
        assert example.id.startswith(f"{kind}-")
        assert example.labels[0].removeprefix("label-") in example.text.split()
    more = settings.model_copy(update={"slips_share": 0.2, "joined_share": 0.0})
    assert [example for example in augment(records, more) if example.id.startswith(kind)] == made
    few = [*records[:3], *(Example(f"e-{n}", "Rain fell all day", ()) for n in range(17))]
    assert len(list(augment(few, settings))) == 3
    assert f"7 of the 10 texts that augment.{kind}_share asks for are not made" in caplog.text


def test_other_kinds_of_augmentation_leave_the_recipes_own_texts_as_they_were() -> None:
    """The teacher has read those, and they are told by their ids and texts."""
    own = AugmentSettings(joined_share=0.25, slips_share=0.1)
    more = own.model_copy(update={"headlines_share": 0.1, "cut_share": 0.1, "cities_share": 0.1})
    made = list(augment(RECORDS, own))
    assert list(augment(RECORDS, more))[: len(made)] == made
