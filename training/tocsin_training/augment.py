"""More training texts made of those there are: two in one, and with the slips that real copy has.

Snippets of real articles carry background and second events that one-event records lack: two records joined make such a
text, with the labels of both. Typing errors and lost punctuation leave the labels as they are. Casing needs nothing
here: the tokenizers of the bases used read lower case only.
"""

from __future__ import annotations

import logging
import random
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from tocsin_training.config import AugmentSettings

_log = logging.getLogger(__name__)

# Words of a joined text at most: more would not fit the window.
_MOST_WORDS = 85
# Of the second half of a joined text: as in the news, most of what stands around an event is no event.
_NONE_SHARE = 0.6
_TYPO_SHARE = 0.06
_MOST_LABELS = 3
# Of two records for one joined text. Where so many give none, hardly any two of them fit together.
_DRAWS = 500


@dataclass(frozen=True)
class Example:
    """A training text."""

    id: str
    text: str
    labels: tuple[str, ...]


class Chosen(Sequence[Example]):
    """Some of the records, by where they stand: however many, none is copied."""

    def __init__(self, records: Sequence[Example], positions: Sequence[int]) -> None:
        self._records, self._positions = records, positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Chosen: ...
    def __getitem__(self, index: int | slice) -> Example | Chosen:
        if isinstance(index, slice):
            return Chosen(self._records, self._positions[index])
        return self._records[self._positions[index]]


def augment(records: Sequence[Example], settings: AugmentSettings) -> Iterator[Example]:
    """New examples, one after the other; the same records and settings give the same ones, under the same ids.

    Fewer are joined, with a warning, where records are so long or have so many labels that hardly two fit together.

    :param records: in a language that words and punctuation can be taken apart in; read by position, again and again.
    """
    rng = random.Random(settings.seed)
    if settings.joined_share:
        without = array("q", (position for position, record in enumerate(records) if not record.labels))
        joined = round(settings.joined_share * len(records)) if without else 0
        yield from _joined(joined, rng, records, Chosen(records, without))
    for number in range(round(settings.slips_share * len(records))):
        yield _with_slips(f"slips-{number:06}", rng, records)


def _joined(
    wanted: int, rng: random.Random, records: Sequence[Example], nothing: Sequence[Example]
) -> Iterator[Example]:
    for number in range(wanted):
        example = _join(f"joined-{number:06}", rng, records, nothing)
        if example is None:
            _log.warning(
                "%d of the %d joined texts that augment.joined_share asks for are not made: next to no two records "
                "have at most %d words and %d labels together",
                *(wanted - number, wanted, _MOST_WORDS, _MOST_LABELS),
            )
            return
        yield example


def _join(new_id: str, rng: random.Random, records: Sequence[Example], nothing: Sequence[Example]) -> Example | None:
    for _ in range(_DRAWS):
        pair = [rng.choice(records), rng.choice(nothing if rng.random() < _NONE_SHARE else records)]
        rng.shuffle(pair)
        labels = dict.fromkeys(label for record in pair for label in record.labels)
        text = " ".join(record.text.strip() for record in pair)
        if len(text.split()) <= _MOST_WORDS and len(labels) <= _MOST_LABELS:
            return Example(new_id, text, tuple(labels))
    return None


def _with_slips(new_id: str, rng: random.Random, records: Sequence[Example]) -> Example:
    record = rng.choice(records)
    text = misspell(record.text, rng)
    if rng.random() < 0.5:
        text = drop_punctuation(text)
    return Example(new_id, text, record.labels)


def misspell(text: str, rng: random.Random) -> str:
    """The text with a typing error in one word out of sixteen or so."""
    return " ".join(_misspelled(word, rng) if rng.random() < _TYPO_SHARE else word for word in text.split())


def drop_punctuation(text: str) -> str:
    """The text without the punctuation at the ends of its words."""
    return re.sub(r"[,.;:'\"-]+(?=\s|$)", "", text)


def _misspelled(word: str, rng: random.Random) -> str:
    """The word with two letters swapped, or one dropped or doubled, past its first."""
    if len(word) < 4 or not word.isalpha():
        return word
    place = rng.randrange(1, len(word) - 1)
    match rng.randrange(3):
        case 0:
            return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        case 1:
            return word[:place] + word[place + 1 :]
    return word[:place] + word[place] + word[place:]
