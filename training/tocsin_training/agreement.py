"""How far two readers of the same texts agree: the writer, and a second reader who saw the text alone.

A label is given or not, so each has a kappa of its own, which takes off the agreement that chance alone would bring
(Cohen 1960, "A coefficient of agreement for nominal scales"). Answers are sets, and two that share a label agree more
than two that share none: the one figure for all is Krippendorff's alpha (Krippendorff 1980, "Content analysis") over
the MASI distance between sets (Passonneau 2006, "Measuring agreement on set-valued items"). Kappa over all is stricter:
it takes a whole set for one answer, right or wrong. None of them says who is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from nltk.metrics.agreement import AnnotationTask
from nltk.metrics.distance import masi_distance
from sklearn.metrics import cohen_kappa_score

from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import SPLITS, Line, Record
from tocsin_training.report import Grid

NO_EVENT = "no event"
KAPPA_WANTED = 0.85
"""The least that is wanted of Cohen's kappa over all; labels below it are named."""

Answer = frozenset[str]


@dataclass(frozen=True)
class Counts:
    """Records by what their readers said. A record has parted if its first two readers gave different sets.

    It is revised if they gave the same, and a third look changed it when a rule had been sharpened.
    """

    records: int
    labelled_twice: int
    parted: int
    decided_by_a_third: int
    not_decided_yet: int
    revised: int
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
    kappa: float | None
    alpha_masi: float | None
    no_event: LabelAgreement
    labels: tuple[LabelAgreement, ...]

    @property
    def below(self) -> list[LabelAgreement]:
        """The labels, and "no event", whose kappa is less than is wanted; least agreed first."""
        measured = [row for row in (self.no_event, *self.labels) if row.kappa is not None]
        return [row for row in sorted(measured, key=_kappa) if _kappa(row) < KAPPA_WANTED]

    @property
    def fault(self) -> str | None:
        """Why this is too little agreement to learn from; none where it is enough."""
        if not self.counts.labelled_twice:
            return "no record has a second reading, so there is no agreement to measure"
        if self.kappa is not None and self.kappa < KAPPA_WANTED:
            return f"kappa over all is {self.kappa:.3f}, and {KAPPA_WANTED} is wanted; sharpen the guidelines"
        return None


def measure_agreement(records: Sequence[Record], taxonomy: Taxonomy) -> Agreement:
    """Agreement of ``annotations.writer`` and ``annotations.second``, over all and for each label."""
    answers = [_answers(record) for record in records if record.annotations.second is not None]
    equal = [writer == second for writer, second in answers]
    return Agreement(
        counts=count(records),
        exact_match=sum(equal) / len(equal) if equal else None,
        kappa=kappa(*([", ".join(sorted(answer)) for answer in of_one] for of_one in _by_reader(answers))),
        alpha_masi=alpha(answers),
        no_event=_label_agreement(NO_EVENT, answers),
        labels=tuple(_label_agreement(name, answers) for name in taxonomy.names),
    )


def measure_by_split(lines: Sequence[Line], taxonomy: Taxonomy) -> dict[str, Agreement]:
    """The same within each split: one that is harder to read does not hide behind the large one."""
    return {
        split: measure_agreement([line.record for line in lines if line.split == split], taxonomy) for split in SPLITS
    }


def count(records: Sequence[Record]) -> Counts:
    """Where the records stand on their way to an agreed label."""
    twice = [record for record in records if record.annotations.second is not None]
    parted = [record for record in twice if len(set(_answers(record))) > 1]
    settled = [record for record in parted if not record.ambiguous]
    third = _with_third(settled)
    return Counts(
        records=len(records),
        labelled_twice=len(twice),
        parted=len(parted),
        decided_by_a_third=third,
        not_decided_yet=len(settled) - third,
        revised=_with_third(twice) - _with_third(parted),
        ambiguous=sum(record.ambiguous for record in records),
    )


def _with_third(records: Sequence[Record]) -> int:
    return sum(record.annotations.third is not None for record in records)


def alpha(answers: Sequence[tuple[Answer, Answer]]) -> float | None:
    """Krippendorff's alpha of two readers with the MASI distance; None where every answer is the same.

    :param answers: what each of the two said to a text; never empty sets, which have no MASI distance.
    """
    if len({answer for pair in answers for answer in pair}) < 2:
        return None
    triples = [(reader, text, answer) for text, pair in enumerate(answers) for reader, answer in enumerate(pair)]
    return float(AnnotationTask(data=triples, distance=masi_distance).alpha())


def kappa(writer: Sequence[bool] | Sequence[str], second: Sequence[bool] | Sequence[str]) -> float | None:
    """Cohen's kappa of two readers' answers; None where all answers are the same, for then chance explains them."""
    if len({*writer, *second}) < 2:
        return None
    return float(cohen_kappa_score(writer, second))


def _by_reader(answers: Sequence[tuple[Answer, Answer]]) -> tuple[list[Answer], list[Answer]]:
    return [writer for writer, _ in answers], [second for _, second in answers]


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


def grids(agreement: Agreement, by_split: Mapping[str, Agreement]) -> list[Grid]:
    """The counts, the figures over all, each split's, and one row per label, least agreed first."""
    return [_counts_grid(agreement), splits_grid(by_split), labels_grid(agreement, by_split)]


def _counts_grid(agreement: Agreement) -> Grid:
    counts = agreement.counts
    rows = (
        ("in all", str(counts.records)),
        ("labelled twice", str(counts.labelled_twice)),
        ("parted", str(counts.parted)),
        ("decided by a third", str(counts.decided_by_a_third)),
        ("not decided yet", str(counts.not_decided_yet)),
        ("agreed, and revised later", str(counts.revised)),
        ("ambiguous", str(counts.ambiguous)),
        ("exactly equal sets", figure(agreement.exact_match)),
        ("kappa", figure(agreement.kappa)),
        ("alpha (MASI)", figure(agreement.alpha_masi)),
    )
    return Grid("two readers", ("records", ""), rows)


def splits_grid(by_split: Mapping[str, Agreement]) -> Grid:
    """One row per split; what is less than wanted stands there by name."""
    heads = ("split", "records", "read twice", "exactly equal", "kappa", "alpha (MASI)", f"kappa under {KAPPA_WANTED}")
    return Grid("agreement by split", heads, [_split_row(split, found) for split, found in by_split.items()])


def _split_row(split: str, found: Agreement) -> tuple[str, ...]:
    below = ", ".join(f"{row.name} {figure(row.kappa)}" for row in found.below)
    numbers = (str(found.counts.records), str(found.counts.labelled_twice))
    return split, *numbers, *map(figure, (found.exact_match, found.kappa, found.alpha_masi)), below or "-"


def labels_grid(agreement: Agreement, by_split: Mapping[str, Agreement]) -> Grid:
    """Kappa of each label and of "no event", over all and by split, and counts; least agreed first."""
    of_splits = [{row.name: row for row in (found.no_event, *found.labels)} for found in by_split.values()]
    rows = [
        (row.name, *(figure(of[row.name].kappa) for of in of_splits), figure(row.kappa), *_readings(row))
        for row in sorted((agreement.no_event, *agreement.labels), key=_kappa)
    ]
    return Grid("agreement by label", ("label", *by_split, "kappa", "both", "writer", "second"), rows)


def _readings(row: LabelAgreement) -> tuple[str, str, str]:
    return str(row.both), str(row.writer), str(row.second)


def _kappa(row: LabelAgreement) -> float:
    """To sort by; what could not be measured comes last."""
    return inf if row.kappa is None else row.kappa


def figure(value: float | None) -> str:
    """Three places, or a dash where nothing could be measured."""
    return "-" if value is None else f"{value:.3f}"
