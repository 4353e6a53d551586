"""Stage 7: what a release is worth on the test split, from its folder alone (no torch, no training run needed)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
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
from tocsin.taxonomy import Taxonomy
from tocsin_training import benchmark, plots, review, robustness
from tocsin_training.baselines import figures_of
from tocsin_training.calibrate import calibration_gain
from tocsin_training.config import DataSettings
from tocsin_training.corpus import FOREIGN, SPLITS, label_matrix, load_split
from tocsin_training.distil import Answer, read_teacher
from tocsin_training.metrics import (
    NONE,
    Interval,
    bootstrap_ece,
    bootstrap_f1,
    expected_calibration_error,
    f1_cost,
    f1_figures,
    false_alarms,
    label_rows,
    pool_bins,
    proportion,
    reliability,
    review_shares,
    several_events,
    top_answers,
    top_truth,
    wilson,
)
from tocsin_training.probes import read_sets
from tocsin_training.report import Grid, percent, percent_interval
from tocsin_training.run import Run

HEADLINES = (
    "weighted_f1",
    "macro_f1",
    "micro_f1",
    "exact_match",
    "top_answer_accuracy",
    "ece",
    "ece_event_types",
    "ece_no_event",
)
"""The figures that stand first wherever figures are told."""
CONFUSION = "confusion_matrix.png"
CASE = "CASE 2021 task 2, real news snippets"
_LEAST_DRAWN = 20
"""Answers below which a bin is not drawn by itself: its share is a handful's."""

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
    teacher_model: Answer | None = None,
) -> dict[str, Any]:
    """Every figure of a release on a split of the corpus and, where they are to be had, on other text.

    :param plot_folder: where to put the pictures; none draws nothing.
    :param rivals: measure simple baselines, too, which are fitted on the training split for that.
    :param teacher_logits: file that ``distil`` wrote; the teacher is measured where it has read the split.
    :param teacher_model: the teacher itself; it also answers the benchmark, to which the file has no answers.
    :raises InputError: there is no such split, the benchmark's file or the sets made for measuring cannot be read, or
        ``teacher_model`` answers for other labels than the release.
    """
    if split not in SPLITS:
        raise InputError(f"no split {split!r}; splits are: {', '.join(SPLITS)}")
    classifier = EventClassifier.load(release, threads=threads)
    # Before minutes of scoring that a fault in them would lose.
    case = _benchmark(data, classifier)
    sets = None if data.robustness is None else read_sets(data.robustness)
    records = load_split(data, split)
    ids, texts = list(records["id"]), list(records["text"])
    if teacher_model is None:
        teacher = _teacher_logits(teacher_logits, data, classifier, ids, texts)
    else:
        _check_teacher(data, classifier)
        teacher = teacher_model(texts)
    readings = classifier.read(texts)
    scores = classifier.answers(readings)
    truth = label_matrix(list(records["labels"]), classifier.taxonomy)
    reasons = list(records["reason"])
    figures: dict[str, Any] = {
        "model_version": classifier.version,
        "split": split,
        **split_figures(scores, truth, reasons, bootstrap_samples=bootstrap_samples),
        **setting_figures(classifier, scores, truth, reasons),
        # Text that is not read says nothing, and its probabilities mean nothing.
        "calibration": calibration_gain(
            classifier.release.calibration, readings.logits[scores.read], truth[scores.read]
        ),
        "several_events": _several_events(scores, truth, records["labels"]),
        "robustness": robustness.measure_robustness(
            classifier, records, scores, truth, sets=sets, bootstrap_samples=bootstrap_samples
        ),
    }
    if case is not None:
        figures["case2021"] = case_figures(classifier, case, bootstrap_samples=bootstrap_samples)
    if teacher is not None:
        figures["teacher"] = teacher_figures(teacher, scores.given, truth, reasons, samples=bootstrap_samples)
    if teacher_model is not None and case is not None:
        on_case = benchmark.forced_f1(teacher_model(case.texts), classifier.taxonomy, case.truth)
        figures["teacher"]["case_weighted_f1"] = on_case
    if rivals:
        from tocsin_training.baselines import measure_baselines

        train = load_split(data, "train")
        learned = label_matrix(list(train["labels"]), classifier.taxonomy)
        measured = measure_baselines(train, learned, records, truth, classifier.taxonomy, case)
        figures["rivals"] = [asdict(rival) for rival in measured]
    if plot_folder is not None:
        draw(scores, truth, plot_folder)
        draw_review(classifier, scores, truth, figures["review_promise"], plot_folder / LAYOUT.risk_coverage)
        robustness.draw(figures["robustness"], plot_folder / LAYOUT.robustness)
    return figures


def check_judges(data: DataSettings) -> None:
    """Read once what only an evaluation reads, before hours of training that a fault in it would keep from its end.

    :raises InputError: the benchmark's file, or a set made for measuring, is missing or faulty.
    """
    if data.benchmark is not None:
        benchmark.read_benchmark(data.benchmark)
    if data.robustness is not None:
        read_sets(data.robustness)


def case_figures(classifier: EventClassifier, case: benchmark.Benchmark, *, bootstrap_samples: int) -> dict[str, Any]:
    """Figures on real news, and what comes there of the promise that was made on the project's own text."""
    scores = classifier.score_batch(list(case.texts))
    found = asdict(benchmark.benchmark_figures(scores, case.truth, bootstrap_samples=bootstrap_samples))
    promise = classifier.release.calibration.review_promise
    right = benchmark.first_types(scores) == np.array(case.truth)
    kept = None if promise is None else review.promise_figures(promise, scores.needs_review, right)
    # As JSON has them, so that figures read back are the figures written.
    intervals = {name: list(ends) for name, ends in found["intervals"].items()}
    return found | {
        "intervals": intervals,
        "review_promise": kept,
        "false_alarms": false_alarms(scores.given, case.kinds),
        "confusions": benchmark.confusion_figures(scores, case.truth),
        "labels": benchmark.type_figures(scores, case.truth, samples=bootstrap_samples),
    }


def _teacher_logits(
    path: Path | None, data: DataSettings, classifier: EventClassifier, ids: Sequence[str], texts: Sequence[str]
) -> NDArray[np.float32] | None:
    """The teacher's answers to the texts; none where it has not read them all, or knows other labels."""
    if path is None or not path.is_file() or not _same_labels(data, classifier):
        return None
    logits = read_teacher(path, ids, texts, len(classifier.taxonomy.names), missing_allowed=True)
    if np.isnan(logits).any():
        _log.info("the teacher of %s has not read all of these texts, so it is not measured", path)
        return None
    return logits


def _check_teacher(data: DataSettings, classifier: EventClassifier) -> None:
    if not _same_labels(data, classifier):
        raise InputError(
            f"the teacher answers for the labels of {data.taxonomy}, which {classifier.version} has not, or not in its "
            "order; leave the teacher out, or give the recipe of the release"
        )


def _same_labels(data: DataSettings, classifier: EventClassifier) -> bool:
    """Whether a teacher of the recipe's labels can be held against the release."""
    return Taxonomy.load(data.taxonomy).names == classifier.taxonomy.names


def teacher_figures(
    logits: NDArray[np.float32],
    given: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    reasons: Sequence[str | None],
    *,
    samples: int,
) -> dict[str, float]:
    """The teacher on the same texts, labels given above a logit of zero, and what its pupil loses against it.

    :param logits: shape (texts, labels), as the release's ``given`` and ``truth``.
    """
    teacher = figures_of("the teacher", logits, truth, reasons)
    cost = f1_cost(truth, logits > 0, given, samples=samples)
    return {
        "weighted_f1": teacher.weighted_f1,
        "macro_f1": teacher.macro_f1,
        "false_alarms": teacher.false_alarms,
        "weighted_f1_cost": cost.value,
        "weighted_f1_cost_low": cost.low,
        "weighted_f1_cost_high": cost.high,
    }


def setting_figures(
    classifier: EventClassifier, scores: Scores, truth: NDArray[np.bool_], reasons: Sequence[str | None]
) -> dict[str, Any]:
    """Whether what the release's calibration promises holds here: the review line, and each set of thresholds."""
    calibration = classifier.release.calibration
    promise = calibration.review_promise
    right = review.first_answers_right(scores, truth)
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
    right = review.first_answers_right(scores, truth)
    reviewed = review_shares(scores.needs_review, right)
    own = np.array([reason != FOREIGN for reason in reasons])
    flagged = ~scores.read
    intervals = bootstrap_f1(truth, given, samples=bootstrap_samples) | {
        "top_answer_accuracy": proportion(int(right.sum()), len(right)),
        "ece": bootstrap_ece(probabilities, given, truth, samples=bootstrap_samples),
        "ece_no_event": _no_event_ece(scores, no_event, samples=bootstrap_samples),
        "ece_event_types": bootstrap_ece(
            scores.event_type_probabilities, *_event_types(scores, truth), samples=bootstrap_samples
        ),
        "review_share": reviewed.sent,
        "own_flagged_as_other": proportion(int(flagged[own].sum()), int(own.sum())),
        "other_flagged": proportion(int(flagged[~own].sum()), int((~own).sum())),
    }
    if reviewed.right is not None:
        intervals["accuracy_of_the_others"] = reviewed.right
    return {
        "texts": len(truth),
        "texts_without_event": int(no_event.sum()),
        **f1_figures(truth, given),
        "intervals": {name: [figure.low, figure.high] for name, figure in intervals.items()},
        "top_answer_accuracy": float(right.mean()),
        "ece": intervals["ece"].value,
        "ece_no_event": intervals["ece_no_event"].value,
        "ece_event_types": intervals["ece_event_types"].value,
        "reliability": {name: _bins(*answers) for name, answers in _stated(scores, truth).items()},
        "false_alarms": false_alarms(given, reasons),
        "review": {
            "share": reviewed.sent.value,
            "accuracy_of_the_others": None if reviewed.right is None else reviewed.right.value,
        },
        "language": {
            "own_flagged_as_other": intervals["own_flagged_as_other"].value,
            "other_flagged": intervals["other_flagged"].value if not own.all() else None,
        },
        "truncated_share": float(scores.truncated.mean()),
        "labels": label_rows(truth, given, scores.taxonomy.names, samples=bootstrap_samples),
    }


def _several_events(scores: Scores, truth: NDArray[np.bool_], labels: Iterable[Sequence[str]]) -> dict[str, Any] | None:
    """What is answered to texts that report several events; a record names the main one first."""
    main = np.array([scores.taxonomy.index(own[0]) if own else NONE for own in labels], dtype=np.intp)
    found = several_events(truth, scores.given, top_answers(scores.probabilities, scores.given), main)
    return None if found is None else asdict(found)


def _no_event_ece(scores: Scores, no_event: NDArray[np.bool_], *, samples: int) -> Interval:
    stated = scores.no_event[:, None]
    return bootstrap_ece(stated, np.ones_like(stated, dtype=np.bool_), no_event[:, None], samples=samples)


def _event_types(scores: Scores, truth: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Event types of the labels given, and of the true ones; each of shape (texts, event types)."""
    member = scores.taxonomy.parents[:, None] == np.arange(len(scores.taxonomy.event_types))
    # Of booleans a matrix product is "any".
    return scores.given @ member, truth @ member


def _stated(scores: Scores, truth: NDArray[np.bool_]) -> dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """For each kind of answer what it states and whether it held, as flat arrays."""
    types_given, true_types = _event_types(scores, truth)
    return {
        "labels given": (scores.probabilities[scores.given], truth[scores.given]),
        "event types of the labels given": (scores.event_type_probabilities[types_given], true_types[types_given]),
        "no event, all texts": (scores.no_event, ~np.any(truth, axis=1)),
    }


def _bins(stated: NDArray[np.float32], held: NDArray[np.bool_]) -> list[dict[str, float]]:
    """``reliability`` with intervals, under plain names."""
    rows = [(mean, share, count, *wilson(share, count)) for mean, share, count in reliability(stated, held)]
    return [dict(zip(("stated", "held", "n", "low", "high"), row, strict=True)) for row in rows]


def draw(scores: Scores, truth: NDArray[np.bool_], folder: Path) -> None:
    """Confusion matrix of first answers, and reliability of what is stated (``_stated``), as PNG files in a folder."""
    names = [*scores.taxonomy.names, "no event"]
    top = top_answers(scores.probabilities, scores.given)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    # NONE is -1, which is the last row and column: "no event".
    np.add.at(counts, (top_truth(truth, top), top), 1)
    plots.confusion_matrix(counts, names, folder / CONFUSION)
    panels = [_reliability(name, *answers) for name, answers in _stated(scores, truth).items()]
    plots.reliability_diagram(panels, folder / LAYOUT.reliability)


def _reliability(name: str, stated: NDArray[np.float32], held: NDArray[np.bool_]) -> plots.Reliability:
    pooled = pool_bins(reliability(stated, held), least=_LEAST_DRAWN)
    bins = [(mean, share, *wilson(share, count), count) for mean, share, count in pooled]
    return plots.Reliability(name, bins, expected_calibration_error(stated, held))


def draw_review(
    classifier: EventClassifier,
    scores: Scores,
    truth: NDArray[np.bool_],
    promise: dict[str, Any] | None,
    path: Path,
) -> None:
    """Risk-coverage curve of the first answers, with the release's setting on it."""
    right = review.first_answers_right(scores, truth)
    confidence = review.answer_confidence(classifier.release.calibration, scores)
    kept = ~scores.needs_review
    point = (float(kept.mean()), float((~right[kept]).mean()) if kept.any() else 0.0)
    promised = None if promise is None else 1 - promise["target_accuracy"]
    plots.risk_coverage(review.risk_coverage(confidence, right), point, promised, path)


def tables(figures: dict[str, Any]) -> list[Table | Grid]:
    """The figures as tables for people."""
    built: list[Table | Grid] = [_summary(figures), _per_label(figures["labels"], "by label"), alarms_grid(figures)]
    built.append(review.objectives_grid(figures["objectives"]))
    built += robustness.grids(figures["robustness"])
    if "case2021" in figures:
        case = figures["case2021"]
        built.append(case_grid(case))
        # Older runs lack them.
        if "labels" in case:
            built.append(_per_label(case["labels"], "CASE 2021 task 2, first answers by ACLED type"))
    if "rivals" in figures or "teacher" in figures:
        built.append(rivals_grid(figures))
    return built


_CASE_NAMES = {
    "forced_weighted_f1": "weighted F1, 25 types, the best one forced (as published figures are)",
    "forced_macro_f1": "macro F1, the same",
    "abstaining_weighted_f1": "weighted F1 where it may answer no event",
    "no_event_recall": "texts of other news that get no label",
    "all_weighted_f1": "weighted F1 over all texts, no event a class of its own",
    "exact_accuracy": "first answers that are the file's",
    "reviewed_share": "sent to review",
    "accuracy_of_the_others": "first answers right among the others",
    "first_answer_ece": "calibration error (ECE, 15 bins) of first answers",
    "read_accuracy": "first answers right where the text's language is read",
    "mean_confidence": "how sure those say they are, on average",
}


def case_grid(case: dict[str, Any]) -> Grid:
    """The benchmark's figures; manifests and older runs may lack some."""
    rows = [
        (said, _number(case[name]), " - ".join(map(_number, case.get("intervals", {}).get(name, ()))))
        for name, said in _CASE_NAMES.items()
        if name in case
    ]
    for kind, row in case.get("false_alarms", {}).items():
        if kind != "all":
            said = f"given a label, of {row['texts']} texts that the file calls {kind}"
            rows.append((said, _number(row["share"]), _ends(row)))
    for name, row in case.get("confusions", {}).items():
        rows.append((f"{name}: {row['count']} of {row['texts']} texts", _number(row["share"]), _ends(row)))
    title = f"CASE 2021 task 2: {case['texts']} real news snippets, {case['event_texts']} of them of an ACLED type"
    return Grid(title, ("", "value", "95 % interval"), rows)


_SEVERAL = {
    "main_first": "of texts with several events: main one answered first",
    "exact": "of those: labels exactly right",
}


def _summary(figures: dict[str, Any]) -> Table:
    table = Table("figure", "value", "95 % interval", title=f"{figures['model_version']} on {figures['split']}")
    intervals = figures["intervals"]
    for name in HEADLINES:
        # Older runs lack some.
        if name in figures:
            table.add_row(name.replace("_", " "), _number(figures[name]), " - ".join(map(_number, intervals[name])))
    if calibration := figures.get("calibration"):
        bare, fitted = calibration["uncalibrated"], calibration["calibrated"]
        table.add_row("ece of the same labels, uncalibrated", _number(bare["ece"]), "")
        table.add_row("log loss of every label, calibrated", f"{fitted['log_loss']:.4f}", "")
        table.add_row("the same, uncalibrated", f"{bare['log_loss']:.4f}", "")
    alarms, reviewed = figures["false_alarms"]["all"], figures["review"]
    for name, value, ends in (
        ("texts without event given a label", alarms["share"], (alarms["low"], alarms["high"])),
        ("sent to review", reviewed["share"], intervals["review_share"]),
        (
            "first answer right among the others",
            reviewed["accuracy_of_the_others"],
            intervals.get("accuracy_of_the_others", ()),
        ),
    ):
        table.add_row(name, _number(value), " - ".join(map(_number, ends)))
    for name, said in _SEVERAL.items():
        # Older runs lack them.
        if row := (figures.get("several_events") or {}).get(name):
            table.add_row(said, _number(row["value"]), " - ".join(map(_number, (row["low"], row["high"]))))
    if teacher := figures.get("teacher"):
        ends = (teacher["weighted_f1_cost_low"], teacher["weighted_f1_cost_high"])
        lost = "weighted F1 lost against the teacher"
        table.add_row(lost, _number(teacher["weighted_f1_cost"]), " - ".join(map(_number, ends)))
    for name, said in (
        ("own_flagged_as_other", "taken for another language"),
        ("other_flagged", "foreign texts flagged"),
    ):
        if (share := figures["language"][name]) is not None:
            table.add_row(said, _number(share), " - ".join(map(_number, intervals.get(name, ()))))
    table.add_row("texts", _number(figures["texts"]), "")
    return table


def _per_label(labels: dict[str, dict[str, float]], title: str) -> Table:
    table = Table("label", "precision", "recall", "F1", "95 % interval", "texts", title=title)
    for name, row in labels.items():
        numbers = (_number(row[key]) for key in ("precision", "recall", "f1"))
        table.add_row(name, *numbers, f"{row['low']:.3f} - {row['high']:.3f}", f"{row['support']:.0f}")
    return table


def alarms_grid(figures: dict[str, Any]) -> Grid:
    """False alarms for every reason to report no event."""
    rows = [
        (reason, percent(row["share"]), percent_interval(row["low"], row["high"]), str(row["texts"]))
        for reason, row in figures["false_alarms"].items()
    ]
    return Grid("texts without event, by reason", ("reason", "given a label", "95 % interval", "texts"), rows)


def rivals_grid(figures: dict[str, Any]) -> Grid:
    """The release beside the simple baselines and the teacher that were measured on the same texts."""
    case = figures.get("case2021", {}).get("forced_weighted_f1")
    own = [figures["weighted_f1"], figures["macro_f1"], figures["false_alarms"]["all"]["share"], case]
    measured = [[figures["model_version"], *own], *(list(rival.values()) for rival in figures.get("rivals", ()))]
    if teacher := figures.get("teacher"):
        values = [teacher.get(key) for key in ("weighted_f1", "macro_f1", "false_alarms", "case_weighted_f1")]
        unknown = case is not None and values[-1] is None
        measured.append([f"the teacher{' (CASE takes its model: --teacher-model)' if unknown else ''}", *values])
    heads = ("", "weighted F1", "macro F1", "eventless texts labelled", "CASE, forced")
    rows = [(name, *("" if value is None else _number(value) for value in values)) for name, *values in measured]
    return Grid("beside others, on the same texts", heads, rows)


def _ends(row: dict[str, float]) -> str:
    return f"{_number(row['low'])} - {_number(row['high'])}"


def _number(value: float | int | None) -> str:
    """A figure in a table; of none, as of answers that were all sent to review, that there are none."""
    if value is None:
        return "there are none"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the tables, and what became of the release's promise."""
    for table in tables(figures):
        console.print(table)
    if figures["review_promise"] is not None:
        for sentence in review.promise_sentences(figures["review_promise"], f"the {figures['split']} split"):
            console.print(sentence, markup=False)
        if "case2021" in figures:
            console.print(review.promise_sentences(figures["case2021"]["review_promise"], CASE)[1], markup=False)


def main(run: Run, console: Console) -> None:
    """Evaluate a run's release; figures go to metrics.json, pictures beside it."""
    settings = run.settings()
    figures = evaluate(
        run.release,
        settings.data,
        plot_folder=run.plots,
        bootstrap_samples=settings.evaluate.bootstrap_samples,
        threads=settings.evaluate.threads,
        rivals=settings.evaluate.rivals,
        teacher_logits=settings.finetune.teacher_logits,
    )
    run.record("evaluate", figures)
    show(figures, console)
