"""Stage 5: the first look that settles plain no-events, for those who score archives in which most texts are such.

`benchmarks/cascade.py` measures what it loses and saves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from scipy.stats import beta  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

from tocsin import Release
from tocsin.encoder import load_tokenizer
from tocsin.release import LAYOUT
from tocsin.screen import Screen, ngrams
from tocsin.text import replace_lone_surrogates
from tocsin_training.arrays import Bools
from tocsin_training.config import ScreenSettings
from tocsin_training.corpus import label_matrix, limit, load_corpus
from tocsin_training.run import Run

_log = logging.getLogger(__name__)

Tokens = list[list[int]]

_CONFIDENCE = 0.95


def fit_screen(train: Tokens, events: Bools, validation: Tokens, truth: Bools, settings: ScreenSettings) -> Screen:
    """Fit the weights on training texts, then threshold and rates on validation texts.

    :param train: token ids of the training texts, at least one with and one without an event.
    :param events: whether each of them reports one, shape (training texts,).
    :param validation: token ids of the validation texts, at least ``least_events`` of them with an event.
    :param truth: their labels, shape (validation texts, labels).
    """
    model = LogisticRegression(C=settings.inverse_penalty, solver="liblinear", random_state=0)
    model.fit(_features(train, settings.buckets), events)
    # As they are stored, or the threshold would be that of other weights.
    weights = model.coef_[0].astype(np.float16).astype(np.float32)
    labels = truth.shape[1]
    free = Screen(weights, float(model.intercept_[0]), -np.inf, np.zeros(labels, dtype=np.float32))
    margins = free.margins(validation)
    threshold, rate = _cut(margins, np.any(truth, axis=1), settings.events_lost)
    shares = truth.sum(axis=0) / truth.sum()
    return Screen(weights, free.bias, threshold, (rate * shares).astype(np.float32))


def _features(texts: Tokens, buckets: int) -> csr_matrix:
    """Counts of n-grams over the root of their number: what `Screen.margins` adds up."""
    found = ngrams(texts, buckets)
    values = np.repeat(1 / np.sqrt(found.counts), found.counts)
    return csr_matrix((values, found.buckets, np.append(found.starts, len(found.buckets))), (len(texts), buckets))


def _cut(margins: NDArray[np.float64], events: Bools, allowed: float) -> tuple[float, float]:
    """The margin below which texts are settled, and how often a settled text reports an event.

    Every text with an event counts as lost that lies below it, whether or not the encoder would have found the event:
    what ``--cascade`` really loses is at most that.

    The rate is Laplace's rule of succession: four lost among six hundred are few, and none among six hundred is not
    never.
    """
    of_events = np.sort(margins[events])
    threshold = float(of_events[_losses(len(of_events), allowed)])
    settled = margins < threshold
    return threshold, float((settled & events).sum() + 1) / float(settled.sum() + 2)


def _losses(events: int, allowed: float) -> int:
    """How many of validation's texts with an event may lie below the line, so that the promise holds beyond them.

    Of all texts with an event, the share below the (k + 1)th smallest of n margins is distributed as
    Beta(k + 1, n - k), whatever the margins are like (Wilks 1941). The upper end of that, and not k / n, must be within
    what is allowed: a line with just the allowed share of these texts below it has more of others below it every other
    time.

    :param events: texts with an event, at least ``least_events``.
    """
    below = np.arange(events)
    upper_ends = beta.ppf(_CONFIDENCE, below + 1, events - below)
    return int((upper_ends <= allowed).sum()) - 1


def least_events(allowed: float) -> int:
    """So many texts with an event it takes to show, by none of them lost, that no more than a share above 0 is lost."""
    return math.ceil(math.log(1 - _CONFIDENCE) / math.log1p(-allowed))


def main(run: Run) -> None:
    """Put a screen into the run's release, fitted on the training split with thresholds from validation."""
    settings = run.settings()
    read = ("train", "validation")
    splits = limit(load_corpus(settings.data.corpus, splits=read), settings.data)
    release = Release.open(run.release)
    tokenizer = load_tokenizer(release)
    tokens = {name: token_ids(tokenizer, list(splits[name]["text"])) for name in read}
    truth = {name: label_matrix(list(splits[name]["labels"]), release.taxonomy) for name in tokens}
    events: dict[str, Bools] = {name: np.any(labels, axis=1) for name, labels in truth.items()}
    if lacking := _lacking(events["train"], int(events["validation"].sum()), settings.screen):
        _log.warning("no screen, so no --cascade: %s", lacking)
        drop_screen(run)
        run.record("screen", {"settled": None})
        return
    screen = fit_screen(tokens["train"], events["train"], tokens["validation"], truth["validation"], settings.screen)
    run.amend(lambda folder: screen.save(folder / LAYOUT.screen))
    figures = settled_shares(screen.settles(tokens["validation"]), events["validation"])
    run.record("screen", figures)
    _log.info(
        "the screen settles %.0f %% of validation's texts without event and loses %.1f %% of those with one",
        100 * figures["settled"],
        100 * figures["events_lost"],
    )


def _lacking(train: Bools, validation: int, settings: ScreenSettings) -> str | None:
    """Why there can be no screen, in words; none where there can.

    :param train: which training texts report an event.
    :param validation: how many validation texts do.
    """
    if not settings.events_lost:
        return "the recipe has screen.events_lost = 0, and every one loses some events"
    if train.all() or not train.any():
        return "it is learned from training texts with and without events, and here all are of one kind"
    least = least_events(settings.events_lost)
    if validation >= least:
        return None
    return (
        f"it takes {least:,} validation texts with an event to show that at most {settings.events_lost:.2%} of them "
        f"are lost, and there are {validation:,}. Label more, or promise less by screen.events_lost in the recipe."
    )


def drop_screen(run: Run) -> None:
    """Take the screen out of a run's release, if it has one."""
    run.amend(lambda folder: (folder / LAYOUT.screen).unlink(missing_ok=True))


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    """Token ids of the first window of each text, special tokens included, as the encoder reads them."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def settled_shares(settled: Bools, events: Bools) -> dict[str, float]:
    """Share settled of the texts without an event, and of those with one; 0 where there are none."""
    return {
        "settled": float(settled[~events].mean()) if (~events).any() else 0.0,
        "events_lost": float(settled[events].mean()) if events.any() else 0.0,
    }


def settled_by(release: Release, texts: Sequence[str]) -> Bools:
    """Which texts a release's screen settles in a cascade, without asking the encoder about the others.

    :raises ReleaseError: it has no screen.
    """
    encodings = load_tokenizer(release).encode_batch_fast([replace_lone_surrogates(text) for text in texts])
    single: Bools = np.array([not encoding.overflowing for encoding in encodings], dtype=np.bool_)
    return release.require_screen().settles([encoding.ids for encoding in encodings]) & single


def found_lost(settled: Bools, given: Bools, events: Bools) -> float:
    """What a cascade costs: of the texts with an event, the share that it settles and the encoder would have labelled.

    An event that the encoder does not find either is lost with and without ``--cascade``.

    :param given: which labels the encoder gives, shape (texts, labels).
    :return: 0 where no text has an event.
    """
    return float((settled & given.any(axis=1))[events].mean()) if events.any() else 0.0
