"""Figures for answers that may be several labels or none. Arrays in, numbers out; nothing here knows a label by name.

Weighted F1 is the headline because the published figures are; macro F1 stands beside it because weighting hides the
rare labels, and false alarms are counted apart because texts without events never enter either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from tocsin_training.arrays import Bools, Floats
from tocsin_training.resample import (
    CALIBRATION_BINS,
    calibration_bin,
    draw_texts,
    ece_by_draw,
    f1_by_draw,
    interval,
    label_f1_by_draw,
    share_by_draw,
)

_NORMAL_95 = 1.959964
"""Standard deviations on either side that hold 95 % of a normal distribution."""
NONE = -1
"""Stands for "no event" where an answer is a label's position."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def weighted_f1(truth: Bools, given: Bools) -> float:
    """F1 per label, averaged by how often each is true."""
    return float(f1_score(truth, given, average="weighted", zero_division=0))


def macro_f1(truth: Bools, given: Bools) -> float:
    """F1 per label, averaged over the labels that are true or given somewhere.

    One that is neither has no F1: there was nothing to find, and nothing was found. Counted as 0, a model without a
    mistake would have the share of labels that its test happens to hold.
    """
    met = np.flatnonzero(truth.any(axis=0) | given.any(axis=0))
    return float(f1_score(truth, given, labels=met, average="macro", zero_division=0)) if len(met) else 0.0


def f1_figures(truth: Bools, given: Bools) -> dict[str, float]:
    """Weighted, macro and micro F1 and the share of texts with exactly the right set of labels."""
    return {
        "weighted_f1": weighted_f1(truth, given),
        "macro_f1": macro_f1(truth, given),
        "micro_f1": float(f1_score(truth, given, average="micro", zero_division=0)),
        "exact_match": float(accuracy_score(truth, given)),
    }


def label_figures(truth: Bools, given: Bools, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of true examples of each label; see ``label_intervals``."""
    columns = precision_recall_fscore_support(truth, given, average=None, zero_division=0)
    keys = ("precision", "recall", "f1", "support")
    return {
        name: {key: float(column[index]) for key, column in zip(keys, columns, strict=True)}
        for index, name in enumerate(names)
    }


def bootstrap_f1(truth: Bools, given: Bools, *, samples: int) -> dict[str, Interval]:
    """``f1_figures`` with percentile intervals over texts drawn anew with replacement."""
    values, draws = f1_figures(truth, given), draw_texts(len(truth), samples=samples)
    drawn = f1_by_draw(draws, truth, given) | {"exact_match": share_by_draw(draws, np.all(truth == given, axis=1))}
    return {name: Interval(values[name], *interval(figures)) for name, figures in drawn.items()}


def f1_cost(truth: Bools, reference: Bools, given: Bools, *, samples: int) -> Interval:
    """Weighted F1 that answers lose against a reference's to the same texts, over texts drawn anew for both alike."""
    draws = draw_texts(len(truth), samples=samples)
    best, own = (f1_by_draw(draws, truth, answers)["weighted_f1"] for answers in (reference, given))
    return Interval(weighted_f1(truth, reference) - weighted_f1(truth, given), *interval(best - own))


def label_intervals(truth: Bools, given: Bools, names: Sequence[str], *, samples: int) -> dict[str, dict[str, float]]:
    """Low and high end of each label's F1, over texts drawn anew with replacement."""
    drawn = label_f1_by_draw(draw_texts(len(truth), samples=samples), truth, given)
    ends = (interval(figures) for figures in drawn.T)
    return {name: {"low": low, "high": high} for name, (low, high) in zip(names, ends, strict=True)}


def bootstrap_ece(probabilities: Floats, given: Bools, truth: Bools, *, samples: int) -> Interval:
    """Calibration error of the answers given, with its interval over texts drawn anew.

    The interval leans upwards, as the figure itself does: a draw has fewer different texts, so its bins are noisier,
    and noise only ever adds to a distance. It is stretched to hold the figure.

    :param probabilities: shape (texts, labels), as ``given`` and ``truth``.
    """
    if not len(given):
        return Interval(0.0, 0.0, 1.0)
    value = expected_calibration_error(probabilities[given], truth[given])
    low, high = interval(ece_by_draw(draw_texts(len(truth), samples=samples), probabilities, given, truth))
    return Interval(value, min(low, value), max(high, value))


def wilson(share: float, count: float) -> tuple[float, float]:
    """95 % interval of a share of ``count`` observations (Wilson 1927); sound near 0 and 1, where others are not.

    scipy has it for whole numbers of hits only (a test holds this against it there); here a share may be a mean of
    shares, one for each group of like texts.
    """
    if not count:
        return 0.0, 1.0
    spread = _NORMAL_95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    margin = np.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # Rounding must not put the share itself outside.
    return max(0.0, min(share, float(centre - margin))), min(1.0, max(share, float(centre + margin)))


def least_count(share: float) -> int:
    """So many observations without a miss it takes for the low end of ``wilson`` to reach a share."""
    # Rounded, for it may come to a whole number but for the last bit.
    return math.ceil(round(_NORMAL_95**2 * share / (1 - share), 9))


def proportion(hits: int, count: int, *, observations: int | None = None, of_none: float = 0.0) -> Interval:
    """The share of some things of which something is true, with its interval (``wilson``).

    :param observations: how many of the things stand or fall by themselves; none: all.
    :param of_none: the share where there are none; its interval then is all there is, 0 to 1.
    """
    share = hits / count if count else of_none
    return Interval(share, *wilson(share, count if observations is None else observations))


def difference(first: Interval, second: Interval) -> Interval:
    """How much more the second of two shares is than the first, of different texts (Newcombe 1998, method 10).

    :param first: with the ends of its ``wilson``, as ``second``; ends that are the share itself say it is exact.
    """
    gap = second.value - first.value
    less = math.hypot(second.value - second.low, first.high - first.value)
    more = math.hypot(second.high - second.value, first.value - first.low)
    return Interval(gap, gap - less, gap + more)


def expected_calibration_error(probabilities: Floats, right: Bools) -> float:
    """Mean distance between stated probability and share that was right, over equal-width bins (Guo et al. 2017).

    :param probabilities: of the answers given, any shape.
    :param right: whether each was right, same shape.
    """
    table = reliability(probabilities, right)
    total = sum(count for _, _, count in table)
    return sum(abs(stated - held) * count for stated, held, count in table) / total if total else 0.0


def label_rows(truth: Bools, given: Bools, names: Sequence[str], *, samples: int) -> dict[str, dict[str, float]]:
    """Each label's ``label_figures`` with their 95 % intervals.

    :return: beside the figures, ``low`` and ``high`` of F1 and the like of ``precision_`` and ``recall_``.
    """
    figures, ends = label_figures(truth, given, names), label_intervals(truth, given, names, samples=samples)
    hits = (truth & given).sum(axis=0)
    for key, among in (("precision", given), ("recall", truth)):
        for name, right, count in zip(names, hits, among.sum(axis=0), strict=True):
            share = proportion(int(right), int(count))
            ends[name] |= {f"{key}_low": share.low, f"{key}_high": share.high}
    return {name: row | ends[name] for name, row in figures.items()}


def calibration_figures(probabilities: Floats, given: Bools, truth: Bools) -> dict[str, float]:
    """How well probabilities say what comes of them: calibration error of the labels given, log loss of every label.

    To hold two sets of probabilities against each other, leave ``given`` the same: labels given by other thresholds are
    other answers, and an error over other answers is no better or worse.

    :param probabilities: shape (texts, labels), as ``given`` and ``truth``.
    :return: ``ece``, and ``log_loss`` in nats a label and text; 0 of nothing.
    """
    loss = float(log_loss(truth.ravel(), probabilities.ravel(), labels=[False, True])) if truth.size else 0.0
    return {"ece": expected_calibration_error(probabilities[given], truth[given]), "log_loss": loss}


def reliability(probabilities: Floats, right: Bools) -> list[tuple[float, float, int]]:
    """Mean stated probability, share right and number of answers for every bin that has any."""
    place = calibration_bin(probabilities)
    rows = []
    for index in range(CALIBRATION_BINS):
        inside = place == index
        if inside.any():
            rows.append((float(probabilities[inside].mean()), float(right[inside].mean()), int(inside.sum())))
    return rows


def pool_bins(rows: Sequence[tuple[float, float, int]], *, least: int) -> list[tuple[float, float, int]]:
    """Neighbouring bins of ``reliability`` put together until each has so many answers, the last maybe fewer.

    A share of a handful says nothing, and drawn as a point it looks as if it did.
    """
    pooled: list[tuple[float, float, int]] = []
    for stated, held, count in rows:
        if pooled and pooled[-1][2] < least:
            before, right, there = pooled.pop()
            both = there + count
            stated, held, count = (before * there + stated * count) / both, (right * there + held * count) / both, both
        pooled.append((stated, held, count))
    return pooled


def top_answers(probabilities: Floats, given: Bools) -> NDArray[np.intp]:
    """Position of the most probable label given to each text, or NONE, shape (texts,)."""
    ranked = np.where(given, probabilities, -1.0)
    return np.where(given.any(axis=1), ranked.argmax(axis=1), NONE)


def top_is_right(truth: Bools, top: NDArray[np.intp]) -> Bools:
    """Whether the first answer holds: a label that is true, or no event where there is none; shape (texts,)."""
    named = truth[np.arange(len(truth)), np.maximum(top, 0)]
    result: Bools = np.where(top == NONE, ~truth.any(axis=1), named)
    return result


def top_truth(truth: Bools, top: NDArray[np.intp]) -> NDArray[np.intp]:
    """The true label to hold an answer against: the answer itself if true, else the first true label, or NONE."""
    first = np.where(truth.any(axis=1), truth.argmax(axis=1), NONE)
    return np.where(top_is_right(truth, top), top, first)


@dataclass(frozen=True)
class SeveralEvents:
    """What is answered to texts that truly have several labels."""

    texts: int
    main_first: Interval
    """How often the first answer is the main label."""
    exact: Interval
    """How often the labels given are those that are true."""


def several_events(truth: Bools, given: Bools, top: NDArray[np.intp], main: NDArray[np.intp]) -> SeveralEvents | None:
    """Of texts that truly have several labels: how often the first answer is the main one, and how often the set holds.

    :param top: the first answers (``top_answers``).
    :param main: position of the label that each text's record names first, or NONE; both shape (texts,).
    :return: none where no text has several.
    """
    several = truth.sum(axis=1) > 1
    texts = int(several.sum())
    if not texts:
        return None
    exact = np.all(truth == given, axis=1)
    return SeveralEvents(
        texts,
        main_first=proportion(int((top == main)[several].sum()), texts),
        exact=proportion(int(exact[several].sum()), texts),
    )


def false_alarms(given: Bools, reasons: Sequence[str | None]) -> dict[str, dict[str, float]]:
    """Share of texts without event that were given a label, for all and for each reason.

    :param reasons: why a text has no event; none for texts that have one.
    :return: for each the share with its interval, and the number of texts.
    """
    alarmed: Bools = np.any(given, axis=1)
    groups: dict[str, list[bool]] = {"all": []}
    for reason, alarm in zip(reasons, alarmed, strict=True):
        if reason is not None:
            groups["all"].append(bool(alarm))
            groups.setdefault(reason, []).append(bool(alarm))
    shares = {name: proportion(sum(alarms), len(alarms)) for name, alarms in sorted(groups.items())}
    return {
        name: {"share": share.value, "low": share.low, "high": share.high, "texts": len(groups[name])}
        for name, share in shares.items()
    }


@dataclass(frozen=True)
class ReviewShares:
    """How many texts go to review, and how often the first answer is right among the others."""

    sent: Interval
    kept: int
    """Texts that do not go there."""
    right: Interval | None
    """Of those; none where all go."""


def review_shares(needs_review: Bools, right: Bools) -> ReviewShares:
    """What a review line does to texts.

    :param right: whether the first answer to each holds, shape (texts,), as ``needs_review``.
    """
    kept = right[~needs_review]
    return ReviewShares(
        sent=proportion(int(needs_review.sum()), len(needs_review)),
        kept=len(kept),
        right=proportion(int(kept.sum()), len(kept)) if len(kept) else None,
    )
