"""What belongs together, and which split it goes to: nearly the same texts are never on both sides of a test."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin_training.corpus import SPLITS
from tocsin_training.duplicates import NEAR_DUPLICATE, Integers, runs_alike, similarity

_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))


class Groups:
    """Disjoint sets of positions from 0 (union-find with path halving)."""

    def __init__(self, size: int) -> None:
        # Not a list, which would hold an object of its own for each of millions of texts.
        self._parent = array("q", range(size))

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


def join_near_duplicates(
    groups: Groups, texts: Iterable[str], text_at: Callable[[int], str], scratch: Path | None = None
) -> int:
    """Put texts that are nearly the same into one group.

    A text is measured against its neighbours in each run only, so that the work grows with the texts and not with their
    pairs. Of many that all look alike a few pairs may be missed, but chains of pairs join nearly all of them.

    :param texts: all of them, in the order of their positions.
    :param text_at: gives one of them again.
    :param scratch: folder for what they are found by, which would else be in memory.
    :return: how many texts are nearly the same as one before.
    """
    joined = 0
    for run in runs_alike(texts, len(groups), scratch):
        for one, other in pairwise(run.tolist()):
            if groups.find(one) != groups.find(other) and similarity(text_at(one), text_at(other)) >= NEAR_DUPLICATE:
                groups.join(one, other)
                joined += 1
    return joined


def splits_by_hash(
    leaders: Integers, strata: Integers, days: Integers, keys: NDArray[np.uint64], held_out: float
) -> NDArray[np.int8]:
    """Whole groups to splits, each by a hash of its own: a text keeps its split as data grow.

    Otherwise a release would be tested on text that the one before was trained on. A group goes by its oldest text, so
    that a newer one that is nearly the same goes where that is. Shares are about those of ``held_out``, by
    chance. Where it leaves a stratum of three groups or more out of a split, the one nearest to that split goes there.

    :param strata: a number for each text, such as its rarest label.
    :param days: ordinal of each text's day; 0 where it is not known.
    :param keys: hash of each text.
    :return: each text's position in SPLITS.
    """
    firsts, group_of = np.unique(leaders, return_inverse=True)
    # Of a day's texts, the lowest at the other end of the hash: the lowest hash of many would nearly always be tested.
    order = np.lexsort((keys.byteswap(), days, group_of))
    oldest = order[np.searchsorted(group_of[order], np.arange(len(firsts)))]
    place = keys[oldest] / 2.0**64
    split = np.where(place < held_out / 2, _TEST, np.where(place < held_out, _VALIDATION, _TRAIN)).astype(np.int8)
    stratum = np.full(len(firsts), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(stratum, group_of, strata)
    for members in _members(stratum):
        if len(members) >= len(SPLITS):
            split[members] = _in_every_split(place[members], split[members])
    return split[group_of]


def _members(stratum: Integers) -> Iterator[Integers]:
    order = np.argsort(stratum, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(stratum[order])) + 1)


def _in_every_split(place: NDArray[np.float64], split: NDArray[np.int8]) -> NDArray[np.int8]:
    """The splits of a stratum's groups, the outermost by their place moved to a split that has none.

    They stay the outermost of those there are: added data bring no text that was trained on into the test, but where
    all that there was of a stratum was held out by its hash and one had to be learned from.
    """
    first, second, *_, last = np.argsort(place)
    split = split.copy()
    for group, wanted in ((last, _TRAIN), (first, _TEST), (second, _VALIDATION)):
        if not np.any(split == wanted):
            split[group] = wanted
    return split


def splits_by_share(leaders: Integers, strata: Integers, keys: NDArray[np.uint64], held_out: float) -> NDArray[np.int8]:
    """Whole groups to splits so that each has its share, as few and big groups need it.

    Groups are sorted by stratum and then hash and dealt out in that order, so that a label is in each split about as
    often as its share. The same data split alike in whatever order they lie; added data split otherwise.

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
    split[order] = np.where(share <= held_out / 2, _TEST, np.where(share <= held_out, _VALIDATION, _TRAIN))
    # A day is in one split as a whole: what was reported together is judged together.
    for bound in (_TEST, _VALIDATION):
        if np.any(split == bound):
            split[(oldest == oldest[split == bound].min()) & (split < bound)] = bound
    return split[group_of]
