"""The release users get: whole, right on plain reports, and answering the same whichever way it is asked."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, assert_same_predictions

from tocsin import EventClassifier, Release
from tocsin.encoder import load_tokenizer

MEGABYTES = 50
EVENTS_LOST = 0.005

PLAIN_REPORTS = [
    ("Warplanes bombed a village near the border on Tuesday, killing six people, residents said.", "air_drone_strike"),
    (
        "Artillery shells hit a residential district overnight and wounded four people.",
        "shelling_artillery_missile_attack",
    ),
    ("Government troops launched a large offensive at dawn to retake the city from the rebels.", "ground_offensive"),
    ("A suicide bomber blew himself up at a checkpoint outside the capital.", "suicide_bomb"),
    ("Thousands of teachers marched peacefully through the capital to demand higher pay.", "peaceful_protest"),
    ("Police detained forty members of the opposition party in overnight raids.", "arrests"),
    ("Gunmen on motorcycles shot dead eleven villagers in their homes.", "attack"),
    ("A roadside bomb exploded under a minibus, killing three passengers.", "remote_explosive_landmine_ied"),
    ("The two sides signed a ceasefire agreement on Friday.", "agreement"),
    ("Unknown gunmen kidnapped five aid workers from their compound.", "abduction_forced_disappearance"),
]
NOTHING_REPORTED = [
    "The president said the country wants peace and called on all sides to show restraint.",
    "The striker fired the visitors into the lead with a rocket from thirty metres.",
    "Heavy rain and floods killed nine people in the north, the disaster agency said.",
    "The central bank raised interest rates by half a point.",
    "The town will mark the tenth anniversary of the bombing next week.",
]


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    files = sorted((ROOT / "datasets/corpus/test").glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").strip().split("\n")]


@pytest.fixture(scope="module")
def texts(records: list[dict[str, Any]]) -> list[str]:
    return [record["text"] for record in random.Random(1).sample(records, 60)]


def test_its_folder_is_whole_and_small() -> None:
    release = Release.open()
    assert release.unlisted == ()
    assert release.size < MEGABYTES * 1e6


@pytest.mark.parametrize(("text", "label"), PLAIN_REPORTS)
def test_a_plain_report_gets_its_label(shipped_classifier: EventClassifier, text: str, label: str) -> None:
    assert [event.label for event in shipped_classifier.classify(text).events] == [label]


@pytest.mark.parametrize("text", NOTHING_REPORTED)
def test_text_that_reports_no_event_gets_none(shipped_classifier: EventClassifier, text: str) -> None:
    assert shipped_classifier.classify(text).events == ()


def test_one_by_one_and_in_any_batch_it_answers_to_the_last_bit_the_same(
    shipped_classifier: EventClassifier, texts: list[str]
) -> None:
    alone = [shipped_classifier.classify(text) for text in texts]
    order = list(range(len(texts)))
    random.Random(2).shuffle(order)
    batched = shipped_classifier.classify_batch([texts[index] for index in order])
    assert_same_predictions([alone[index] for index in order], batched, tolerance=0.0)


def test_thread_count_changes_nothing_beyond_rounding(shipped_classifier: EventClassifier, texts: list[str]) -> None:
    assert_same_predictions(
        shipped_classifier.classify_batch(texts), EventClassifier.load(threads=2).classify_batch(texts), tolerance=1e-4
    )


def test_the_taxonomy_it_carries_is_the_project_s(shipped_classifier: EventClassifier) -> None:
    carried = (shipped_classifier.release.folder / "taxonomy.toml").read_text(encoding="utf-8")
    assert carried == Path(ROOT / "datasets/taxonomy.toml").read_text(encoding="utf-8")


def test_its_screen_loses_hardly_an_event_that_the_encoder_finds(
    shipped_classifier: EventClassifier, records: list[dict[str, Any]]
) -> None:
    """On the whole test split, which the line was not drawn on."""
    release = shipped_classifier.release
    told = [record["text"] for record in records if record["labels"]]
    encodings = load_tokenizer(release).encode_batch_fast(told)
    settled = release.require_screen().settles([encoding.ids for encoding in encodings])
    lost = [text for text, gone, read in zip(told, settled, encodings, strict=True) if gone and not read.overflowing]
    found = [text for text, answer in zip(lost, shipped_classifier.classify_batch(lost), strict=True) if answer.events]
    assert len(found) <= EVENTS_LOST * len(told), found
