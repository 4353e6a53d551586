"""Closing forms that stand with a label more than without: "... on DAY, SOURCE said" whatever words fill it.

Runs of words (``tics``) do not see such a skeleton, for its words change from text to text; a model does. If records
with an event close so and those without do not, it learns the form in the event's place. So the share of each form
among records with an event is held against that among records without: over all, by split and by batch.

The forms are those of agency English. Which clause is a source is told by its verb ("police said", "an official told
the agency", "according to residents"), which stands after the sentence's last comma and near its end. "Said" in the
middle of a sentence, and a source in a clause with commas of its own, go unseen.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tocsin.sentences import split_sentences
from tocsin_training.corpus import SPLITS, Line
from tocsin_training.report import Grid, percent

DAY_BEFORE = "... on DAY, SOURCE said"
DAY_WITHIN = "... DAY ..., SOURCE said"
DAY_AFTER = "..., SOURCE said on DAY"
SOURCE_ALONE = "..., SOURCE said"
DAY_ALONE = "... on DAY"
FORMS = (DAY_BEFORE, DAY_WITHIN, DAY_AFTER, SOURCE_ALONE, DAY_ALONE)
DAY_AND_SOURCE = frozenset({DAY_BEFORE, DAY_WITHIN, DAY_AFTER})
BOTH = "DAY and SOURCE, any of these"
MIN_RECORDS = 20
"""With and without an event, from which a batch's shares are told."""

_DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_HAS_DAY = re.compile(rf"\b{_DAY}\b")
# "on Friday", "late on Friday", "on Friday night", "Friday morning".
_ENDS_ON_DAY = re.compile(rf"\b{_DAY}(?: (?:morning|afternoon|evening|night|\w+ly))?[\W_]*$")
_STOPS = ".!?\"'”’)]"
_VERB = r"(?:said|says|say|told|tells|reported|reports|report|announced|confirmed|added|wrote|stated)"
# After the verb, room for "on Tuesday", "in a statement", "the Anadolu news agency on Sunday".
_SOURCE = re.compile(
    rf"^ (?!(?:who|which|that|and|but|while|when|where|after|before)\b)"
    rf"(?:(?:[^,]* )?{_VERB}(?: [^ ]+){{0,6}}|(?:according to|citing|quoting) .*)$"
)


@dataclass(frozen=True)
class Cue:
    """How many records with an event, and without one, hold a sentence that closes in a form."""

    form: str
    where: str
    with_event: int
    events: int
    without_event: int
    eventless: int

    @property
    def event_share(self) -> float:
        """Of the records with an event."""
        return self.with_event / self.events if self.events else 0.0

    @property
    def eventless_share(self) -> float:
        """Of the records without one."""
        return self.without_event / self.eventless if self.eventless else 0.0

    @property
    def gap(self) -> float:
        """How much more records with an event close so: nought is no cue, and below it the form tells of none."""
        return self.event_share - self.eventless_share


@cache
def closing_forms(text: str) -> frozenset[str]:
    """The forms in which a text's sentences close; a sentence with neither a weekday nor a source has none."""
    return frozenset(form for sentence in split_sentences(text) if (form := _form(sentence.text)))


def _form(sentence: str) -> str | None:
    told, comma, clause = sentence.rpartition(",")
    if not comma or not _SOURCE.search(clause.rstrip(_STOPS)):
        return DAY_ALONE if _ENDS_ON_DAY.search(sentence) else None
    if _ENDS_ON_DAY.search(told):
        return DAY_BEFORE
    if _HAS_DAY.search(clause):
        return DAY_AFTER
    return DAY_WITHIN if _HAS_DAY.search(told) else SOURCE_ALONE


def cues_by_split(lines: Sequence[Line]) -> list[Cue]:
    """Each form over all and in each split, then the weekday with its source in whatever form."""
    places = {"all": lines} | {split: [line for line in lines if line.split == split] for split in SPLITS}
    wanted = {form: frozenset({form}) for form in FORMS} | {BOTH: DAY_AND_SOURCE}
    return [_cue(name, forms, where, own) for name, forms in wanted.items() for where, own in places.items()]


def cues_by_batch(lines: Sequence[Line], most: int | None = None) -> list[Cue]:
    """The weekday with its source, in whatever form, in each batch that has enough records of both kinds.

    :param most: so many at most, those with the widest gap; they come first.
    """
    batches: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        batches[line.record.batch].append(line)
    cues = [_cue(BOTH, DAY_AND_SOURCE, batch, own) for batch, own in batches.items()]
    told = [cue for cue in cues if min(cue.events, cue.eventless) >= MIN_RECORDS]
    return sorted(told, key=lambda cue: (-abs(cue.gap), cue.where))[:most]


def _cue(name: str, forms: frozenset[str], where: str, lines: Sequence[Line]) -> Cue:
    counts = Counter(
        (bool(line.record.labels), not forms.isdisjoint(closing_forms(line.record.text))) for line in lines
    )
    return Cue(
        form=name,
        where=where,
        with_event=counts[True, True],
        events=counts[True, True] + counts[True, False],
        without_event=counts[False, True],
        eventless=counts[False, True] + counts[False, False],
    )


def splits_grid(cues: Sequence[Cue]) -> Grid:
    """One row a form: its share of the records with an event and of those without, over all and by split."""
    places = list(dict.fromkeys(cue.where for cue in cues))
    shares = {(cue.form, cue.where): f"{percent(cue.event_share)} / {percent(cue.eventless_share)}" for cue in cues}
    rows = [(form, *(shares[form, where] for where in places)) for form in dict.fromkeys(cue.form for cue in cues)]
    return Grid("closing forms: records with an event / without", ("a sentence closes", *places), rows)


def batches_grid(cues: Sequence[Cue]) -> Grid:
    """One row a batch."""
    rows = [
        (cue.where, _told(cue.with_event, cue.events), _told(cue.without_event, cue.eventless), f"{100 * cue.gap:+.0f}")
        for cue in cues
    ]
    heads = ("batch", "with an event", "without", "points between")
    return Grid("a weekday and its source, where batches part most", heads, rows)


def _told(number: int, of: int) -> str:
    return f"{percent(number / of)} of {of}"
