"""CASE 2021 task 2: news snippets with one of 25 ACLED sub-event types, or one of five kinds of news that are none.

The file is the organisers' (Haneczok et al. 2021, https://aclanthology.org/2021.case-1.23) and never part of this
project: it is read where the user has it, for measuring, and nothing learns from it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from tocsin.classifier import EventClassifier, Scores
from tocsin.errors import InputError
from tocsin.taxonomy import Taxonomy
from tocsin_training.metrics import NONE, top_answers

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


@dataclass(frozen=True)
class Benchmark:
    """Texts and, for each, its ACLED sub-event type or NO_EVENT."""

    texts: tuple[str, ...]
    truth: tuple[str, ...]


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
    no_event_recall: float
    """Share of the other five kinds that get no label."""
    all_weighted_f1: float
    """All texts, 25 types and no event."""
    exact_accuracy: float
    reviewed_share: float
    accuracy_of_the_others: float


def read_benchmark(path: Path) -> Benchmark:
    """Read the organisers' TSV file (columns id, text, sub_type).

    :raises InputError: it cannot be read, lacks a column, or holds an unknown type; the message has the line.
    """
    texts, truth = [], []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE), 2):
                texts.append(row["text"])
                truth.append(_acled_type(row["sub_type"], path, number))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except KeyError as error:
        raise InputError(f"{path}: has no column {error}; it needs text and sub_type") from error
    if not texts:
        raise InputError(f"{path}: holds no texts")
    return Benchmark(tuple(texts), tuple(truth))


def _acled_type(name: str, path: Path, number: int) -> str:
    if name in NOT_EVENTS:
        return NO_EVENT
    try:
        return ACLED_TYPES[name]
    except KeyError:
        raise InputError(f"{path}:{number}: unknown sub_type {name!r}") from None


def score_benchmark(classifier: EventClassifier, benchmark: Benchmark) -> BenchmarkFigures:
    """Classify the texts and compare in ACLED's terms."""
    return benchmark_figures(classifier.score_batch(list(benchmark.texts)), benchmark.truth)


def benchmark_figures(scores: Scores, truth: Sequence[str]) -> BenchmarkFigures:
    """Figures from answers and true types."""
    types = np.array([label.sub_event_type for label in scores.taxonomy.labels])
    top = top_answers(scores.probabilities, scores.given)
    answered = np.where(top == NONE, NO_EVENT, types[top])
    gold = np.array(truth)
    events = gold != NO_EVENT
    kept = ~scores.needs_review
    return BenchmarkFigures(
        texts=len(gold),
        event_texts=int(events.sum()),
        forced_weighted_f1=forced_f1(scores.probabilities, scores.taxonomy, truth),
        forced_macro_f1=forced_f1(scores.probabilities, scores.taxonomy, truth, average="macro"),
        abstaining_weighted_f1=_f1(gold[events], answered[events], "weighted"),
        no_event_recall=float((answered[~events] == NO_EVENT).mean()) if not events.all() else 1.0,
        all_weighted_f1=_f1(gold, answered, "weighted"),
        exact_accuracy=float(accuracy_score(gold, answered)),
        reviewed_share=float(scores.needs_review.mean()),
        accuracy_of_the_others=float((answered == gold)[kept].mean()) if kept.any() else 1.0,
    )


def forced_f1(
    ranking: NDArray[np.floating[Any]], taxonomy: Taxonomy, truth: Sequence[str], *, average: str = "weighted"
) -> float:
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


def main(release: Path, path: Path, threads: int = 1) -> dict[str, Any]:
    """Figures of a release on the file."""
    return asdict(score_benchmark(EventClassifier.load(release, threads=threads), read_benchmark(path)))
