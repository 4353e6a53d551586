"""Texts that are nearly the same: found by MinHash (Broder 1997) with locality-sensitive hashing, measured exactly.

So a report is never a hash's guess. The halves of a contrast pair are alike on purpose; across splits nothing may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tocsin_training.corpus import SPLITS, Line
from tocsin_training.report import Grid

SHINGLE_WORDS = 3
NEAR_DUPLICATE = 0.5
"""Jaccard similarity of word trigrams from which two texts count as one."""

_PERMUTATIONS = 64

Grams = set[tuple[str, ...]]


@dataclass(frozen=True)
class Alike:
    """Two records whose texts are nearly the same, the earlier one first."""

    first: Line
    second: Line
    similarity: float

    @property
    def crosses_splits(self) -> bool:
        """Whether one was learned from and the other judges, or the like."""
        return self.first.split != self.second.split

    @property
    def intended(self) -> bool:
        """Whether they were written as a contrast pair or as parts of one article."""
        one, other = self.first.record, self.second.record
        return (one.pair is not None and one.pair == other.pair) or (
            one.article is not None and one.article == other.article
        )


@dataclass(frozen=True)
class Row:
    """How much is alike in one place."""

    where: str
    records: int
    pairs: int
    intended: int
    """Pairs that are halves of a contrast pair, or parts of one article."""
    touched: int
    """Records in a pair that was not intended."""


def find_alike(lines: Sequence[Line]) -> Iterator[Alike]:
    """Every two records of a similarity of NEAR_DUPLICATE or more, equal texts among them."""
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

    texts = [shingles(line.record.text) for line in lines]
    encoded = [[" ".join(gram).encode() for gram in grams] for grams in texts]
    # The index is asked for a little less than the limit: the exact measure below has the last word.
    index = MinHashLSH(threshold=NEAR_DUPLICATE - 0.1, num_perm=_PERMUTATIONS)
    for number, sketch in enumerate(MinHash.bulk(encoded, num_perm=_PERMUTATIONS, seed=1)):
        for other in sorted(index.query(sketch)):
            similarity = jaccard(texts[number], texts[other])
            if similarity >= NEAR_DUPLICATE:
                yield Alike(lines[other], lines[number], similarity)
        index.insert(number, sketch)


def count_alike(lines: Sequence[Line], found: Sequence[Alike]) -> list[Row]:
    """Figures across splits and within each.

    :param found: what ``find_alike`` found among the lines.
    """
    return [
        _row("across splits", lines, [pair for pair in found if pair.crosses_splits]),
        *(
            _row(f"within {split}", [line for line in lines if line.split == split], _within(found, split))
            for split in SPLITS
        ),
    ]


def _within(found: Sequence[Alike], split: str) -> list[Alike]:
    return [pair for pair in found if pair.first.split == pair.second.split == split]


def _row(where: str, lines: Sequence[Line], found: Sequence[Alike]) -> Row:
    accidents = [pair for pair in found if not pair.intended]
    touched = {line.record.id for pair in accidents for line in (pair.first, pair.second)}
    return Row(where, len(lines), len(found), len(found) - len(accidents), len(touched))


def grid(rows: Sequence[Row]) -> Grid:
    """The figures as a table."""
    return Grid(
        f"near-duplicates: word trigrams alike by {NEAR_DUPLICATE:.0%} or more",
        ("", "records", "pairs", "of them meant so", "records in the others", "share"),
        [
            (row.where, *map(str, (row.records, row.pairs, row.intended, row.touched)), f"{_share(row):.2%}")
            for row in rows
        ],
    )


def _share(row: Row) -> float:
    return row.touched / row.records if row.records else 0.0


def normalize(text: str) -> str:
    """Lower-case words and digits, one space between them."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def grams(text: str, size: int) -> Grams:
    """Runs of so many words."""
    words = normalize(text).split()
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def shingles(text: str) -> Grams:
    """Word trigrams; a text shorter than that is one gram as a whole."""
    return grams(text, SHINGLE_WORDS) or {tuple(normalize(text).split())}


def jaccard(left: Grams, right: Grams) -> float:
    """Size of the intersection as a share of the union; neither may be empty."""
    return len(left & right) / len(left | right)
