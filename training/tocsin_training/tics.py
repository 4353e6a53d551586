"""Phrases that one batch uses far more than the rest of the corpus: a writer's habits, which a model would learn.

Measured by the log-odds ratio with an informative Dirichlet prior, as a z-score (Monroe, Colaresi and Quinn 2008,
"Fightin' words"). A plain ratio with a minimum count puts five records that share a rare name above twenty that share
a turn of speech which others know too, for it does not say how sure it is; the z-score does. The prior is the corpus's
own count of a phrase, scaled down: with none, what no other batch has would have no score; with all of it, little would
show. A phrase counts once a record, so that a refrain within one text is no habit.

What a batch was asked to write about comes out too. This reports and does not judge. Forms whose words change from
text to text are no phrases; ``cues`` counts those.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt

from tocsin.text import fold
from tocsin_training.corpus import Record
from tocsin_training.report import Grid

GRAM_WORDS = (3, 4)
CLOSING_WORDS = 4
MIN_RECORDS = 5
PRIOR_SHARE = 0.1
"""The prior weighs as much as this share of the corpus: a few batches."""
_HEADS = ("kind", "here", "elsewhere", "z")
MIN_SCORE = 1.96
"""The 5 % level of a z-score, two-sided."""


@dataclass(frozen=True)
class Tic:
    """A phrase of one batch: in how many records here and elsewhere, and how sure it is that this is no accident."""

    phrase: str
    kind: str
    here: int
    elsewhere: int
    score: float


def find_tics(records: Sequence[Record], *, most: int = 20) -> dict[str, list[Tic]]:
    """The over-represented phrases of each batch that has any, worst batch first and worst phrase first.

    :param most: so many a batch at most.
    """
    found: dict[str, list[Tic]] = defaultdict(list)
    for kind, counts in _count_by_kind(records).items():
        everywhere: Counter[str] = Counter()
        for here in counts.values():
            everywhere.update(here)
        for batch, here in counts.items():
            found[batch] += _tics(kind, here, everywhere)
    told = [(batch, sorted(_without_parts(tics), key=_worst_first)[:most]) for batch, tics in found.items() if tics]
    return dict(sorted(told, key=lambda item: _worst_first(item[1][0])))


def _tics(kind: str, here: Counter[str], everywhere: Counter[str]) -> Iterator[Tic]:
    size, total = here.total(), everywhere.total()
    for phrase, count in here.items():
        if count < MIN_RECORDS:
            continue
        score = log_odds_z(count, size, everywhere[phrase], total)
        if score >= MIN_SCORE:
            yield Tic(phrase, kind, count, everywhere[phrase] - count, score)


def log_odds_z(here: int, size: int, everywhere: int, total: int) -> float:
    """Monroe et al.'s z-score of one phrase in a batch against all other batches.

    :param here: its count in the batch.
    :param size: the count of all phrases in the batch.
    :param everywhere: its count in the whole corpus.
    :param total: the count of all phrases in the whole corpus.
    """
    if everywhere == total:
        return 0.0
    prior, prior_size = PRIOR_SHARE * everywhere, PRIOR_SHARE * total
    mine, my_size = here + prior, size + prior_size
    others, others_size = everywhere - here + prior, total - size + prior_size
    odds = log(mine / (my_size - mine)) - log(others / (others_size - others))
    return odds / sqrt(1 / mine + 1 / others)


def _count_by_kind(records: Sequence[Record]) -> dict[str, dict[str, Counter[str]]]:
    """Kind of phrase, then batch, then phrase: the number of records that hold it."""
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for record in records:
        for kind, phrases in _phrases(record.text).items():
            counts[kind][record.batch].update(phrases)
    return counts


def _phrases(text: str) -> Mapping[str, set[str]]:
    words = fold(text).split()
    grams = {f"{size} words": _runs(words, size) for size in GRAM_WORDS}
    return grams | {"closing": {" ".join(words[-CLOSING_WORDS:])}}


def _runs(words: Sequence[str], size: int) -> set[str]:
    return {" ".join(words[start : start + size]) for start in range(len(words) - size + 1)}


def _without_parts(tics: Sequence[Tic]) -> list[Tic]:
    """Without phrases that stand only inside a longer one, and without a closing's second life as a plain phrase."""
    return [tic for tic in tics if not any(_is_part(tic, other) for other in tics)]


def _is_part(tic: Tic, other: Tic) -> bool:
    if tic.here != other.here or f" {tic.phrase} " not in f" {other.phrase} ":
        return False
    return len(tic.phrase) < len(other.phrase) or (tic.kind != "closing" and other.kind == "closing")


def _worst_first(tic: Tic) -> tuple[float, str, str]:
    return (-tic.score, tic.phrase, tic.kind)


def worst_of_each(tics: Mapping[str, Sequence[Tic]], most: int) -> Grid:
    """The worst phrase of each batch, of so many batches at most."""
    rows = [(of_batch[0].phrase, batch, *_figures(of_batch[0])) for batch, of_batch in tics.items()]
    return Grid("the worst phrases", ("phrase", "batch", *_HEADS), rows[:most])


def grids(tics: Mapping[str, Sequence[Tic]]) -> list[Grid]:
    """One table a batch."""
    return [_grid(batch, of_batch) for batch, of_batch in tics.items()]


def _grid(batch: str, tics: Sequence[Tic]) -> Grid:
    return Grid(batch, ("phrase", *_HEADS), [(tic.phrase, *_figures(tic)) for tic in tics])


def _figures(tic: Tic) -> tuple[str, ...]:
    return tic.kind, str(tic.here), str(tic.elsewhere), f"{tic.score:.1f}"
