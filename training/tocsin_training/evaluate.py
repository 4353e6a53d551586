"""Stage 7: what a release is worth on the test split, from its folder alone (no torch, no training run needed)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tocsin.classifier import EventClassifier, Scores
from tocsin.errors import InputError
from tocsin.release import LAYOUT
from tocsin_training import benchmark, plots, review, robustness
from tocsin_training.config import DataSettings
from tocsin_training.corpus import FOREIGN, SPLITS, label_matrix, limit, load_corpus
from tocsin_training.distil import read_teacher
from tocsin_training.metrics import (
    bootstrap_f1,
    expected_calibration_error,
    f1_figures,
    false_alarms,
    label_figures,
    reliability,
    review_figures,
    top_answers,
    top_is_right,
    top_truth,
)
from tocsin_training.report import Grid
from tocsin_training.run import Run

CONFUSION, RELIABILITY = "confusion_matrix.png", "reliability.png"

_log = logging.getLogger(__name__)


def evaluate(
    release: Path,
    data: DataSettings,
    *,
    split: str = "test",
    plot_folder: Path | None = None,
    bootstrap_samples: int = 1000,
    threads: int = 1,
    rivals: bool = False,
    teacher_logits: Path | None = None,
) -> dict[str, Any]:
    """Every figure of a release on a split of the corpus and, where they are to be had, on other text.

    :param plot_folder: where to put the pictures; none draws nothing.
    :param rivals: measure simple baselines, too, which are fitted on the training split for that, and the teacher.
    :param teacher_logits: file that ``distil`` wrote.
    :raises InputError: there is no such split.
    """
    if split not in SPLITS:
        raise InputError(f"no split {split!r}; splits are: {', '.join(SPLITS)}")
    classifier = EventClassifier.load(release, threads=threads)
    corpus = limit(load_corpus(data.corpus), data)
    records = corpus[split]
    scores = classifier.score_batch(list(records["text"]))
    truth = label_matrix(list(records["labels"]), classifier.taxonomy)
    reasons = list(records["reason"])
    figures: dict[str, Any] = {
        "model_version": classifier.version,
        "split": split,
        **split_figures(scores, truth, reasons, bootstrap_samples=bootstrap_samples),
        **setting_figures(classifier, scores, truth, reasons),
        "robustness": robustness.measure_robustness(
            classifier, records, scores, truth, folder=data.robustness, bootstrap_samples=bootstrap_samples
        ),
    }
    case = _benchmark(data, classifier)
    if case is not None:
        figures["case2021"] = asdict(benchmark.score_benchmark(classifier, case))
    if rivals:
        from tocsin_training.baselines import figures_of, measure_baselines

        learned = label_matrix(list(corpus["train"]["labels"]), classifier.taxonomy)
        measured = list(measure_baselines(corpus["train"], learned, records, truth, classifier.taxonomy, case))
        if teacher_logits is not None:
            ids, texts = list(records["id"]), list(records["text"])
            teacher = read_teacher(teacher_logits, ids, texts, len(classifier.taxonomy.labels))
            measured.append(figures_of("the teacher", teacher, truth, reasons))
        figures["rivals"] = [asdict(rival) for rival in measured]
    if plot_folder is not None:
        draw(scores, truth, plot_folder)
        draw_review(classifier, scores, truth, figures["review_promise"], plot_folder / LAYOUT.risk_coverage)
        robustness.draw(figures["robustness"], plot_folder / LAYOUT.robustness)
    return figures


def setting_figures(
    classifier: EventClassifier, scores: Scores, truth: NDArray[np.bool_], reasons: Sequence[str | None]
) -> dict[str, Any]:
    """Whether what the release's calibration promises holds here: the review line, and each set of thresholds."""
    calibration = classifier.release.calibration
    promise = calibration.review_promise
    right = top_is_right(truth, top_answers(scores.probabilities, scores.given))
    return {
        "review_promise": None if promise is None else review.promise_figures(promise, scores.needs_review, right),
        "objectives": review.objective_figures(calibration, scores, truth, reasons),
    }


def _benchmark(data: DataSettings, classifier: EventClassifier) -> benchmark.Benchmark | None:
    """The CASE 2021 file, if there is one and the release answers in the vocabulary in which it is labelled."""
    if data.benchmark is None:
        return None
    if not classifier.taxonomy.has_acled_names:
        _log.warning("%s is left out: it asks for ACLED's types, which %s lacks", data.benchmark, classifier.version)
        return None
    return benchmark.read_benchmark(data.benchmark)


def split_figures(
    scores: Scores,
    truth: NDArray[np.bool_],
    reasons: Sequence[str | None],
    *,
    bootstrap_samples: int,
) -> dict[str, Any]:
    """All figures from answers and truth, as plain numbers under plain names.

    :param reasons: of records without event; none for the others.
    """
    given, probabilities = scores.given, scores.probabilities
    no_event: NDArray[np.bool_] = ~np.any(truth, axis=1)
    right = top_is_right(truth, top_answers(probabilities, given))
    own = np.array([reason != FOREIGN for reason in reasons])
    flagged = ~scores.read
    return {
        "texts": len(truth),
        "texts_without_event": int(no_event.sum()),
        **f1_figures(truth, given),
        "intervals": {
            name: [interval.low, interval.high]
            for name, interval in bootstrap_f1(truth, given, samples=bootstrap_samples).items()
        },
        "top_answer_accuracy": float(right.mean()),
        "ece": expected_calibration_error(probabilities[given], truth[given]),
        "ece_no_event": expected_calibration_error(scores.no_event, no_event),
        "false_alarms": false_alarms(given, reasons),
        "review": review_figures(scores.needs_review, right),
        "language": {
            "own_flagged_as_other": float(flagged[own].mean()) if own.any() else 0.0,
            "other_flagged": float(flagged[~own].mean()) if not own.all() else None,
        },
        "truncated_share": float(scores.truncated.mean()),
        "labels": label_figures(truth, given, scores.taxonomy.names),
    }


def draw(scores: Scores, truth: NDArray[np.bool_], folder: Path) -> None:
    """Confusion matrix of first answers and reliability diagram of the labels given, as PNG files in a folder."""
    names = [*scores.taxonomy.names, "no event"]
    top = top_answers(scores.probabilities, scores.given)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    # NONE is -1, which is the last row and column: "no event".
    np.add.at(counts, (top_truth(truth, top), top), 1)
    plots.confusion_matrix(counts, names, folder / CONFUSION)
    stated, held = scores.probabilities[scores.given], truth[scores.given]
    error = expected_calibration_error(stated, held)
    plots.reliability_diagram(reliability(stated, held), error, folder / RELIABILITY)


def draw_review(
    classifier: EventClassifier,
    scores: Scores,
    truth: NDArray[np.bool_],
    promise: dict[str, Any] | None,
    path: Path,
) -> None:
    """Risk-coverage curve of the first answers, with the release's setting on it."""
    right = top_is_right(truth, top_answers(scores.probabilities, scores.given))
    confidence = review.answer_confidence(classifier.release.calibration, scores)
    kept = ~scores.needs_review
    point = (float(kept.mean()), float((~right[kept]).mean()) if kept.any() else 0.0)
    promised = None if promise is None else 1 - promise["target_accuracy"]
    plots.risk_coverage(review.risk_coverage(confidence, right), point, promised, path)


def tables(figures: dict[str, Any]) -> list[Table | Grid]:
    """The figures as tables for people."""
    built: list[Table | Grid] = [_summary(figures), _per_label(figures), _alarms(figures)]
    built.append(review.objectives_grid(figures["objectives"]))
    built += robustness.grids(figures["robustness"])
    if "case2021" in figures:
        case = Table("CASE 2021 task 2", "", title="news snippets, one ACLED type each")
        for name, value in figures["case2021"].items():
            case.add_row(name.replace("_", " "), _number(value))
        built.append(case)
    if "rivals" in figures:
        built.append(_rivals(figures))
    return built


def _summary(figures: dict[str, Any]) -> Table:
    table = Table("figure", "value", "95 % interval", title=f"{figures['model_version']} on {figures['split']}")
    intervals = figures["intervals"]
    for name in ("weighted_f1", "macro_f1", "micro_f1", "exact_match", "top_answer_accuracy", "ece", "ece_no_event"):
        low_high = " - ".join(map(_number, intervals[name])) if name in intervals else ""
        table.add_row(name.replace("_", " "), _number(figures[name]), low_high)
    table.add_row("texts without event given a label", _number(figures["false_alarms"]["all"]["share"]), "")
    table.add_row("sent to review", _number(figures["review"]["share"]), "")
    kept = figures["review"]["accuracy_of_the_others"]
    table.add_row("first answer right among the others", "there are none" if kept is None else _number(kept), "")
    table.add_row("taken for another language", _number(figures["language"]["own_flagged_as_other"]), "")
    if figures["language"]["other_flagged"] is not None:
        table.add_row("foreign texts flagged", _number(figures["language"]["other_flagged"]), "")
    table.add_row("texts", _number(figures["texts"]), "")
    return table


def _per_label(figures: dict[str, Any]) -> Table:
    table = Table("label", "precision", "recall", "F1", "texts", title="by label")
    for name, row in figures["labels"].items():
        table.add_row(name, *(_number(row[key]) for key in ("precision", "recall", "f1")), f"{row['support']:.0f}")
    return table


def _alarms(figures: dict[str, Any]) -> Table:
    table = Table("reason for no event", "given a label", "texts", title="false alarms")
    for reason, row in figures["false_alarms"].items():
        table.add_row(reason, _number(row["share"]), f"{row['texts']}")
    return table


def _rivals(figures: dict[str, Any]) -> Table:
    table = Table("", "weighted F1", "macro F1", "false alarms", "CASE, forced", title="against rivals")
    case = figures.get("case2021", {}).get("forced_weighted_f1")
    own = [figures["weighted_f1"], figures["macro_f1"], figures["false_alarms"]["all"]["share"], case]
    rows = [[figures["model_version"], *own], *(list(rival.values()) for rival in figures["rivals"])]
    for name, *values in rows:
        table.add_row(name, *("" if value is None else _number(value) for value in values))
    return table


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the tables, and what became of the release's promise."""
    for table in tables(figures):
        console.print(table)
    if figures["review_promise"] is not None:
        for sentence in review.promise_sentences(figures["review_promise"], f"the {figures['split']} split"):
            console.print(sentence, markup=False)


def main(run: Run, console: Console) -> None:
    """Evaluate a run's release; figures go to metrics.json, pictures beside it."""
    settings = run.settings()
    figures = evaluate(
        run.release,
        settings.data,
        plot_folder=run.plots,
        bootstrap_samples=settings.evaluate.bootstrap_samples,
        threads=settings.evaluate.threads,
    )
    run.record("evaluate", figures)
    show(figures, console)
