from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tocsin_training.cli import corpus_tics
from tocsin_training.corpus import SPLITS, Record
from tocsin_training.tics import MIN_RECORDS, find_tics, log_odds_z

Edit = Callable[..., None]
_fresh = count()


def written(batch: str, number: int, phrase: str = "", *, last: str = "") -> list[Record]:
    """So many records of words that stand nowhere else, but for a phrase within or at the end."""
    return [_record(batch, f"{_new_words()} {phrase} {_new_words()} {last}") for _ in range(number)]


def _record(batch: str, text: str) -> Record:
    fields = {"id": "b-1", "text": text, "labels": [], "register": "wire", "batch": batch}
    return Record.model_validate(fields | {"annotations": {"writer": []}, "reason": "sport"})


def _new_words() -> str:
    return " ".join(f"word{next(_fresh)}" for _ in range(6))


def test_the_score_is_that_of_monroe_colaresi_and_quinn() -> None:
    # A prior of 1 for the phrase and 100 in all: (ln 11/189 - ln 1/999) / sqrt(1/11 + 1/1).
    assert log_odds_z(10, 100, 10, 1000) == pytest.approx(3.8899, abs=1e-4)


def test_a_phrase_as_usual_here_as_elsewhere_scores_nothing() -> None:
    assert log_odds_z(10, 100, 100, 1000) == pytest.approx(0.0, abs=1e-12)
    assert log_odds_z(5, 100, 100, 1000) < 0 < log_odds_z(20, 100, 100, 1000)


def test_a_phrase_that_is_all_there_is_scores_nothing() -> None:
    assert log_odds_z(10, 10, 50, 50) == 0.0


def test_of_two_equal_ratios_the_better_attested_scores_higher() -> None:
    assert log_odds_z(40, 1000, 80, 10_000) > log_odds_z(10, 1000, 20, 10_000) > 0


def test_a_habit_is_named_once_with_where_it_stands() -> None:
    quiet = written("quiet", 40)
    found = find_tics([*quiet, *written("loud", 10, last="as the dust settled again"), *written("loud", 10)])
    assert list(found) == ["loud"]
    # Not "the dust settled" and the other runs within these two, which say no more.
    assert {(tic.phrase, tic.kind, tic.here, tic.elsewhere) for tic in found["loud"]} == {
        ("the dust settled again", "closing", 10, 0),
        ("as the dust settled", "4 words", 10, 0),
    }


def test_a_part_that_is_more_frequent_than_the_whole_is_a_habit_too() -> None:
    records = [*written("quiet", 60), *written("loud", 6, "fire and fury now"), *written("loud", 6, "fire and fury")]
    found = find_tics(records)["loud"]
    assert [(tic.phrase, tic.here) for tic in found] == [("fire and fury", 12), ("fire and fury now", 6)]


def test_case_and_punctuation_hide_no_habit() -> None:
    loud = [*written("loud", 3, "Fire, and fury"), *written("loud", 3, "fire and FURY!")]
    assert [tic.here for tic in find_tics([*written("quiet", 60), *loud])["loud"]] == [6]


def test_what_few_records_share_is_an_accident() -> None:
    quiet = written("quiet", 60)
    assert find_tics([*quiet, *written("loud", MIN_RECORDS - 1, "fire and fury")]) == {}
    assert list(find_tics([*quiet, *written("loud", MIN_RECORDS, "fire and fury")])) == ["loud"]


def test_a_refrain_within_one_text_is_no_habit() -> None:
    refrain = " ".join("fire and fury" for _ in range(20))
    assert find_tics([*written("quiet", 60), *written("loud", 1, refrain)]) == {}


def test_what_all_batches_say_is_nobodys_habit() -> None:
    records = [record for batch in ("one", "two", "three") for record in written(batch, 20, "fire and fury")]
    assert find_tics(records) == {}
    assert find_tics(written("alone", 20, "fire and fury")) == {}


def test_the_worst_batch_and_the_worst_phrase_come_first() -> None:
    records = [
        *written("quiet", 100),
        *written("mild", 6, "milk and honey"),
        *written("loud", 8, "bread and butter"),
        *written("loud", 20, "fire and fury"),
    ]
    found = find_tics(records)
    assert [(batch, [tic.phrase for tic in tics]) for batch, tics in found.items()] == [
        ("loud", ["fire and fury", "bread and butter"]),
        ("mild", ["milk and honey"]),
    ]
    assert [tic.phrase for tic in find_tics(records, most=1)["loud"]] == ["fire and fury"]


def test_batches_are_ranked_by_phrases_that_are_told() -> None:
    records = [
        *written("quiet", 60),
        # "as the dust" scores higher than the whole of which it is a part, and is not told.
        *written("four words", 10, "as the dust settled"),
        *written("three words", 10, "fire and fury"),
        *written("three words", 1),
    ]
    found = find_tics(records)
    assert [(batch, tics[0].phrase) for batch, tics in found.items()] == [
        ("three words", "fire and fury"),
        ("four words", "as the dust settled"),
    ]


def test_the_command_reports_and_does_not_fail(
    corpus: Path, edit_line: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 21):
        edit_line(corpus / "test" / "four.jsonl", number, text=f"{_new_words()} as the dust settled again.")
    corpus_tics(corpus, as_json=True)
    figures = json.loads(capsys.readouterr().out)
    (worst, *_), *_ = figures["phrases"].values()
    assert {cue["where"] for cue in figures["closing_forms"]} == {"all", *SPLITS, "one", "two", "three", "four"}
    assert (worst["kind"], worst["here"], worst["elsewhere"]) == ("closing", 20, 0)
    corpus_tics(corpus)
    printed = capsys.readouterr().out
    assert printed.startswith("closing forms")
    assert "\nfour\n" in printed
    assert "the dust settled again" in printed
