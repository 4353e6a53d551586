"""Stage 4: probabilities that mean what they say, thresholds, and the band that goes to review; all from validation.

It runs after the export, on the int8 model's own logits, since those are what users get.

With some labels seen ten times in validation, each label's own fit would be noise. One logistic regression therefore
fits a scale and a bias shared by all labels (Platt 1999; the shared scale is a temperature, Guo et al. 2017) together
with each label's departures from them, and its ridge penalty is a prior on the departures only: they stay near zero
unless the data insist.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression

from tocsin.calibration import Calibration, ReviewPromise
from tocsin.classifier import EventClassifier, Readings
from tocsin.drift import Profile
from tocsin.release import LAYOUT
from tocsin_training.arrays import Bools, Floats
from tocsin_training.config import CalibrateSettings
from tocsin_training.corpus import label_matrix, load_split
from tocsin_training.metrics import (
    calibration_figures,
    least_count,
    proportion,
    top_answers,
    top_is_right,
    wilson,
)
from tocsin_training.run import Run

_log = logging.getLogger(__name__)

GRID = np.round(np.arange(0.10, 0.901, 0.01), 2)
PRECISE_GRID = np.round(np.arange(0.10, 0.991, 0.01), 2)
PRECISION = "precision"
"""Name of the objective whose labels are seldom wrong."""
# A spread so wide that the ridge penalty on it is nothing: the shared scale is not shrunk.
_FREE = 100.0
_LEAST_SCALE = 0.05


def fit_calibration(
    logits: Floats, truth: Bools, settings: CalibrateSettings, *, readable: Bools | None = None
) -> Calibration:
    """Fit scales, biases, thresholds and the review band.

    :param logits: shape (texts, labels).
    :param truth: which labels hold, same shape.
    :param readable: whether each text is in one of the release's languages, shape (texts,); none: all are. The others
        get no label and always go to review, so nothing is fitted to them, and the promise counts them as sent.
    """
    if readable is not None:
        logits, truth = logits[readable], truth[readable]
    unread = 0 if readable is None else int((~readable).sum())
    scale, bias = fit_scales(logits, truth, settings)
    start = Calibration.identity(logits.shape[1]).model_copy(update={"scale": tuple(scale), "bias": tuple(bias)})
    probabilities = start.probabilities(logits)
    thresholds = fit_thresholds(probabilities, truth, prior=settings.threshold_prior)
    decided = start.model_copy(update={"thresholds": tuple(thresholds)})
    review_below, promise = fit_review(
        decided, probabilities, truth, settings.target_accuracy, unread=unread, low_end=settings.target_low_end
    )
    more: dict[str, Any] = {"review_below": review_below, "review_promise": promise}
    if settings.target_precision:
        precise = fit_precision(probabilities, truth, thresholds, settings)
        more |= {"objectives": {PRECISION: precise}, "objective_targets": {PRECISION: settings.target_precision}}
    # Through the validator once more: model_copy checks nothing.
    return Calibration.model_validate(decided.model_dump() | more)


def fit_scales(logits: Floats, truth: Bools, settings: CalibrateSettings) -> tuple[list[float], list[float]]:
    """Scale and bias of every label, shrunk to shared ones."""
    texts, labels = logits.shape
    if truth.all() or not truth.any():
        return [1.0] * labels, [0.0] * labels
    label_of = np.tile(np.arange(labels), texts)
    rows = np.arange(texts * labels)
    flat = logits.astype(np.float64).ravel()
    shared = csr_matrix(flat[:, None] * _FREE)
    own_bias = csr_matrix((np.full(len(rows), settings.bias_spread), (rows, label_of)))
    own_scale = csr_matrix((flat * settings.scale_spread, (rows, label_of)), shape=(len(rows), labels))
    features = hstack([shared, own_bias, own_scale]).tocsr()
    # C=1: the penalty is then that of a standard normal prior on each weight, so spreads are standard deviations.
    model = LogisticRegression(C=1.0, max_iter=1000, tol=1e-6).fit(features, truth.ravel())
    weights, intercept = model.coef_[0], float(model.intercept_[0])
    bias = intercept + weights[1 : labels + 1] * settings.bias_spread
    scale = weights[0] * _FREE + weights[labels + 1 :] * settings.scale_spread
    if scale.min() < _LEAST_SCALE:
        _log.warning("some logits hardly tell right from wrong; their scale is raised to %.2f", _LEAST_SCALE)
    return np.maximum(scale, _LEAST_SCALE).tolist(), bias.tolist()


def fit_thresholds(probabilities: Floats, truth: Bools, *, prior: float) -> list[float]:
    """Per label, the threshold with the best F1 when its own counts are mixed with ``prior`` pooled true examples.

    Few examples of its own: the threshold that is best for all labels together. Many: its own best. Ties go to the
    one nearest to the pooled best, for the best threshold is often a plateau.
    """
    given = probabilities[None] >= GRID[:, None, None].astype(np.float32)
    hits = (given & truth).sum(axis=1).astype(np.float64)
    false = (given & ~truth).sum(axis=1).astype(np.float64)
    missed = truth.sum(axis=0) - hits
    pooled = np.stack([part.sum(axis=1) for part in (hits, false, missed)]) / max(int(truth.sum()), 1)
    shared = _best(_f1(*pooled), centre=0.5)
    chosen = []
    for label in range(truth.shape[1]):
        own = np.stack([hits[:, label], false[:, label], missed[:, label]])
        chosen.append(_best(_f1(*(own + prior * pooled)), centre=shared))
    return chosen


def fit_precision(
    probabilities: Floats, truth: Bools, least: Sequence[float], settings: CalibrateSettings
) -> list[float]:
    """Per label, the lowest threshold at which the labels given are right as often as ``target_precision`` asks.

    A label's own counts are mixed with pooled ones as in ``fit_thresholds``. Thresholds that are chosen for looking
    good here look worse elsewhere, so what is asked of each is raised until the labels given, all told, reach the
    target with the low end of their interval.

    :param least: no threshold goes below its label's here, so that no label is given which the default would not give.
    """
    for asked in np.arange(settings.target_precision, 1.0, 0.0025):
        thresholds = _precise_thresholds(probabilities, truth, least, float(asked), prior=settings.threshold_prior)
        given = probabilities >= np.array(thresholds, dtype=np.float32)
        if proportion(int((given & truth).sum()), int(given.sum())).low >= settings.target_precision:
            return thresholds
    _log.warning("no thresholds reach a precision of %.2f for certain on validation", settings.target_precision)
    return thresholds


def _precise_thresholds(
    probabilities: Floats, truth: Bools, least: Sequence[float], asked: float, *, prior: float
) -> list[float]:
    given = probabilities[None] >= PRECISE_GRID[:, None, None].astype(np.float32)
    hits, labels = (given & truth).sum(axis=1), given.sum(axis=1)
    weight = prior / max(int(truth.sum()), 1)
    mixed = (hits + weight * hits.sum(axis=1, keepdims=True)) / np.maximum(
        labels + weight * labels.sum(axis=1, keepdims=True), 1e-9
    )
    chosen = []
    for column, lowest in enumerate(least):
        allowed = lowest <= PRECISE_GRID
        enough = allowed & (mixed[:, column] >= asked)
        # Where none is precise enough, the one that is most so.
        place = enough.argmax() if enough.any() else np.where(allowed, mixed[:, column], -1).argmax()
        chosen.append(float(PRECISE_GRID[place]))
    return chosen


def _f1(hits: Floats, false: Floats, missed: Floats) -> Floats:
    result: Floats = 2 * hits / np.maximum(2 * hits + false + missed, 1e-9)
    return result


def _best(scores: Floats, *, centre: float) -> float:
    tied = GRID[scores >= scores.max() - 1e-9]
    return float(tied[np.abs(tied - centre).argmin()])


def too_few_to_promise(texts: int, settings: CalibrateSettings) -> str | None:
    """Why so few validation texts cannot keep any text from review, and what to do; none where they can.

    ``fit_review`` sends everything to review where nothing can be promised, which is sound and comes as a surprise.
    """
    least = least_count(settings.target_accuracy)
    if not settings.target_low_end or texts >= least:
        return None
    return (
        f"{texts} validation texts are too few to promise that {settings.target_accuracy:.0%} of the answers kept from "
        f"review are right, so every text will go to review: it takes {least} such texts without a mistake. Code more, "
        "raise --held-out, ask for a smaller calibrate.target_accuracy in the recipe, or say target_low_end = false "
        "there, which promises what these few texts show"
    )


def fit_review(
    calibration: Calibration,
    probabilities: Floats,
    truth: Bools,
    target: float,
    *,
    unread: int = 0,
    low_end: bool = False,
) -> tuple[float, ReviewPromise]:
    """The lowest confidence at which the answers from there upwards are right as often as promised.

    :param unread: further texts that go to review whatever the line, for their language.
    :param low_end: ask the low end of the share's 95 % interval to reach the target, and not only the share among
        these very texts. A promise so made is kept more often; but even without a mistake that end reaches 95 % only
        from 73 texts upwards and 98 % from 189, so with few texts of one's own all of them would go to review.
    :return: ``review_below`` and what it kept on these very texts. If no cut keeps the promise, everything goes to
    review.
    """
    given = calibration.decide(probabilities)
    right = top_is_right(truth, top_answers(probabilities, given))
    confidence = calibration.confidence(probabilities)
    order = np.argsort(-confidence, kind="stable")
    running = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Texts of equal confidence are kept or sent together, so only the last of each run may be the cut.
    ordered = confidence[order]
    last_of_run = np.append(ordered[1:] < ordered[:-1], True)
    counted = np.array([wilson(share, count)[0] for count, share in enumerate(running, 1)]) if low_end else running
    kept = np.flatnonzero((counted >= target) & last_of_run)
    texts = len(order) + unread
    if not len(kept):
        return 1.0, ReviewPromise(
            target_accuracy=target, validation_accuracy=1.0, validation_review_share=1.0, validation_texts=texts
        )
    cut = int(kept[-1])
    promise = ReviewPromise(
        target_accuracy=target,
        validation_accuracy=float(running[cut]),
        validation_review_share=1 - (cut + 1) / texts,
        validation_texts=texts,
    )
    # Half-way to the next lower confidence: the file holds decimals, and none of the kept texts may fall to rounding.
    below = float(ordered[cut + 1]) if cut + 1 < len(ordered) else 0.0
    return (float(ordered[cut]) + below) / 2, promise


def calibrate(
    classifier: EventClassifier, readings: Readings, labels: list[list[str]], settings: CalibrateSettings
) -> tuple[Calibration, dict[str, Any]]:
    """A release's calibration by what it read of the validation split, and how it then answers.

    :param labels: the true ones of each text.
    """
    truth, logits = label_matrix(labels, classifier.taxonomy), readings.logits
    # What users meet: text in another language gets no label and always goes to review.
    readable = classifier.answers(readings).read
    calibration = fit_calibration(logits, truth, settings, readable=readable)
    return calibration, {
        **calibration_gain(calibration, logits[readable], truth[readable]),
        "objectives": list(calibration.objectives),
        "review": None if calibration.review_promise is None else calibration.review_promise.model_dump(),
    }


def calibration_gain(calibration: Calibration, logits: Floats, truth: Bools) -> dict[str, dict[str, float]]:
    """What calibration does to the same answers: ``calibration_figures`` of bare sigmoids and of its probabilities.

    :param logits: of texts that are read, shape (texts, labels), as ``truth``.
    """
    probabilities = calibration.probabilities(logits)
    given = calibration.decide(probabilities)
    bare = Calibration.identity(logits.shape[1]).probabilities(logits)
    return {
        "uncalibrated": calibration_figures(bare, given, truth),
        "calibrated": calibration_figures(probabilities, given, truth),
    }


def main(run: Run) -> None:
    """Calibrate the release on the validation split and record how it then answers; its fp32 twin gets the same."""
    settings = run.settings()
    validation = load_split(settings.data, "validation")
    classifier = EventClassifier.load(run.release, threads=settings.evaluate.threads)
    readings = classifier.read(validation["text"])
    calibration, figures = calibrate(classifier, readings, list(validation["labels"]), settings.calibrate)
    run.amend(lambda folder: calibration.save(folder / LAYOUT.calibration))
    # The same readings, answered as users will be answered.
    profile = Profile.of(EventClassifier.load(run.release).answers(readings))
    run.amend(lambda folder: profile.save(folder / LAYOUT.profile))
    run.record("calibrate", figures)
    bare, fitted = figures["uncalibrated"], figures["calibrated"]
    _log.info(
        "on validation, of the same labels: log loss %.4f -> %.4f, calibration error %.3f -> %.3f",
        *(bare["log_loss"], fitted["log_loss"], bare["ece"], fitted["ece"]),
    )
