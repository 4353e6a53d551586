"""More training texts made of those there are: two in one, with slips, clipped, cut off, or of another place.

Snippets of real articles carry background and second events that one-event records lack: two records joined make such a
text, with the labels of both. Everything else leaves the labels as they are, by a rule each:

- *Slips*: typing errors and lost punctuation.
- *Headlines*: one sentence loses its articles, and "was", "were" and their like before a participle without an object,
  where no reader of headlines takes the one who suffers for the one who acts. Half of them are in title case, which is
  for bases that read capitals; the tokenizers of MiniLM and MPNet read lower case only.
- *Cut off*: of a text with an event, inside a last clause that only says who says so (", a security source said"). No
  other place is safe: what is cut off anywhere else may be the event, and without event it may be the reason why there
  is none ("... in 1998", "..., the group claimed").
- *Cities*: for every city that a text names, another one of the same country. Countries are not changed for others:
  whose soil it is and who is a foreigner on it decides who regains a place and who overtakes it. Capitals stay, for
  they also speak and decide.
"""

from __future__ import annotations

import logging
import random
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
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
# Of a headline at most.
_HEADLINE_WORDS = 18
_ARTICLE = re.compile(r"(?:^(?:The|An|A)|\b(?:the|an|a))\s+(?=\w)")
_ENDED = (
    r"(?:\w+ed|beaten|blown|broken|caught|driven|found|held|hit|hurt|overrun|sent|set|shot|stolen|struck|taken|thrown)"
)
_PASSIVE = re.compile(
    rf"(?<!\bwho)(?<!\bthat)(?<!\bwhich)(?<!\bthere)\s(?:is|are|was|were|has been|have been)(?=\s{_ENDED}"
    r"(?:\s(?:in|at|by|near|on|after|during|from|outside|inside|across|when|as|while)\b|[,.]|$))",
    re.I,
)
_DATELINE = re.compile(r"^[A-Z][\w ,.'’/-]{1,40}(?:\([\w ./]+\) ?)?\s[-–—]+\s")
_ANOTHER_SENTENCE = re.compile(r"[.!?…]['\"”’)]*\s")
# Who says so, in at most six words without a clause of their own, and when; to the end of the text.
_SPEAKER = r"(?:(?!(?:who|whom|whose|which|that|when|after|as|and|but|while|before)\b)[\w'’.-]+ )"
_WHO_SAYS_SO = re.compile(
    rf"(?<=\w),(?= (?:{_SPEAKER}{{1,6}}(?:said|says|reported|reports)(?: (?:on )?\w+day)?"
    rf"|according to {_SPEAKER}{{0,6}}[\w'’-]+)\.?$)"
)


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
    yield from _reworded("headlines", settings.headlines_share, records, as_headline, settings.seed)
    yield from _reworded("cut", settings.cut_share, records, cut_off, settings.seed)
    yield from _reworded("cities", settings.cities_share, records, in_other_cities, settings.seed)


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


def _reworded(
    kind: str,
    share: float,
    records: Sequence[Example],
    reword: Callable[[Example, random.Random], str | None],
    seed: int,
) -> Iterator[Example]:
    """Each of some records once, in other words; whatever the shares of other kinds, they are the same ones.

    Fewer, with a warning, where the rule of the kind suits too few.
    """
    if not (wanted := round(share * len(records))):
        return
    rng, made = random.Random(f"{kind} {seed}"), 0
    order = array("q", range(len(records)))
    rng.shuffle(order)
    for position in order:
        record = records[position]
        text = reword(record, rng)
        if text is not None:
            yield Example(f"{kind}-{made:06}", text, record.labels)
            made += 1
        if made == wanted:
            return
    _log.warning(
        "%d of the %d texts that augment.%s_share asks for are not made: no other record suits",
        *(wanted - made, wanted, kind),
    )


def as_headline(record: Example, rng: random.Random) -> str | None:
    """A text of one sentence in the form of a headline; none where it is longer, or clipped as it is."""
    text = record.text.strip()
    if _ANOTHER_SENTENCE.search(text) or _DATELINE.match(text):
        return None
    clipped = _PASSIVE.sub("", _ARTICLE.sub("", text))
    if clipped == text or len(clipped.split()) > _HEADLINE_WORDS:
        return None
    clipped = clipped[0].upper() + clipped[1:].removesuffix(".")
    # Not `title()`, which takes an apostrophe for the end of a word.
    return " ".join(word[0].upper() + word[1:] for word in clipped.split()) if rng.random() < 0.5 else clipped


def cut_off(record: Example, rng: random.Random) -> str | None:
    """A text with an event, cut off inside a last clause that only says who says so; none where there is none."""
    if not record.labels or (found := _WHO_SAYS_SO.search(text := record.text.strip())) is None:
        return None
    clause = text[found.end() :].split()
    kept = clause[: rng.randrange(len(clause))]
    return " ".join([f"{text[: found.start()]},", *kept, "..."]) if kept else f"{text[: found.start()]}."


def in_other_cities(record: Example, rng: random.Random) -> str | None:
    """A text of other cities of the same countries; none where it names no city that there is another for."""
    # Only here: it reads GeoNames' cities.
    from tocsin_training.gazetteer import other_cities

    return other_cities(record.text, rng)


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
