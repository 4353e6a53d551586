"""Bootstrap over texts: each figure anew for many samples drawn with replacement (Efron 1979).

A draw is how often each text was taken, so a figure of all draws is a matrix product and not a loop. The same draws
for two models make the bootstrap a paired one: what both find hard or easy cancels out in the difference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocsin_training.arrays import Bools, Floats

CALIBRATION_BINS = 15
"""Of equal width, by which stated probabilities are held against what came of them (Guo et al. 2017)."""
# The same draws each time, so that a model has one interval and two models meet the same texts.
_SEED = 0


def draw_texts(texts: int, *, samples: int) -> NDArray[np.float32]:
    """How often each text was drawn, shape (samples, texts)."""
    counts = np.random.default_rng(_SEED).multinomial(texts, np.full(texts, 1 / texts), size=samples)
    return counts.astype(np.float32)


def f1_by_draw(draws: Floats, truth: Bools, given: Bools) -> dict[str, Floats]:
    """Weighted, macro and micro F1 of each draw; macro over the labels that are true or given in it, as in ``metrics``.

    :param truth: shape (texts, labels); ``given`` likewise.
    """
    hits, false, missed = _counts_by_draw(draws, truth, given)
    per_label, support = _f1(hits, false, missed), hits + missed
    met = (support + false > 0).sum(axis=1)
    return {
        "weighted_f1": (per_label * support).sum(axis=1) / np.maximum(support.sum(axis=1), 1),
        "macro_f1": per_label.sum(axis=1) / np.maximum(met, 1),
        "micro_f1": _f1(*(counts.sum(axis=1) for counts in (hits, false, missed))),
    }


def label_f1_by_draw(draws: Floats, truth: Bools, given: Bools) -> Floats:
    """F1 of each label in each draw, shape (samples, labels); NaN in draws in which no text has it or was given it."""
    hits, false, missed = _counts_by_draw(draws, truth, given)
    result: Floats = np.where(hits + false + missed > 0, _f1(hits, false, missed), np.nan)
    return result


def _counts_by_draw(draws: Floats, truth: Bools, given: Bools) -> tuple[Floats, Floats, Floats]:
    counts = np.stack([truth & given, ~truth & given, truth & ~given]).astype(np.float32)
    hits, false, missed = (draws @ count for count in counts)
    return hits, false, missed


def _f1(hits: Floats, false: Floats, missed: Floats) -> Floats:
    result: Floats = 2 * hits / np.maximum(2 * hits + false + missed, 1e-9)
    return result


def share_by_draw(draws: Floats, holds: Bools, among: Bools | None = None) -> Floats:
    """Share of texts of which something holds, in each draw.

    :param among: the texts that count; none: all.
    """
    counted = np.ones(len(holds), dtype=np.float32) if among is None else among.astype(np.float32)
    result: Floats = draws @ (holds * counted) / np.maximum(draws @ counted, 1)
    return result


def calibration_bin(probabilities: Floats) -> NDArray[np.intp]:
    """Bin of each probability, from 0. Bins are closed on the right, as in the paper, and the first one takes 0 too."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    place: NDArray[np.intp] = np.clip(np.digitize(probabilities, edges[1:-1], right=True), 0, CALIBRATION_BINS - 1)
    return place


def ece_by_draw(draws: Floats, probabilities: Floats, given: Bools, truth: Bools) -> Floats:
    """Calibration error of the labels given, in each draw; see ``metrics.expected_calibration_error``.

    :param probabilities: shape (texts, labels), as ``given`` and ``truth``.
    """
    place = calibration_bin(probabilities)
    gaps = np.zeros((len(given), CALIBRATION_BINS), dtype=np.float32)
    rows, columns = np.nonzero(given)
    # Stated less held, summed over the labels that a text has in a bin.
    np.add.at(gaps, (rows, place[rows, columns]), probabilities[rows, columns] - truth[rows, columns])
    result: Floats = np.abs(draws @ gaps).sum(axis=1) / np.maximum(draws @ given.sum(axis=1).astype(np.float32), 1)
    return result


def interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of a figure's draws; of those in which it could be measured, where NaN stands for the others."""
    known = values[~np.isnan(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)
