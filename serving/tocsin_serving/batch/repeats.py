"""Texts that come again: wire copy fills archives with the same words, days and files apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from tocsin import EventClassifier
from tocsin.classifier import Readings

REMEMBERED = 16_384
"""Texts whose reading a worker keeps: some 7 MB with 26 labels, whatever the texts' length."""

_Reading = tuple[NDArray[np.float32], int, str]
"""A text's logits, windows and language."""


class Memory:
    """Reads texts and remembers what it read off the latest, so that one that comes again costs its hash.

    Kept is what the encoder gave and not the answer: calibration goes over all texts of a chunk at once as it would
    without a memory. So the bytes of an output do not tell which worker knew which text. A release whose last bits
    depend on a text's neighbours is read anew each time.
    """

    def __init__(self, classifier: EventClassifier, limit: int = REMEMBERED) -> None:
        """:param limit: most texts remembered; those that were met longest ago are forgotten. 0: none."""
        self._classifier = classifier
        self._limit = limit if classifier.reads_alone else 0
        self._known: OrderedDict[bytes, _Reading] = OrderedDict()

    def read(self, texts: Sequence[str]) -> Readings:
        """As `EventClassifier.read`, of texts that differ from each other."""
        if not self._limit:
            return self._classifier.read(texts)
        # Half a character, which JSON can hold, is no UTF-8.
        keys = [sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        readings = [self._known.pop(key, None) for key in keys]
        for place, reading in zip(new, _rows(self._classifier.read([texts[place] for place in new])), strict=True):
            readings[place] = reading
        found = [reading for reading in readings if reading is not None]
        self._known.update(zip(keys, found, strict=True))
        while len(self._known) > self._limit:
            self._known.popitem(last=False)
        return _joined(found, len(self._classifier.taxonomy.labels))


def _rows(readings: Readings) -> list[_Reading]:
    # Copies: a row that is a view would keep the whole chunk's array.
    logits = (row.copy() for row in readings.logits)
    return list(zip(logits, readings.windows.tolist(), readings.languages, strict=True))


def _joined(rows: Sequence[_Reading], labels: int) -> Readings:
    logits = np.array([row for row, _, _ in rows], dtype=np.float32).reshape(len(rows), labels)
    windows = np.array([windows for _, windows, _ in rows], dtype=np.intp)
    return Readings(logits, windows, [language for _, _, language in rows])
