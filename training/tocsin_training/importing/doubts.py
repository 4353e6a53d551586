"""Labels that the words of their texts do not bear out, found by cleanlab (Northcutt et al. 2021, confident learning).

It needs probabilities that a model gives to texts it has not learned from: a logistic regression for each label on
TF-IDF, fitted on four fifths of the texts and asked about the rest, five times. That is a weak reader, and its doubts
are for a person to look at: nothing is left out or relabelled because of them.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from tocsin_training.baselines import word_pairs

MOST_TEXTS = 5000
_FOLDS = 5
_LEAST = 2 * _FOLDS
"""Texts with and without a label that it takes to judge it."""


def can_doubt() -> bool:
    """Whether cleanlab is installed."""
    return find_spec("cleanlab") is not None


def find_doubts(texts: list[str], truth: NDArray[np.bool_]) -> list[tuple[int, NDArray[np.bool_]]]:
    """Rows that are probably mislabelled, the surest first, each with the labels that are likely instead.

    :param truth: shape (texts, labels).
    """
    from cleanlab.multilabel_classification.filter import find_label_issues  # type: ignore[import-untyped]

    counts = truth.sum(axis=0)
    judged = np.flatnonzero((counts >= _LEAST) & (len(texts) - counts >= _LEAST))
    if len(judged) < 2 or len(texts) < _LEAST * _FOLDS:
        return []
    probabilities = _out_of_fold(texts, truth[:, judged])
    given = [np.flatnonzero(row).tolist() for row in truth[:, judged]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = find_label_issues(
            labels=given, pred_probs=probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
        )
    found = []
    for row in map(int, rows):
        likely = truth[row].copy()
        likely[judged] = probabilities[row] >= 0.5
        if (likely != truth[row]).any():
            found.append((row, likely))
    return found


def _out_of_fold(texts: list[str], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.multiclass import OneVsRestClassifier

    features = word_pairs().fit_transform(texts)
    model = OneVsRestClassifier(LogisticRegression(C=10, solver="liblinear"))
    folds = KFold(_FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # A fold may lack a rare label; it is then judged unlikely in that fold, which is what little there is to say.
        warnings.simplefilter("ignore")
        found = cross_val_predict(model, features, truth.astype(int), cv=folds, method="predict_proba")
    return np.clip(np.asarray(found, dtype=np.float64), 1e-6, 1 - 1e-6)
