"""How far two readers of the same texts agree: the writer, and a second reader who saw the text alone.

A label is given or not, so each has a kappa of its own, which takes off the agreement that chance alone would bring
(Cohen 1960, "A coefficient of agreement for nominal scales"). Answers are sets, and two that share a label agree more
than two that share none: the one figure for all is Krippendorff's alpha (Krippendorff 1980, "Content analysis") over
the MASI distance between sets (Passonneau 2006, "Measuring agreement on set-valued items"). Neither says who is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nltk.metrics.agreement import AnnotationTask
from nltk.metrics.distance import masi_distance
from sklearn.metrics import cohen_kappa_score

from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import Record
from tocsin_training.report import Grid

NO_EVENT = "no event"

Answer = frozenset[str]


@dataclass(frozen=True)
class Counts:
    """Records by what their readers said. A record has parted if its first two readers gave different sets."""

    records: int
    labelled_twice: int
    parted: int
    decided_by_a_third: int
    not_decided_yet: int
    ambiguous: int


@dataclass(frozen=True)
class LabelAgreement:
    """One label: how often each reader gave it, and both; kappa is None where neither reader ever varied."""

    name: str
    writer: int
    second: int
    both: int
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """Figures over the records that two readers have labelled; None where there is nothing to measure."""

    counts: Counts
    exact_match: float | None
    alpha_masi: float | None
    no_event: LabelAgreement
    labels: tuple[LabelAgreement, ...]


def measure_agreement(records: Sequence[Record], taxonomy: Taxonomy) -> Agreement:
    """Agreement of ``annotations.writer`` and ``annotations.second``, over all and for each label."""
    answers = [_answers(record) for record in records if record.annotations.second is not None]
    equal = [writer == second for writer, second in answers]
    return Agreement(
        counts=count(records),
        exact_match=sum(equal) / len(equal) if equal else None,
        alpha_masi=alpha(answers),
        no_event=_label_agreement(NO_EVENT, answers),
        labels=tuple(_label_agreement(name, answers) for name in taxonomy.names),
    )


def count(records: Sequence[Record]) -> Counts:
    """Where the records stand on their way to an agreed label."""
    twice = [record for record in records if record.annotations.second is not None]
    parted = [record for record in twice if len(set(_answers(record))) > 1]
    settled = [record for record in parted if not record.ambiguous]
    third = sum(record.annotations.third is not None for record in settled)
    return Counts(
        records=len(records),
        labelled_twice=len(twice),
        parted=len(parted),
        decided_by_a_third=third,
        not_decided_yet=len(settled) - third,
        ambiguous=sum(record.ambiguous for record in records),
    )


def alpha(answers: Sequence[tuple[Answer, Answer]]) -> float | None:
    """Krippendorff's alpha of two readers with the MASI distance; None where every answer is the same.

    :param answers: what each of the two said to a text; never empty sets, which have no MASI distance.
    """
    if len({answer for pair in answers for answer in pair}) < 2:
        return None
    triples = [(reader, text, answer) for text, pair in enumerate(answers) for reader, answer in enumerate(pair)]
    return float(AnnotationTask(data=triples, distance=masi_distance).alpha())


def kappa(writer: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Cohen's kappa of given and not given; None where all answers are the same, for then chance explains them."""
    if len({*writer, *second}) < 2:
        return None
    return float(cohen_kappa_score(writer, second))


def _answers(record: Record) -> tuple[Answer, Answer]:
    """Both readers' answers. "No event" is an answer too, and as far from any label as two labels are apart."""
    given = record.annotations.writer, record.annotations.second or ()
    writer, second = (frozenset(labels) or frozenset({NO_EVENT}) for labels in given)
    return writer, second


def _label_agreement(name: str, answers: Sequence[tuple[Answer, Answer]]) -> LabelAgreement:
    writer = [name in answer for answer, _ in answers]
    second = [name in answer for _, answer in answers]
    both = sum(left and right for left, right in zip(writer, second, strict=True))
    return LabelAgreement(name, sum(writer), sum(second), both, kappa(writer, second))


def grids(agreement: Agreement) -> list[Grid]:
    """The counts, the figures over all, and one row per label, least agreed first."""
    return [_counts_grid(agreement), labels_grid(agreement)]


def _counts_grid(agreement: Agreement) -> Grid:
    counts = agreement.counts
    rows = (
        ("in all", str(counts.records)),
        ("labelled twice", str(counts.labelled_twice)),
        ("parted", str(counts.parted)),
        ("decided by a third", str(counts.decided_by_a_third)),
        ("not decided yet", str(counts.not_decided_yet)),
        ("ambiguous", str(counts.ambiguous)),
        ("exactly equal sets", figure(agreement.exact_match)),
        ("alpha (MASI)", figure(agreement.alpha_masi)),
    )
    return Grid("two readers", ("records", ""), rows)


def labels_grid(agreement: Agreement) -> Grid:
    """Kappa and counts of each label and of "no event", least agreed first."""
    unmeasured = 2.0
    rows = [agreement.no_event, *agreement.labels]
    rows.sort(key=lambda row: unmeasured if row.kappa is None else row.kappa)
    cells = [(row.name, figure(row.kappa), str(row.both), str(row.writer), str(row.second)) for row in rows]
    return Grid("agreement by label", ("label", "kappa", "both", "writer", "second"), cells)


def figure(value: float | None) -> str:
    """Three places, or a dash where nothing could be measured."""
    return "-" if value is None else f"{value:.3f}"
