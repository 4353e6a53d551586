"""CASE 2021 task 2: news snippets with one of 25 ACLED sub-event types, or one of five kinds of news that are none.

The file is the organisers' (Haneczok et al. 2021, https://aclanthology.org/2021.case-1.23) and never part of this
project: it is read where the user has it, for measuring, and nothing learns from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from tocsin.classifier import Scores
from tocsin.errors import InputError
from tocsin.taxonomy import Taxonomy
from tocsin_training.arrays import Bools, Floats
from tocsin_training.config import Settings
from tocsin_training.metrics import (
    NONE,
    Interval,
    bootstrap_ece,
    bootstrap_f1,
    label_rows,
    proportion,
    review_shares,
    top_answers,
)
from tocsin_training.tsv import read_tsv

# The organisers' names -> ACLED's sub-event types, the currency in which every release can answer.
ACLED_TYPES = {
    "ABDUCT_DISSAP": "Abduction/forced disappearance",
    "AGREEMENT": "Agreement",
    "AIR_STRIKE": "Air/drone strike",
    "ARMED_CLASH": "Armed clash",
    "ARREST": "Arrests",
    "ART_MISS_ATTACK": "Shelling/artillery/missile attack",
    "ATTACK": "Attack",
    "CHANGE_TO_GROUP_ACT": "Change to group/activity",
    "CHEM_WEAP": "Chemical weapon",
    "DISR_WEAP": "Disrupted weapons use",
    "FORCE_AGAINST_PROTEST": "Excessive force against protesters",
    "GOV_REGAINS_TERIT": "Government regains territory",
    "GRENADE": "Grenade",
    "HQ_ESTABLISHED": "Headquarters or base established",
    "MOB_VIOL": "Mob violence",
    "NON_STATE_ACTOR_OVERTAKES_TER": "Non-state actor overtakes territory",
    "NON_VIOL_TERRIT_TRANSFER": "Non-violent transfer of territory",
    "OTHER": "Other",
    "PEACE_PROTEST": "Peaceful protest",
    "PROPERTY_DISTRUCT": "Looting/property destruction",
    "PROTEST_WITH_INTER": "Protest with intervention",
    "REM_EXPLOS": "Remote explosive/landmine/IED",
    "SEX_VIOL": "Sexual violence",
    "SUIC_BOMB": "Suicide bomb",
    "VIOL_DEMONSTR": "Violent demonstration",
}
NOT_EVENTS = frozenset({"ATTRIB", "DIPLO", "MAN_MADE_DISASTER", "NATURAL_DISASTER", "ORG_CRIME"})
NO_EVENT = "no event"
_BATTLES = (
    ACLED_TYPES["ARMED_CLASH"],
    ACLED_TYPES["GOV_REGAINS_TERIT"],
    ACLED_TYPES["NON_STATE_ACTOR_OVERTAKES_TER"],
)
_ATTACK = (ACLED_TYPES["ATTACK"],)
_CONFUSIONS = {
    "battles first answered as attacks on civilians": (_BATTLES, _ATTACK),
    "attacks on civilians first answered as battles": (_ATTACK, _BATTLES),
}
"""What would be counted on the wrong side of a war: types in the file, and types answered."""


@dataclass(frozen=True)
class Benchmark:
    """Texts and, for each, its ACLED sub-event type or NO_EVENT."""

    texts: tuple[str, ...]
    truth: tuple[str, ...]
    kinds: tuple[str | None, ...]
    """As the file names it, the kind of news of texts that are NO_EVENT; none for the others."""


@dataclass(frozen=True)
class BenchmarkFigures:
    """Results on the file."""

    texts: int
    event_texts: int
    forced_weighted_f1: float
    """25 types, event texts only, the best type taken whatever its probability: what published figures measure."""
    forced_macro_f1: float
    abstaining_weighted_f1: float
    """As above, but "no event" may be answered, and is then wrong."""
    no_event_recall: float | None
    """Share of the other five kinds that get no label; none where the file has none of them."""
    all_weighted_f1: float
    """All texts, 25 types and no event."""
    exact_accuracy: float
    """Share of texts whose first answer, a type or no event, is the one in the file."""
    reviewed_share: float
    accuracy_of_the_others: float | None
    """None where all go to review."""
    read_accuracy: float | None
    """As ``exact_accuracy``, of the texts in a language that the release reads; none where it reads none."""
    mean_confidence: float | None
    """How sure the first answers to those say they are."""
    first_answer_ece: float
    """Calibration error of the first answers. The file has one type a text, and careful readers agree with it for nine
    in ten, so right answers count as wrong, too, and now and then a wrong one as right: it is likely too high."""
    intervals: dict[str, tuple[float, float]]
    """95 % intervals of the figures of these names."""


def read_benchmark(path: Path) -> Benchmark:
    """Read the organisers' TSV file (columns id, text, sub_type).

    :raises InputError: it cannot be read, lacks a column, or holds an unknown type; the message has the line.
    """
    try:
        changed = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return _read_benchmark(path, changed.st_mtime_ns, changed.st_size)


@lru_cache(maxsize=1)
def _read_benchmark(path: Path, changed: int, size: int) -> Benchmark:
    """A file as it is now; whoever checks it before a training and whoever is measured on it after read it once."""
    texts, truth, kinds = [], [], []
    for number, row in read_tsv(path, "text", "sub_type"):
        texts.append(_text(row["text"], path, number))
        truth.append(_acled_type(row["sub_type"], path, number))
        kinds.append(row["sub_type"] if truth[-1] == NO_EVENT else None)
    if not texts:
        raise InputError(f"{path}: holds no texts")
    return Benchmark(tuple(texts), tuple(truth), tuple(kinds))


def with_benchmark(settings: Settings, path: Path | None) -> Settings:
    """The recipe with a file to be measured on, where one is given.

    :raises InputError: it cannot be read, which is told now and not after the training that it is to measure.
    """
    if path is None:
        return settings
    read_benchmark(path)
    return settings.model_copy(update={"data": settings.data.model_copy(update={"benchmark": path.resolve()})})


def _text(text: str | None, path: Path, number: int) -> str:
    if not text or not text.strip():
        raise InputError(f"{path}:{number}: has no text; mend the line or take it out")
    if "\0" in text:
        raise InputError(f"{path}:{number}: has a null character in its text; save the file as UTF-8 text")
    return text


def _acled_type(name: str | None, path: Path, number: int) -> str:
    if name in NOT_EVENTS:
        return NO_EVENT
    if name is None:
        raise InputError(f"{path}:{number}: has fewer cells than the first line; it needs text and sub_type")
    try:
        return ACLED_TYPES[name]
    except KeyError:
        raise InputError(f"{path}:{number}: unknown sub_type {name!r}") from None


def benchmark_figures(scores: Scores, truth: Sequence[str], *, bootstrap_samples: int = 1000) -> BenchmarkFigures:
    """Figures from answers and true types."""
    gold, answered = np.array(truth), first_types(scores)
    events, right = gold != NO_EVENT, answered == gold
    review = review_shares(scores.needs_review, right)
    # Text that is not read says nothing, and its probabilities mean nothing.
    sure, came_true = scores.confidence[scores.read, None], right[scores.read, None]
    everything = np.ones_like(came_true)
    ece = bootstrap_ece(sure, everything, came_true, samples=bootstrap_samples)
    shares = {
        "no_event_recall": _share(right[~events]),
        "exact_accuracy": _share(right),
        "reviewed_share": review.sent,
        "accuracy_of_the_others": review.right,
        "read_accuracy": _share(came_true),
    }
    values: dict[str, Any] = {name: None if share is None else share.value for name, share in shares.items()}
    intervals = {name: (share.low, share.high) for name, share in shares.items() if share is not None}
    return BenchmarkFigures(
        texts=len(gold),
        event_texts=int(events.sum()),
        forced_weighted_f1=forced_f1(scores.probabilities, scores.taxonomy, truth),
        forced_macro_f1=forced_f1(scores.probabilities, scores.taxonomy, truth, average="macro"),
        abstaining_weighted_f1=_f1(gold[events], answered[events], "weighted"),
        all_weighted_f1=_f1(gold, answered, "weighted"),
        **values,
        mean_confidence=float(sure.mean()) if len(sure) else None,
        first_answer_ece=ece.value,
        intervals=intervals
        | _f1_intervals(scores, gold, answered, samples=bootstrap_samples)
        | {"first_answer_ece": (ece.low, ece.high)},
    )


def type_figures(scores: Scores, truth: Sequence[str], *, samples: int) -> dict[str, dict[str, float]]:
    """Figures of first answers over all texts, for each type that the file has, and for no event (``label_rows``)."""
    gold, answered = np.array(truth), first_types(scores)
    return label_rows(*_one_hot(gold, answered), np.unique(gold).tolist(), samples=samples)


def confusion_figures(scores: Scores, truth: Sequence[str]) -> dict[str, dict[str, float]]:
    """How many texts of some types were first answered with others; left out where the file has no such text."""
    gold, answered = np.array(truth), first_types(scores)
    figures = {}
    for name, (true_types, wrong_types) in _CONFUSIONS.items():
        mistaken = np.isin(answered[np.isin(gold, true_types)], wrong_types)
        if share := _share(mistaken):
            counts = {"count": int(mistaken.sum()), "texts": len(mistaken)}
            figures[name] = counts | {"share": share.value, "low": share.low, "high": share.high}
    return figures


def _share(right: Bools) -> Interval | None:
    return proportion(int(right.sum()), len(right)) if len(right) else None


def first_types(scores: Scores) -> NDArray[np.str_]:
    """The ACLED type of each first answer, or NO_EVENT, shape (texts,)."""
    types = np.array([label.sub_event_type for label in scores.taxonomy.labels])
    top = top_answers(scores.probabilities, scores.given)
    return np.where(top == NONE, NO_EVENT, types[top])


def _f1_intervals(
    scores: Scores, gold: NDArray[np.str_], answered: NDArray[np.str_], *, samples: int
) -> dict[str, tuple[float, float]]:
    """Of the F1 figures, over texts drawn anew with replacement."""
    types = np.array([label.sub_event_type for label in scores.taxonomy.labels])
    events, forced = gold != NO_EVENT, types[scores.probabilities.argmax(axis=1)]
    drawn = {
        "forced": (gold[events], forced[events]),
        "abstaining": (gold[events], answered[events]),
        "all": (gold, answered),
    }
    found: dict[str, tuple[float, float]] = {}
    for name, (truth, answers) in drawn.items():
        if len(truth):
            f1 = bootstrap_f1(*_one_hot(truth, answers), samples=samples)
            found |= {f"{name}_{key}": (f1[key].low, f1[key].high) for key in ("weighted_f1", "macro_f1")}
    return {name: ends for name, ends in found.items() if name in BenchmarkFigures.__dataclass_fields__}


def _one_hot(truth: NDArray[np.str_], answers: NDArray[np.str_]) -> tuple[Bools, Bools]:
    """Both as shape (texts, types that occur): an answer outside them is an error of recall already."""
    occurring = np.unique(truth)
    return truth[:, None] == occurring, answers[:, None] == occurring


def forced_f1(ranking: Floats, taxonomy: Taxonomy, truth: Sequence[str], *, average: str = "weighted") -> float:
    """F1 over the event texts when each gets the type of its best label, however low that is.

    :param ranking: a score of shape (texts, labels), higher for likelier; of what kind does not matter.
    """
    types = np.array([label.sub_event_type for label in taxonomy.labels])
    gold = np.array(truth)
    events = gold != NO_EVENT
    return _f1(gold[events], types[ranking.argmax(axis=1)][events], average)


def _f1(truth: NDArray[np.str_], answers: NDArray[np.str_], average: str) -> float:
    if not len(truth):
        return 0.0
    # Only types that occur are averaged: an answer outside them is an error of recall already.
    occurring = sorted(set(truth.tolist()))
    return float(f1_score(truth, answers, labels=occurring, average=average, zero_division=0))
