"""Whether a challenger may take the champion's place: both releases on the same held-out text.

Three questions are kept apart. How large is the difference? (the figure, with a paired bootstrap interval). May it be
chance? (McNemar's exact test on answers that only one of the two got right; McNemar 1947). Is it too large a loss?
(the margins of the recipe's ``[compare]``). Only the third decides, so a small test set cannot hide a loss behind its
own uncertainty; except for single labels, which often rest on a dozen texts: there chance must be ruled out as well,
at a false discovery rate over all labels (Benjamini and Hochberg 1995).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, false_discovery_control  # type: ignore[import-untyped]

from tocsin.classifier import EventClassifier, Scores
from tocsin.errors import TaxonomyError
from tocsin.release import Release
from tocsin.taxonomy import Taxonomy
from tocsin_training.arrays import Bools
from tocsin_training.config import CompareSettings, DataSettings, Settings
from tocsin_training.corpus import corpus_sha256
from tocsin_training.errors import ComparisonError
from tocsin_training.evaluate import split_figures
from tocsin_training.heldout import HeldOut, read_corpus, read_file
from tocsin_training.importing.options import ImportOptions
from tocsin_training.metrics import f1_figures, label_figures, reliability
from tocsin_training.resample import draw_texts, ece_by_draw, f1_by_draw, interval, share_by_draw
from tocsin_training.review import first_answers_right

Verdict = Literal["better", "about the same", "no difference shown", "worse, but allowed", "worse", "not known"]

_TIMED_TEXTS = 128
_TIMED_ROUNDS = 3
_EXAMPLES = 40


@dataclass(frozen=True)
class Figure:
    """One figure of both releases. ``low`` and ``high`` bound the difference, challenger less champion (95 %)."""

    name: str
    champion: float | None
    """None, as the challenger's: there was nothing to measure it on."""
    challenger: float | None
    higher_is_better: bool
    low: float | None
    high: float | None
    margin: float | None
    """Loss that is allowed; none: the figure is told but decides nothing."""
    p: float | None = None
    """McNemar's, where the figure is a share of texts."""

    @property
    def difference(self) -> float | None:
        """Challenger less champion; none where either is not known."""
        return None if self.champion is None or self.challenger is None else self.challenger - self.champion

    @property
    def verdict(self) -> Verdict:
        """What the difference means for the challenger."""
        sign = 1 if self.higher_is_better else -1
        if self.difference is None:
            return "not known"
        if self.margin is not None and sign * self.difference < -self.margin:
            return "worse"
        if self.low is None or self.high is None:
            return "better" if sign * self.difference > (self.margin or 0) else "about the same"
        worst, best = sorted((sign * self.low, sign * self.high))
        return "better" if worst > 0 else "worse, but allowed" if best < 0 else "no difference shown"


@dataclass(frozen=True)
class LabelChange:
    """One label. ``gained`` and ``lost``: texts on which only the challenger, or only the champion, was right."""

    name: str
    texts: int
    champion: float
    challenger: float
    gained: int
    lost: int
    p: float
    adjusted_p: float
    """Benjamini-Hochberg, over all labels."""
    worse: bool
    """Below the champion by more than the margin, and not by chance."""


@dataclass(frozen=True)
class Example:
    """A text that the champion answered rightly and the challenger does not."""

    text: str
    truth: tuple[str, ...]
    champion: tuple[str, ...]
    challenger: tuple[str, ...]
    certainty: float
    """How sure the challenger is of its answer (`Scores.confidence`): sure mistakes are the bad ones."""


@dataclass(frozen=True)
class Side:
    """One of the two releases."""

    name: str
    digest: str
    texts_per_second: float
    bytes: int
    figures: dict[str, Any]
    """As ``evaluate`` gives them."""
    recorded: dict[str, float]
    """What its manifest says and nothing here can measure: cost of int8, robustness, the benchmark."""
    reliability: list[tuple[float, float, int]]
    corpus: str
    """SHA-256 of the corpus that it was trained on."""


@dataclass(frozen=True)
class Comparison:
    """The whole of it."""

    data: str
    texts: int
    champion: Side
    challenger: Side
    agreement: float
    """Share of texts that both give the same set of labels."""
    figures: tuple[Figure, ...]
    labels: tuple[LabelChange, ...]
    lost: tuple[Example, ...]
    lost_count: int
    gained_count: int

    @property
    def faults(self) -> tuple[str, ...]:
        """Each margin that was missed, in words; none: the challenger may be promoted."""
        figures = [
            f"{row.name} {row.champion:.4g} -> {row.challenger:.4g}, allowed loss {row.margin:.4g}"
            for row in self.figures
            if row.verdict == "worse"
        ]
        labels = [
            f"{row.name}: F1 {row.champion:.2f} -> {row.challenger:.2f} ({row.lost} texts lost, {row.gained} gained)"
            for row in self.labels
            if row.worse
        ]
        return (*figures, *labels)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        rows = [asdict(row) | {"difference": row.difference, "verdict": row.verdict} for row in self.figures]
        return asdict(self) | {"figures": rows, "promotable": not self.faults, "faults": list(self.faults)}


def compare(
    champion: EventClassifier,
    challenger: EventClassifier,
    held_out: HeldOut,
    settings: CompareSettings,
    *,
    bootstrap_samples: int = 1000,
) -> Comparison:
    """Hold two releases against each other.

    :param held_out: read with the champion's taxonomy.
    :raises ComparisonError: their labels are not the same.
    """
    check_same_labels(champion.taxonomy, challenger.taxonomy)
    speeds = measure_speeds([champion, challenger], held_out.texts[:_TIMED_TEXTS])
    old = champion.score_batch(held_out.texts)
    new = align(challenger.score_batch(held_out.texts), champion.taxonomy)
    before, after = (
        _side(classifier, scores, held_out, speed, bootstrap_samples)
        for classifier, scores, speed in zip((champion, challenger), (old, new), speeds, strict=True)
    )
    old_right, new_right = (np.all(scores.given == held_out.truth, axis=1) for scores in (old, new))
    draws = draw_texts(len(held_out), samples=bootstrap_samples)
    return Comparison(
        data=held_out.name,
        texts=len(held_out),
        champion=before,
        challenger=after,
        agreement=float(np.all(old.given == new.given, axis=1).mean()),
        figures=(*_figures(old, new, held_out, settings, draws), *_costs(before, after, settings)),
        labels=tuple(_label_changes(old, new, held_out.truth, settings)),
        lost=tuple(_examples(old, new, held_out, old_right & ~new_right)),
        lost_count=int((old_right & ~new_right).sum()),
        gained_count=int((new_right & ~old_right).sum()),
    )


def check_same_labels(champion: Taxonomy, challenger: Taxonomy) -> None:
    """Refuse releases that answer different questions.

    :raises ComparisonError: naming the labels that only one of them has.
    """
    old, new = set(champion.names), set(challenger.names)
    if old != new:
        raise ComparisonError(
            "the two releases have different labels, so their figures cannot be compared; only the champion's: "
            f"{', '.join(sorted(old - new)) or 'none'}; only the challenger's: {', '.join(sorted(new - old)) or 'none'}"
        )


def align(scores: Scores, taxonomy: Taxonomy) -> Scores:
    """The same answers with labels in the order of another taxonomy of the same labels."""
    order = [scores.taxonomy.index(name) for name in taxonomy.names]
    return replace(
        scores, taxonomy=taxonomy, probabilities=scores.probabilities[:, order], given=scores.given[:, order]
    )


def measure_speeds(
    classifiers: Sequence[EventClassifier],
    texts: Sequence[str],
    *,
    rounds: int = _TIMED_ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Texts a second of each. They take turns and the best turn counts, so that other work on the machine hits all.

    :param clock: seconds; of one thread, ``time.process_time`` hardly notices other work.
    """
    seconds = [[_seconds(classifier, texts, clock) for classifier in classifiers] for _ in range(rounds)]
    return [len(texts) / best for best in np.min(seconds, axis=0)]


def _seconds(classifier: EventClassifier, texts: Sequence[str], clock: Callable[[], float]) -> float:
    begun = clock()
    classifier.score_batch(texts)
    return clock() - begun


def mcnemar(old_right: Bools, new_right: Bools) -> float:
    """Two-sided exact p of McNemar's test: were the answers that only one got right split like coin tosses?"""
    lost, gained = int((old_right & ~new_right).sum()), int((new_right & ~old_right).sum())
    return float(binomtest(gained, lost + gained).pvalue) if lost + gained else 1.0


def _side(classifier: EventClassifier, scores: Scores, held_out: HeldOut, speed: float, bootstrap_samples: int) -> Side:
    release, given = classifier.release, scores.given
    return Side(
        name=classifier.version,
        digest=release.digest,
        texts_per_second=speed,
        bytes=release.size,
        figures=split_figures(scores, held_out.truth, held_out.reasons, bootstrap_samples=bootstrap_samples),
        recorded=recorded_figures(release),
        reliability=reliability(scores.probabilities[given], held_out.truth[given]),
        corpus=release.manifest.corpus.sha256,
    )


def recorded_figures(release: Release) -> dict[str, float]:
    """Figures of the manifest that need more than the release and plain text to measure; empty where none are there."""
    metrics = release.manifest.metrics
    kept: dict[str, Any] = {
        name: metrics[name] for name in ("int8_f1_cost", "robustness", "case2021") if name in metrics
    }
    return dict(_flat(kept))


def _flat(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}".replace("_", " "), float(value)


def _figures(
    old: Scores, new: Scores, held_out: HeldOut, settings: CompareSettings, draws: NDArray[np.float32]
) -> Iterator[Figure]:
    truth, everyone = held_out.truth, np.ones(len(held_out), dtype=np.bool_)
    eventless: Bools = ~np.any(truth, axis=1)
    yield from _f1_rows(old, new, truth, settings, draws)
    yield _share("exactly right", lambda scores: np.all(scores.given == truth, axis=1), everyone, None, old, new, draws)
    yield _share(
        "first answer right",
        lambda scores: first_answers_right(scores, truth),
        everyone,
        settings.top_answer_accuracy,
        old,
        new,
        draws,
    )
    yield _ece_row(old, new, truth, settings, draws)
    alarms = _share(
        "no-event texts given a label",
        lambda scores: np.any(scores.given, axis=1),
        eventless,
        settings.false_alarms,
        old,
        new,
        draws,
    )
    yield replace(alarms, higher_is_better=False)
    review = _share("sent to review", lambda scores: scores.needs_review, everyone, None, old, new, draws)
    yield replace(review, higher_is_better=False)


def _f1_rows(
    old: Scores, new: Scores, truth: Bools, settings: CompareSettings, draws: NDArray[np.float32]
) -> Iterator[Figure]:
    before, after = f1_figures(truth, old.given), f1_figures(truth, new.given)
    drawn_before, drawn_after = f1_by_draw(draws, truth, old.given), f1_by_draw(draws, truth, new.given)
    for name, margin in (("weighted_f1", settings.weighted_f1), ("macro_f1", settings.macro_f1), ("micro_f1", None)):
        low, high = interval(drawn_after[name] - drawn_before[name])
        yield Figure(name.replace("_f1", " F1"), before[name], after[name], True, low, high, margin)


def _share(
    name: str,
    holds: Callable[[Scores], Bools],
    among: Bools,
    margin: float | None,
    old: Scores,
    new: Scores,
    draws: NDArray[np.float32],
) -> Figure:
    """A share of texts, with McNemar's test."""
    before, after = holds(old), holds(new)
    low, high = interval(share_by_draw(draws, after, among) - share_by_draw(draws, before, among))
    if not among.any():
        return Figure(name, None, None, True, None, None, margin)
    values = [float(held[among].mean()) for held in (before, after)]
    return Figure(name, values[0], values[1], True, low, high, margin, p=mcnemar(before[among], after[among]))


def _ece_row(old: Scores, new: Scores, truth: Bools, settings: CompareSettings, draws: NDArray[np.float32]) -> Figure:
    once = np.ones((1, len(truth)), dtype=np.float32)
    before, after, drawn_before, drawn_after = (
        ece_by_draw(counts, scores.probabilities, scores.given, truth)
        for counts in (once, draws)
        for scores in (old, new)
    )
    name, gives = "calibration error (ECE)", [bool(scores.given.any()) for scores in (old, new)]
    if not all(gives):
        # Who gives no label states no probability that could be wrong, and is not calibrated by that.
        known = [
            float(error[0]) if any_given else None for error, any_given in zip((before, after), gives, strict=True)
        ]
        return Figure(name, known[0], known[1], False, None, None, settings.ece)
    low, high = interval(drawn_after - drawn_before)
    return Figure(name, float(before[0]), float(after[0]), False, low, high, settings.ece)


def _costs(champion: Side, challenger: Side, settings: CompareSettings) -> Iterator[Figure]:
    """Speed and size. They are measured, not drawn from texts, so they have no interval; margins are shares."""
    speed, size = champion.texts_per_second, champion.bytes / 1e6
    yield Figure("texts a second", speed, challenger.texts_per_second, True, None, None, settings.speed * speed)
    yield Figure("megabytes", size, challenger.bytes / 1e6, False, None, None, settings.size * size)


def _label_changes(old: Scores, new: Scores, truth: Bools, settings: CompareSettings) -> Iterator[LabelChange]:
    names = old.taxonomy.names
    before, after = label_figures(truth, old.given, names), label_figures(truth, new.given, names)
    old_right, new_right = old.given == truth, new.given == truth
    chances = [mcnemar(old_right[:, column], new_right[:, column]) for column in range(len(names))]
    adjusted = false_discovery_control(chances)
    for column, name in enumerate(names):
        f1, f1_after = before[name]["f1"], after[name]["f1"]
        unlikely = adjusted[column] <= settings.label_false_discoveries
        yield LabelChange(
            name=name,
            texts=int(before[name]["support"]),
            champion=f1,
            challenger=f1_after,
            gained=int((new_right & ~old_right)[:, column].sum()),
            lost=int((old_right & ~new_right)[:, column].sum()),
            p=chances[column],
            adjusted_p=float(adjusted[column]),
            worse=bool(unlikely and f1 - f1_after > settings.label_f1),
        )


def _examples(old: Scores, new: Scores, held_out: HeldOut, lost: Bools) -> Iterator[Example]:
    """Texts that were lost, the surest mistakes first."""
    rows = np.flatnonzero(lost)
    for row in rows[np.argsort(-new.confidence[rows], kind="stable")][:_EXAMPLES]:
        truth, champion, challenger = (
            _given(old.taxonomy, labels[row]) for labels in (held_out.truth, old.given, new.given)
        )
        yield Example(held_out.texts[row], truth, champion, challenger, float(new.confidence[row]))


def _given(taxonomy: Taxonomy, row: Bools) -> tuple[str, ...]:
    return tuple(taxonomy.names[position] for position in np.flatnonzero(row))


def read_held_out(
    source: str | Path, data: DataSettings, taxonomy: Taxonomy, options: ImportOptions | None = None
) -> HeldOut:
    """``corpus`` for the test split of the recipe's corpus; a corpus folder for its own; or a file of labelled text."""
    if str(source) == "corpus":
        return read_corpus(data, taxonomy)
    path = Path(source)
    if path.is_dir():
        return read_corpus(data.model_copy(update={"corpus": path}), taxonomy)
    return read_file(path, taxonomy, options)


def missed_margins(
    champion: Release,
    challenger: Release,
    settings: Settings,
    source: str | Path = "corpus",
    *,
    options: ImportOptions | None = None,
    own_recipe: bool = True,
    shown: Callable[[Comparison], None] = lambda _: None,
) -> tuple[str, ...]:
    """What speaks against the challenger: each margin of the recipe that it misses, or why the two cannot be compared.

    :param options: how to read the held-out text where it is a file.
    :param own_recipe: see ``compare_releases``.
    :param shown: called with the comparison, where one could be made.
    """
    try:
        comparison = compare_releases(champion, challenger, settings, source, options, own_recipe=own_recipe)
    except ComparisonError as error:
        return (str(error),)
    shown(comparison)
    return comparison.faults


def compare_releases(
    champion: Release,
    challenger: Release,
    settings: Settings,
    source: str | Path = "corpus",
    options: ImportOptions | None = None,
    *,
    own_recipe: bool = True,
) -> Comparison:
    """Load both, read the held-out text and compare; see ``compare``.

    :param options: how to read the text where it is a file.
    :param own_recipe: the recipe is the challenger's or was named; of another one, whose corpus the challenger was not
        trained on, the test split says nothing about what it is for.
    :raises ComparisonError: their labels are not the same, or not those of the text, or no text of theirs is named.
    """
    check_same_labels(champion.taxonomy, challenger.taxonomy)
    if not own_recipe and str(source) == "corpus":
        _check_trained_on(challenger, settings.data)
    try:
        held_out = read_held_out(source, settings.data, champion.taxonomy, options)
    except TaxonomyError as error:
        raise ComparisonError(f"the held-out text has other labels than the releases: {error}") from error
    threads = settings.evaluate.threads
    return compare(
        EventClassifier(champion, threads=threads),
        EventClassifier(challenger, threads=threads),
        held_out,
        settings.compare,
        bootstrap_samples=settings.evaluate.bootstrap_samples,
    )


def _check_trained_on(challenger: Release, data: DataSettings) -> None:
    if challenger.manifest.corpus.sha256 != corpus_sha256(data.corpus):
        raise ComparisonError(
            f"{challenger.name} comes without its run and was not trained on the default recipe's corpus, so nothing "
            "says on which text to judge it; name some that it has not learned: --data FILE, or a corpus folder"
        )
