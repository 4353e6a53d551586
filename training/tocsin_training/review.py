"""What a release promises of the texts it does not send to review, and whether held-out text bears it out.

The promise is made on validation, when the line is drawn (``calibrate``): at this setting the first answer (the most
probable event, or no event where none is given) is right for so many of the texts that are not sent to review, and so
many texts go to review. A promise measured where it was made is always kept, so it is measured again on text that had
no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.calibration import Calibration, ReviewPromise
from tocsin.classifier import Scores
from tocsin_training.arrays import Bools, Floats
from tocsin_training.metrics import (
    Interval,
    difference,
    f1_figures,
    false_alarms,
    proportion,
    review_shares,
    top_answers,
    top_is_right,
    wilson,
)
from tocsin_training.report import Grid, percent, percent_interval

Figures = dict[str, Any]


def promise_figures(promise: ReviewPromise, needs_review: Bools, right: Bools) -> Figures:
    """The promise and what came of it.

    :param right: whether the first answer to each text was right, shape (texts,), as ``needs_review``.
    """
    shares = review_shares(needs_review, right)
    sent, accuracy = shares.sent, shares.right
    return {
        **promise.model_dump(),
        "answers": shares.kept,
        "accuracy": None if accuracy is None else accuracy.value,
        "low": None if accuracy is None else accuracy.low,
        "high": None if accuracy is None else accuracy.high,
        # Of no answer everything is true, and nothing shown.
        "held": None if accuracy is None else accuracy.value >= promise.target_accuracy,
        "texts": len(needs_review),
        "review_share": sent.value,
        "review_share_low": sent.low,
        "review_share_high": sent.high,
        "review_share_held": sent.value <= promise.validation_review_share,
    }


def promise_sentences(figures: Figures, split: str) -> tuple[str, str]:
    """The promise, and the verdict on both halves of it, each in a sentence."""
    target = percent(figures["target_accuracy"])
    promise = (
        f"Promised: at this setting the first answer is right for {target} of the texts that are not sent to review, "
        f"and {percent(figures['validation_review_share'])} of texts go to review (as counted on validation, where the "
        "line was chosen)."
    )
    if figures["held"] is None:
        return promise, f"On {split}: not put to the test, for every text goes to review."
    right = promise_verdict(figures["held"], possible=figures["high"] >= figures["target_accuracy"])
    sent = promise_verdict(figures["review_share_held"], possible=_sent_beyond_promise(figures).low <= 0)
    return promise, (
        f"On {split}: {right}. {percent(figures['accuracy'])} of {figures['answers']:,} first answers are right "
        f"(95 % interval {percent_interval(figures['low'], figures['high'])}). The share sent to review: {sent}. "
        f"{percent(figures['review_share'])} of {figures['texts']:,} texts go there "
        f"({percent_interval(figures['review_share_low'], figures['review_share_high'])})."
    )


def _sent_beyond_promise(figures: Figures) -> Interval:
    """The share sent to review less the one promised, which is a share of so many validation texts and as uncertain.

    Of releases that do not say how many, it is taken as exact.
    """
    share, texts = figures["validation_review_share"], figures.get("validation_texts")
    promised = Interval(share, *((share, share) if texts is None else wilson(share, texts)))
    sent = Interval(*(figures[f"review_share{end}"] for end in ("", "_low", "_high")))
    return difference(promised, sent)


def promise_verdict(held: bool, *, possible: bool) -> str:
    """What became of a figure that was promised.

    :param possible: whether the interval of what was measured, or of its difference from another measurement, reaches
        what was promised.
    """
    if held:
        return "held"
    return "not held, though by no more than chance explains" if possible else "not held"


def first_answers_right(scores: Scores, truth: Bools) -> Bools:
    """Whether the first answer to each text holds, shape (texts,)."""
    return top_is_right(truth, top_answers(scores.probabilities, scores.given))


def answer_confidence(calibration: Calibration, scores: Scores) -> Floats:
    """How sure each answer is, shape (texts,); zero for text in a language that the release cannot read."""
    confidence: Floats = np.where(scores.read, calibration.confidence(scores.probabilities), 0.0)
    return confidence


def risk_coverage(confidence: Floats, right: Bools) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of texts kept, surest first, and the share wrong among those kept (El-Yaniv and Wiener 2010)."""
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    return counts / len(order), np.cumsum(~right[order]) / counts


def objective_figures(
    calibration: Calibration, scores: Scores, truth: Bools, reasons: Sequence[str | None]
) -> dict[str, Figures]:
    """What each set of thresholds gives: precision and recall over all labels given, F1, false alarms."""
    figures = {}
    for name in calibration.objective_names:
        given = calibration.decide(scores.probabilities, name) & scores.read[:, None]
        figures[name] = _objective(given, truth, reasons) | {"target": calibration.objective_targets.get(name)}
    return figures


def _objective(given: Bools, truth: Bools, reasons: Sequence[str | None]) -> Figures:
    hits, labels = int((given & truth).sum()), int(given.sum())
    precision, recall = proportion(hits, labels, of_none=1.0), proportion(hits, int(truth.sum()))
    alarms = false_alarms(given, reasons)["all"]
    return {
        "precision": precision.value,
        "low": precision.low,
        "high": precision.high,
        "recall": recall.value,
        "recall_low": recall.low,
        "recall_high": recall.high,
        "weighted_f1": f1_figures(truth, given)["weighted_f1"],
        "false_alarms": alarms["share"],
        "false_alarms_low": alarms["low"],
        "false_alarms_high": alarms["high"],
        "labels": labels,
    }


def objectives_grid(figures: dict[str, Figures]) -> Grid:
    """The objectives beside each other."""
    rows = [
        (
            name,
            "" if row["target"] is None else f"precision {percent(row['target'])}: {_verdict(row)}",
            percent(row["precision"]),
            percent_interval(row["low"], row["high"]),
            percent(row["recall"]),
            f"{row['weighted_f1']:.3f}",
            percent(row["false_alarms"]),
        )
        for name, row in figures.items()
    ]
    heads = ("objective", "target", "precision", "95 % interval", "recall", "weighted F1", "eventless texts labelled")
    return Grid("by objective, over all labels given", heads, tuple(rows))


def _verdict(row: Figures) -> str:
    return "reached" if row["precision"] >= row["target"] else "not reached"
