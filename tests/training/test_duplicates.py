from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

from tocsin_training.corpus import Line, Record
from tocsin_training.duplicates import count_alike, find_alike, jaccard, shingles, similarity
from tocsin_training.importing.groups import Groups, join_near_duplicates

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
    across, train, validation, test = count_alike(lines, find_alike(lines))
    assert (across.pairs, across.intended, across.touched) == (2, 0, 3)
    assert (train.pairs, train.intended, train.touched, train.records) == (1, 1, 0, 3)
    assert (validation.pairs, validation.records) == (0, 0)
    assert (test.pairs, test.records) == (0, 1)


def test_equal_texts_are_alike_too() -> None:
    lines = [line(1, "train", TEXT.format("water")), line(2, "train", TEXT.format("WATER"))]
    assert [pair.similarity for pair in find_alike(lines)] == [1.0]


def test_of_many_alike_every_pair_is_told_once_in_the_order_of_the_lines() -> None:
    lines = [line(number, "train", TEXT.format(f"thing{number}")) for number in range(8)]
    pairs = [(pair.first.number, pair.second.number) for pair in find_alike(lines)]
    assert pairs == [(first, second) for second in range(8) for first in range(second)]


def test_what_is_found_alike_is_kept_in_one_group_and_nothing_else() -> None:
    """The corpus's check and the import of people's own files mean the same by alike."""
    words = ["old", "bridge", "council", "market", "price", "bread", "river", "lorry", "winter", "school", "evening"]
    rng = random.Random(3)
    stories = [" ".join(rng.choices(words, k=30)) for _ in range(40)]
    texts = [f"{story} {end}" for story in stories for end in rng.choices(words, k=rng.choice((1, 3)))]
    found = find_alike([line(number, "train", text) for number, text in enumerate(texts)])
    groups = Groups(len(texts))
    join_near_duplicates(groups, texts, texts.__getitem__)
    together = {
        (one, other) for one, other in combinations(range(len(texts)), 2) if groups.find(one) == groups.find(other)
    }
    assert together == {(pair.first.number, pair.second.number) for pair in found}
    assert all(pair.similarity == similarity(pair.first.record.text, pair.second.record.text) for pair in found)
