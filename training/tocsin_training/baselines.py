"""Simple rivals on the same texts: what a fine-tuned encoder must beat to earn its keep.

    tocsin evaluate --rivals

Each learns from the training split (the keyword rules from the taxonomy alone) and answers with a score a label; those
above zero are given. None of them is calibrated or tuned beyond its library's defaults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tocsin.taxonomy import Label, Taxonomy
from tocsin_training.arrays import Bools, Floats
from tocsin_training.benchmark import Benchmark, forced_f1
from tocsin_training.metrics import f1_figures, false_alarms

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from tocsin_training._datasets import Dataset

Score = Callable[[Sequence[str]], Floats]
"""Texts to scores of shape (texts, labels)."""


@dataclass(frozen=True)
class BaselineFigures:
    """What one rival reaches."""

    name: str
    weighted_f1: float
    macro_f1: float
    false_alarms: float
    """Share of texts without event that are given a label."""
    case_weighted_f1: float | None
    """CASE 2021 with the best label forced, where its file is."""


def measure_baselines(
    train: Dataset, truth: Bools, test: Dataset, test_truth: Bools, taxonomy: Taxonomy, benchmark: Benchmark | None
) -> Iterator[BaselineFigures]:
    """Fit every rival on ``train`` and measure it on ``test`` and on the benchmark.

    :param truth: which labels are true, shape (records, labels); likewise ``test_truth``.
    """
    texts, reasons = list(test["text"]), list(test["reason"])
    rivals: dict[str, Callable[[], Score]] = {
        "keywords of the taxonomy": lambda: keyword_rules(taxonomy),
        "TF-IDF, linear SVM": lambda: tfidf_svm(list(train["text"]), truth),
        "frozen MiniLM, logistic regression": lambda: frozen_encoder(list(train["text"]), truth),
    }
    for name, fit in rivals.items():
        score = fit()
        case = None if benchmark is None else forced_f1(score(benchmark.texts), taxonomy, benchmark.truth)
        yield figures_of(name, score(texts), test_truth, reasons, case)


def figures_of(
    name: str, scores: Floats, truth: Bools, reasons: Sequence[str | None], case: float | None = None
) -> BaselineFigures:
    """The figures of one rival from its scores, shape (texts, labels); those above zero are given."""
    given = scores > 0
    figures = f1_figures(truth, given)
    alarms = false_alarms(given, reasons)["all"]["share"]
    return BaselineFigures(name, figures["weighted_f1"], figures["macro_f1"], alarms, case)


def _names(label: Label) -> set[str]:
    return {name for name in (label.name, label.sub_event_type, *label.aliases) if name}


def keyword_rules(taxonomy: Taxonomy) -> Score:
    """How often a label's name, ACLED's name for it or one of its aliases stands in a text."""
    patterns = [
        re.compile(r"\b(?:" + "|".join(map(re.escape, _names(label))) + r")s?\b", re.I) for label in taxonomy.labels
    ]

    def score(texts: Sequence[str]) -> Floats:
        return np.array([[len(pattern.findall(text)) for pattern in patterns] for text in texts], dtype=np.float32)

    return score


def tfidf_svm(texts: list[str], truth: Bools) -> Score:
    """One linear support vector machine a label on words and pairs of words weighted by TF-IDF."""
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    model = make_pipeline(word_pairs(), OneVsRestClassifier(LinearSVC())).fit(texts, truth)
    return lambda texts: np.asarray(model.decision_function(texts))


def word_pairs() -> TfidfVectorizer:
    """Words and pairs of words, weighted by TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)


def frozen_encoder(texts: list[str], truth: Bools) -> Score:
    """One logistic regression a label on mean token vectors of MiniLM as it comes, nothing of it trained."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    from tocsin_training.base import minilm_folder

    embed = _embedder(str(minilm_folder()))
    model = OneVsRestClassifier(LogisticRegression(C=10, max_iter=1000)).fit(embed(texts), truth)
    return lambda texts: np.asarray(model.decision_function(embed(texts)))


def _embedder(path: str) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    import torch

    from tocsin_training.model import EventModel, load_encoder, load_tokenizer, predict_logits

    encoder = load_encoder(path)
    size = encoder.config.hidden_size
    model = EventModel(encoder=encoder, labels=size)
    # A head that changes nothing: the "logits" are the pooled vectors themselves.
    model.head.load_state_dict({"weight": torch.eye(size), "bias": torch.zeros(size)})
    tokenizer = load_tokenizer(path)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = predict_logits(model, tokenizer, list(texts), max_tokens=128).numpy()
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    return embed
