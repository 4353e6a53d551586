"""Texts that are nearly the same: found by MinHash (Broder 1997) with locality-sensitive hashing, measured exactly.

So a report is never a hash's guess. The sketches are datasketch's; its index of Python objects would need gigabytes for
600,000 texts, so their bands are kept in arrays of 8 bytes a text and band, which need 100 MB. The halves of a contrast
pair are alike on purpose; across splits nothing may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.text import fold
from tocsin_training.corpus import SPLITS, Line
from tocsin_training.report import Grid

SHINGLE_WORDS = 3
NEAR_DUPLICATE = 0.5
"""Jaccard similarity of word trigrams from which two texts count as one."""

_BANDS, _ROWS = 21, 3
"""A pair that is half alike shares a band with a probability of 94 %, one that is a fifth alike with 16 %."""
SKETCH_BYTES = _BANDS * np.dtype(np.uint64).itemsize
"""On the disk, of each text."""
_BANDS_FILE = "bands.uint64"
_BATCH = 2000

Integers = NDArray[np.int64]
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


def find_alike(lines: Sequence[Line]) -> list[Alike]:
    """Every two records of a similarity of NEAR_DUPLICATE or more, equal texts among them, in the order of the lines.

    Pairs that are only just so alike are missed in 6 of 100 cases (``_BANDS``), others in fewer.
    """
    found: dict[tuple[int, int], float] = {}
    for run in runs_alike((line.record.text for line in lines), len(lines)):
        grams = [(number, shingles(lines[number].record.text)) for number in run.tolist()]
        for (first, one), (second, other) in combinations(grams, 2):
            if (second, first) not in found and (alike := jaccard(one, other)) >= NEAR_DUPLICATE:
                found[second, first] = alike
    return [Alike(lines[first], lines[second], alike) for (second, first), alike in sorted(found.items())]


def runs_alike(texts: Iterable[str], size: int, scratch: Path | None = None) -> Iterator[Integers]:
    """Positions of texts that may be nearly the same, since they share a band of hashes; ascending in each run.

    Two texts may share several bands, and then stand together in several runs. How alike they are, is to be measured.

    :param texts: read once, a batch at a time.
    :param size: how many there are.
    :param scratch: folder for their hashes, of which a band at a time is then in memory; none: all are.
    """
    try:
        for column in _bands(texts, size, scratch):
            order = np.argsort(column, kind="stable")
            same = np.flatnonzero(column[order][1:] == column[order][:-1])
            for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1):
                if len(run):
                    yield order[run[0] : run[-1] + 2]
    finally:
        if scratch is not None:
            (scratch / _BANDS_FILE).unlink(missing_ok=True)


def _bands(texts: Iterable[str], size: int, scratch: Path | None) -> NDArray[np.uint64]:
    """A hash for each band and text, shape (bands, texts); texts that are alike share some."""
    from datasketch import MinHash  # type: ignore[import-untyped]

    mixer = np.random.default_rng(1).integers(1, 2**63, size=_ROWS, dtype=np.uint64) | np.uint64(1)
    bands, done, rest = _room(scratch, (_BANDS, size)), 0, iter(texts)
    while batch := list(islice(rest, _BATCH)):
        encoded = [[" ".join(gram).encode() for gram in shingles(text)] for text in batch]
        sketches = np.stack([sketch.hashvalues for sketch in MinHash.bulk(encoded, num_perm=_BANDS * _ROWS, seed=1)])
        mixed = sketches.reshape(len(batch), _BANDS, _ROWS) * mixer
        bands[:, done : done + len(batch)] = mixed.sum(axis=-1, dtype=np.uint64).T
        done += len(batch)
    return bands


def _room(scratch: Path | None, shape: tuple[int, int]) -> NDArray[np.uint64]:
    if scratch is None or not shape[1]:
        return np.empty(shape, dtype=np.uint64)
    return np.memmap(scratch / _BANDS_FILE, dtype=np.uint64, mode="w+", shape=shape)


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


def grams(text: str, size: int) -> Grams:
    """Runs of so many words."""
    words = fold(text).split()
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def shingles(text: str) -> Grams:
    """Word trigrams; a text shorter than that is one gram as a whole."""
    return grams(text, SHINGLE_WORDS) or {tuple(fold(text).split())}


def jaccard(left: Grams, right: Grams) -> float:
    """Size of the intersection as a share of the union; neither may be empty."""
    return len(left & right) / len(left | right)


def similarity(left: str, right: str) -> float:
    """How alike two texts are: the Jaccard similarity of their word trigrams."""
    return jaccard(shingles(left), shingles(right))
