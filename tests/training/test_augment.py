from __future__ import annotations

from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from tocsin_training import prepare
from tocsin_training.augment import Example, augment
from tocsin_training.base import resolve_base
from tocsin_training.config import AugmentSettings, Settings
from tocsin_training.corpus import learned_records, load_corpus
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
