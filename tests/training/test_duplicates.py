from __future__ import annotations

from pathlib import Path

from tocsin_training.corpus import Line, Record
from tocsin_training.duplicates import count_alike, find_alike, jaccard, shingles

TEXT = "Nine members of the council met at the old bridge on Monday to talk about {} and the price of bread."


def line(number: int, split: str, text: str, **more: str) -> Line:
    fields = {"id": f"b-{number}", "text": text, "labels": [], "register": "wire", "batch": "b", "reason": "sport"}
    record = Record.model_validate(fields | {"annotations": {"writer": []}} | more)
    return Line(record, split, Path(split) / "b.jsonl", number)


def test_similarity_is_the_shared_share_of_word_trigrams() -> None:
    assert jaccard(shingles("a b c d"), shingles("A, b - c e")) == 1 / 3
    assert jaccard(shingles("short"), shingles("Short!")) == 1.0


def test_pairs_are_counted_where_they_lie_and_by_whether_they_were_meant() -> None:
    lines = [
        line(1, "train", TEXT.format("water"), pair="p"),
        line(2, "train", TEXT.format("wood"), pair="p"),
        line(3, "train", "A text that is quite unlike all of the others in this small corpus."),
        line(4, "test", TEXT.format("wool")),
    ]
    across, train, validation, test = count_alike(lines, list(find_alike(lines)))
    assert (across.pairs, across.intended, across.touched) == (2, 0, 3)
    assert (train.pairs, train.intended, train.touched, train.records) == (1, 1, 0, 3)
    assert (validation.pairs, validation.records) == (0, 0)
    assert (test.pairs, test.records) == (0, 1)


def test_equal_texts_are_alike_too() -> None:
    lines = [line(1, "train", TEXT.format("water")), line(2, "train", TEXT.format("WATER"))]
    assert [pair.similarity for pair in find_alike(lines)] == [1.0]
