"""What belongs together, and which split it goes to: texts that are nearly the same are never on both sides of a test.

Near-duplicates are found as ``duplicates`` finds them, by MinHash (Broder 1997) in bands and then the exact Jaccard
similarity of word trigrams, but with the bands in arrays of 8 bytes a text and band: 600,000 texts need 100 MB, where
an index of Python objects needs gigabytes. A text is measured against its neighbours in each band only, so of many
texts that all look alike a few pairs may be missed, but chains of pairs join nearly all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tocsin_training.duplicates import NEAR_DUPLICATE, jaccard, shingles

Integers = NDArray[np.int64]

_BANDS, _ROWS = 21, 3
"""A pair that is half alike shares a band with a probability of 94 %, one that is a fifth alike with 16 %."""
_BATCH = 2000


class Groups:
    """Disjoint sets of positions from 0 (union-find with path halving)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def __len__(self) -> int:
        return len(self._parent)

    def find(self, item: int) -> int:
        """The first member of an item's group."""
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, left: int, right: int) -> None:
        """Make one group of two."""
        left, right = self.find(left), self.find(right)
        # The earlier one leads, so that the result does not depend on the order of joining.
        self._parent[max(left, right)] = min(left, right)

    def leaders(self) -> Integers:
        """Each item's group."""
        return np.array([self.find(item) for item in range(len(self._parent))], dtype=np.int64)


def join_near_duplicates(groups: Groups, texts: Iterable[str], text_at: Callable[[int], str]) -> int:
    """Put texts that are nearly the same into one group.

    :param texts: all of them, in the order of their positions.
    :param text_at: gives one of them again.
    :return: how many texts are nearly the same as one before.
    """
    bands = _bands(texts, len(groups))
    joined = 0
    for column in bands.T:
        order = np.argsort(column, kind="stable")
        for right in np.flatnonzero(column[order][1:] == column[order][:-1]) + 1:
            one, other = int(order[right - 1]), int(order[right])
            if groups.find(one) != groups.find(other) and _alike(text_at(one), text_at(other)):
                groups.join(one, other)
                joined += 1
    return joined


def _alike(left: str, right: str) -> bool:
    return jaccard(shingles(left), shingles(right)) >= NEAR_DUPLICATE


def _bands(texts: Iterable[str], size: int) -> NDArray[np.uint64]:
    """A hash for each text and band, shape (texts, bands); texts that are alike share some."""
    from datasketch import MinHash  # type: ignore[import-untyped]

    mixer = np.random.default_rng(1).integers(1, 2**63, size=_ROWS, dtype=np.uint64) | np.uint64(1)
    bands, done = np.empty((size, _BANDS), dtype=np.uint64), 0
    for batch in _batches(texts):
        encoded = [[" ".join(gram).encode() for gram in shingles(text)] for text in batch]
        sketches = np.stack([sketch.hashvalues for sketch in MinHash.bulk(encoded, num_perm=_BANDS * _ROWS, seed=1)])
        mixed = sketches.reshape(len(batch), _BANDS, _ROWS) * mixer
        bands[done : done + len(batch)] = mixed.sum(axis=-1, dtype=np.uint64)
        done += len(batch)
    return bands


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def random_splits(leaders: Integers, strata: Integers, keys: NDArray[np.uint64], held_out: float) -> NDArray[np.int8]:
    """Whole groups to splits by their texts' hashes: the same data splits alike wherever and in whatever order it lies.

    Groups are sorted by stratum and then hash and dealt out in that order, so that a label is in each split about as
    often as its share.

    :param strata: a number for each text, such as its rarest label.
    :param keys: hash of each text.
    :return: each text's position in SPLITS.
    """
    firsts, group_of, sizes = np.unique(leaders, return_inverse=True, return_counts=True)
    key = np.full(len(firsts), np.iinfo(np.uint64).max, dtype=np.uint64)
    stratum = np.full(len(firsts), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(key, group_of, keys)
    np.minimum.at(stratum, group_of, strata)
    order = np.lexsort((key, stratum))
    split = np.zeros(len(firsts), dtype=np.int8)
    split[order] = _by_deficit(sizes[order].tolist(), (1 - held_out, held_out / 2, held_out / 2))
    return split[group_of]


def _by_deficit(sizes: Sequence[int], shares: tuple[float, ...]) -> list[int]:
    """Each group to the split that lacks most of its share of the rows so far."""
    given, total, chosen = [0.0] * len(shares), 0, []
    for size in sizes:
        total += size
        lacking = [share * total - rows for share, rows in zip(shares, given, strict=True)]
        choice = lacking.index(max(lacking))
        given[choice] += size
        chosen.append(choice)
    return chosen


def splits_by_date(leaders: Integers, days: Integers, held_out: float) -> NDArray[np.int8]:
    """The newest groups are the test, those before them the validation; a group is as old as its oldest text.

    :param days: ordinal of each text's day; 0 where it is not known, which is trained on.
    """
    firsts, group_of, sizes = np.unique(leaders, return_inverse=True, return_counts=True)
    oldest = np.full(len(firsts), np.iinfo(np.int64).max)
    np.minimum.at(oldest, group_of, days)
    order = np.argsort(oldest, kind="stable")[::-1]
    newer = np.cumsum(sizes[order])
    share = newer / len(leaders)
    split = np.zeros(len(firsts), dtype=np.int8)
    split[order] = np.where(share <= held_out / 2, 2, np.where(share <= held_out, 1, 0))
    # A day is in one split as a whole: what was reported together is judged together.
    for bound in (2, 1):
        if np.any(split == bound):
            split[(oldest == oldest[split == bound].min()) & (split < bound)] = bound
    return split[group_of]
