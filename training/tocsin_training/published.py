"""What a corpus that anyone may read keeps besides: its texts are decent, its labels are two readers' or a third's.

Own codings of real news, and what was imported from tables, keep none of this: they are learned from as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import Line
from tocsin_training.offensive import offensive_words
from tocsin_training.people import namings
from tocsin_training.regions import NOWHERE, country_codes

DECADES = tuple(f"{year}s" for year in range(1940, 2030, 10))
"""Since the wars that living people remember: what is older reads like no news that is scored today."""


def offensive(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    """Words that no text may hold."""
    for word in offensive_words(line.record.text):
        yield f"{word!r} is on the list of offensive words"


def real_person(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    """Known people, but for heads of state named in passing."""
    for naming in dict.fromkeys(namings(line.record.text)):
        if not naming.is_head:
            yield f"names {naming.name}; persons are invented, and only heads of state may be named in passing"
        elif not naming.in_passing:
            yield f"puts words or deeds on {naming.name}; a head of state may only be named in passing"


def second_reading(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    """Every record was labelled twice."""
    if line.record.annotations.second is None:
        yield "was read by its writer alone; annotations.second is missing"


def decision(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    """The labels are what the third look decided, and without one what both readers gave, in whatever order.

    A third look may also change what two agreed on, when a rule was sharpened afterwards.
    """
    record = line.record
    if record.annotations.second is None:
        return
    labels, writer, second = map(frozenset, (record.labels, record.annotations.writer, record.annotations.second))
    if record.annotations.third is not None:
        third = frozenset(record.annotations.third)
        if labels != third:
            yield f"the labels are {_told(labels)}, and the third look decided on {_told(third)}"
    elif writer != second:
        yield f"the writer gave {_told(writer)}, the second reader {_told(second)}, and no third look decided"
    elif labels != writer:
        yield f"the labels are {_told(labels)}, and both readers gave {_told(writer)}"


def ambiguous(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    """What careful readers disagree about is no measure of a model."""
    if line.record.ambiguous and line.split == "test":
        yield "is marked ambiguous; such records stay out of the test split"


def country(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    """Countries are codes that are in use."""
    code = line.record.country
    if code is not None and code != NOWHERE and code not in country_codes():
        yield f"{code!r} is no ISO 3166 alpha-3 code in use, nor XKX (Kosovo) nor {NOWHERE} (nowhere)"


def decade(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    """Decades are those that news is scored of."""
    if line.record.decade is not None and line.record.decade not in DECADES:
        yield f"{line.record.decade!r} is not one of: {', '.join(DECADES)}"


def _told(labels: frozenset[str]) -> str:
    return ", ".join(sorted(labels)) or "no event"
