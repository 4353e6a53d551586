"""What `tocsin score --cascade` loses and what it saves: events of the test split, CPU time on a mix of its texts.

    python benchmarks/cascade.py [RELEASE] [--corpus datasets/corpus] [--no-event-share 0.8] [--save]

It loses the events that the screen takes from the encoder, which would have found them; what the encoder misses is lost
with and without the screen. Time is CPU time of one thread and not time on the clock, because other work on the machine
hardly changes it. `--save` writes the table, with release, date, machine and command, between the marks in
docs/batch.md.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pages import DOCS, publish
from speed import ROOT, as_made, cpu_name

from tocsin import EventClassifier, TocsinError, UsageError
from tocsin.release import LAYOUT
from tocsin_training.config import DataSettings
from tocsin_training.heldout import read_corpus
from tocsin_training.screen import found_lost, settled_by, settled_shares

PAGE = DOCS / "batch.md"
_PROGRAM = "benchmarks/cascade.py"
_ROUNDS = 3


@dataclass(frozen=True)
class Figures:
    """What a release's screen does on a test split, and on a mix of its texts."""

    release: str
    texts: int
    settled: float
    """Share of the texts without event that it settles."""
    events_settled: float
    """Share of the texts with an event that it settles."""
    events_lost: float
    """Share of the texts with an event that it settles and that the encoder would have given a label."""
    mix: int
    """Texts that were timed."""
    no_event_share: float
    """Of the mix."""
    alone: float
    """CPU milliseconds a text of the mix."""
    cascade: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path, nargs="?", help="a release folder; the shipped one by default")
    parser.add_argument("--corpus", type=Path, default=ROOT / "datasets/corpus", help="whose test split is scored")
    parser.add_argument("--no-event-share", type=float, default=0.8, help="share of texts without event in the mix")
    parser.add_argument("--save", action="store_true", help="write the table into docs/batch.md")
    arguments = parser.parse_args()

    def table() -> str:
        return as_table(measure(arguments.release, arguments.corpus, arguments.no_event_share))

    try:
        publish(table, PAGE, _PROGRAM, save=arguments.save)
    except TocsinError as error:
        raise SystemExit(str(error)) from None


def measure(release: Path | None, corpus: Path, no_event_share: float) -> Figures:
    """:param no_event_share: share of texts without event in the mix that is timed.

    :raises UsageError: the share is not between 0 and 1.
    :raises ReleaseError: the release has no screen.
    """
    if not 0 < no_event_share <= 1:
        raise UsageError(f"--no-event-share {no_event_share}: give a share above 0 and at most 1, such as 0.8")
    alone, cascade = EventClassifier.load(release), EventClassifier.load(release, cascade=True)
    text = read_corpus(DataSettings(corpus=corpus, taxonomy=alone.release.folder / LAYOUT.taxonomy), alone.taxonomy)
    events = np.any(text.truth, axis=1)
    settled = settled_by(alone.release, text.texts)
    given = np.zeros_like(text.truth)
    # What it leaves open is answered as without it.
    lost = np.flatnonzero(settled & events)
    given[lost] = alone.score_batch([text.texts[row] for row in lost]).given
    mix = [text.texts[row] for row in mixed(events, no_event_share)]
    times = cpu_milliseconds({"alone": alone, "cascade": cascade}, mix)
    shares = settled_shares(settled, events)
    return Figures(
        release=alone.release.name,
        texts=len(text),
        settled=shares["settled"],
        events_settled=shares["events_lost"],
        events_lost=found_lost(settled, given, events),
        mix=len(mix),
        no_event_share=no_event_share,
        **times,
    )


def mixed(events: NDArray[np.bool_], no_event_share: float) -> list[int]:
    """Rows of all texts without event and of as many others as make up the rest, in random order."""
    without, with_event = np.flatnonzero(~events), np.flatnonzero(events)
    count = min(round(len(without) * (1 - no_event_share) / no_event_share), len(with_event))
    chosen = random.Random(0).sample(with_event.tolist(), count) + without.tolist()
    return random.Random(1).sample(chosen, len(chosen))


def cpu_milliseconds(classifiers: dict[str, EventClassifier], texts: Sequence[str]) -> dict[str, float]:
    """CPU milliseconds a text, the least of some rounds in turn."""
    times: dict[str, list[float]] = {name: [] for name in classifiers}
    for _ in range(_ROUNDS):
        for name, classifier in classifiers.items():
            begun = time.process_time()
            classifier.score_batch(texts)
            times[name].append(1000 * (time.process_time() - begun) / len(texts))
    return {name: min(found) for name, found in times.items()}


def as_table(figures: Figures) -> str:
    """The figures as they stand in the page."""
    mix = f"{figures.mix:,} texts, {figures.no_event_share:.0%} of them without event"
    lost = "**events lost**: texts with an event that it settles and the encoder would have labelled; at most 0.5 %"
    rows = (
        ("texts without event that it settles", f"{figures.settled:.1%}"),
        (lost, f"{figures.events_lost:.2%}"),
        ("texts with an event that it settles, found by the encoder or not", f"{figures.events_settled:.2%}"),
        (f"CPU time a text without it, {mix}", f"{figures.alone:.2f} ms"),
        ("CPU time a text with it", f"{figures.cascade:.2f} ms"),
        ("faster by", f"{figures.alone / figures.cascade:.2f}x"),
    )
    title = (
        f"Release {figures.release} on the {figures.texts:,} texts of the test split, {datetime.now(UTC):%Y-%m-%d}, "
        f"{cpu_name()}, one thread, by `{as_made('bench-cascade')}`:"
    )
    return "\n".join(
        [title, "", "| what | measured |", "| --- | --- |", *(f"| {what} | {said} |" for what, said in rows)]
    )


if __name__ == "__main__":
    main()
