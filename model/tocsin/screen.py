"""A first look that settles plain no-events, so that the encoder need not read them; optional, and off by default.

Most real news reports no conflict event, and much of it says so in its plain words. A logistic regression on hashed
token n-grams sees that in some microseconds a text. It never gives a label: it either settles that there is no event
or leaves the text to the encoder. ``tocsin_training.screen`` fits it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import ReleaseError

# Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): the high bits of a product with 2^64 / phi.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_ARRAYS = {"weights", "bias", "threshold", "rates"}


@dataclass(frozen=True)
class NGrams:
    """Hashed one- and two-token sequences of some texts, text after text."""

    buckets: NDArray[np.int64]
    starts: NDArray[np.intp]
    """Where each text begins in ``buckets``, shape (texts,)."""
    counts: NDArray[np.intp]
    """How many there are of each text, shape (texts,)."""


def ngrams(texts: Sequence[Sequence[int]], buckets: int) -> NGrams:
    """The n-grams of texts given as token ids, none of them empty.

    :param buckets: a power of two.
    """
    lengths = np.array([len(ids) for ids in texts], dtype=np.intp)
    tokens = np.concatenate([np.asarray(ids, dtype=np.uint64) for ids in texts])
    begins = np.cumsum(lengths) - lengths
    # The token before each one; before the first of a text stands a number that no vocabulary reaches.
    before = np.roll(tokens, 1)
    before[begins] = 2**32 - 1
    shift = np.uint64(64 - (buckets.bit_length() - 1))
    single = (tokens + np.uint64(1)) * _MULTIPLIER >> shift
    double = ((before + np.uint64(1) << np.uint64(32)) + tokens) * _MULTIPLIER >> shift
    both = np.stack([single, double], axis=1).astype(np.int64).ravel()
    return NGrams(both, 2 * begins, 2 * lengths)


@dataclass(frozen=True)
class Screen:
    """The fitted first look of a release."""

    weights: NDArray[np.float32]
    """One per bucket."""
    bias: float
    threshold: float
    """Texts whose margin lies below it are settled."""
    rates: NDArray[np.float32]
    """Shape (labels,): how often each label held among the texts it settled on validation. This is the answer to a
    settled text: what is known about it and no more."""

    def margins(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """How much speaks for an event, shape (texts,), from token ids; a text's margin depends on no other text."""
        found = ngrams(texts, len(self.weights))
        sums = np.add.reduceat(self.weights[found.buckets].astype(np.float64), found.starts)
        margins: NDArray[np.float64] = sums / np.sqrt(found.counts) + self.bias
        return margins

    def settles(self, texts: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
        """Which texts plainly report no event, shape (texts,), from token ids."""
        if not texts:
            return np.zeros(0, dtype=np.bool_)
        return self.margins(texts) < self.threshold

    def save(self, path: Path) -> None:
        """Write it as NumPy arrays, weights in half precision."""
        with path.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                weights=self.weights.astype(np.float16),
                bias=np.float64(self.bias),
                threshold=np.float64(self.threshold),
                rates=self.rates,
            )

    @classmethod
    def load(cls, path: Path, *, labels: int) -> Screen:
        """Read what ``save`` wrote.

        :raises ReleaseError: it is no such file, or does not fit the taxonomy.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                parts = {name: arrays[name] for name in _ARRAYS}
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ReleaseError(f"{path}: not a screen: {error}. Copy the release folder again.") from error
        size = parts["weights"].size
        if parts["weights"].ndim != 1 or size < 2 or size & (size - 1):
            raise ReleaseError(f"{path}: its weights are not a power of two in number; train the release anew")
        if parts["rates"].shape != (labels,):
            raise ReleaseError(
                f"{path}: is for {parts['rates'].size} labels, the taxonomy has {labels}. "
                "The parts come from different releases."
            )
        return cls(
            weights=parts["weights"].astype(np.float32),
            bias=float(parts["bias"]),
            threshold=float(parts["threshold"]),
            rates=parts["rates"].astype(np.float32),
        )
