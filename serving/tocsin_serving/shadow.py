"""A challenger that reads a share of the traffic beside the release that answers, and is never heard by anyone.

How often it would have answered otherwise is told on /metrics. It works in a thread of its own at the lowest priority,
from a short queue that drops texts rather than grow, so that nobody waits for it; whatever goes wrong in it is counted
and goes no further. Texts stay in memory and are not logged.

Set by ``TOCSIN_SHADOW_RELEASE`` (a folder or store:name) and ``TOCSIN_SHADOW_SHARE`` (of the texts; 0.1 by default).
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from queue import Full, Queue
from typing import Protocol, Self

from prometheus_client import Counter

from tocsin import EventClassifier, Prediction, UsageError

RELEASE_VARIABLE = "TOCSIN_SHADOW_RELEASE"
SHARE_VARIABLE = "TOCSIN_SHADOW_SHARE"
_DEFAULT_SHARE = 0.1
_QUEUED_TEXTS = 256
_LOWEST_PRIORITY = 19

Labels = frozenset[str]


class Tally(Protocol):
    """Where agreement is counted."""

    def compared(self, served: Labels, shadow: Labels) -> None:
        """Both have answered a text."""

    def dropped(self, texts: int) -> None:
        """The shadow was too busy for some texts."""

    def failed(self, texts: int) -> None:
        """The shadow could not answer some texts."""


@dataclass(frozen=True)
class ShadowSettings:
    """Which release is the shadow, and how much it reads."""

    release: str
    share: float

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """None where no shadow release is named.

        :raises UsageError: the share is no number between 0 and 1.
        """
        release, given = environ.get(RELEASE_VARIABLE), environ.get(SHARE_VARIABLE)
        if not release:
            return None
        try:
            share = _DEFAULT_SHARE if given is None else float(given)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UsageError(f"{SHARE_VARIABLE} must be a number from 0 to 1, not {given!r}")
        return cls(release, share)


class Shadow:
    """The challenger in its thread."""

    def __init__(self, challenger: EventClassifier, *, share: float, tally: Tally) -> None:
        self._challenger = challenger
        self._share = share
        self._tally = tally
        self._waiting: Queue[tuple[str, Labels]] = Queue(_QUEUED_TEXTS)
        threading.Thread(target=self._work, name="tocsin-shadow", daemon=True).start()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """The shadow that the environment asks for, if any.

        :raises UsageError: the share is wrong.
        :raises ReleaseError: the release is incomplete or altered.
        """
        settings = ShadowSettings.from_environment(environ)
        if settings is None:
            return None
        challenger = EventClassifier.load(settings.release)
        return cls(challenger, share=settings.share, tally=PrometheusTally(challenger.version))

    def offer(self, texts: Sequence[str], answers: Sequence[Prediction]) -> None:
        """Let the shadow read its share of texts that have been answered; returns at once."""
        dropped = 0
        for text, answer in zip(texts, answers, strict=True):
            if random.random() >= self._share:
                continue
            try:
                self._waiting.put_nowait((text, _labels(answer)))
            except Full:
                dropped += 1
        if dropped:
            self._tally.dropped(dropped)

    def join(self) -> None:
        """Wait until everything that was taken is compared."""
        self._waiting.join()

    def _work(self) -> None:
        _yield_to_others()
        while True:
            text, served = self._waiting.get()
            try:
                (answer,) = self._challenger.score_batch([text]).predictions(scores=False)
                self._tally.compared(served, _labels(answer))
            except Exception:
                # Anything: a challenger on trial must not take the service down with it, and the counter tells.
                self._tally.failed(1)
            finally:
                self._waiting.task_done()


def _labels(answer: Prediction) -> Labels:
    return frozenset(event.label for event in answer.events)


def _yield_to_others() -> None:
    """Give this thread alone the lowest priority, where the system has priorities of threads (Linux)."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)


class PrometheusTally:
    """Counters on /metrics: texts by outcome, and labels that only one of the two gave."""

    def __init__(self, challenger: str) -> None:
        self._texts = Counter(
            "tocsin_shadow_texts",
            "Texts offered to the shadow release: agreed, differed, dropped (too busy), failed.",
            labelnames=["shadow", "outcome"],
        )
        self._labels = Counter(
            "tocsin_shadow_label_differences",
            "Labels that only the shadow gave (gained) or only the serving release gave (lost).",
            labelnames=["shadow", "label", "direction"],
        )
        self._challenger = challenger

    def compared(self, served: Labels, shadow: Labels) -> None:
        """Count an answer of both."""
        self._count("agreed" if served == shadow else "differed", 1)
        for direction, labels in (("gained", shadow - served), ("lost", served - shadow)):
            for label in labels:
                self._labels.labels(shadow=self._challenger, label=label, direction=direction).inc()

    def dropped(self, texts: int) -> None:
        """Count texts that were not read."""
        self._count("dropped", texts)

    def failed(self, texts: int) -> None:
        """Count texts that the shadow failed on."""
        self._count("failed", texts)

    def _count(self, outcome: str, texts: int) -> None:
        self._texts.labels(shadow=self._challenger, outcome=outcome).inc(texts)
