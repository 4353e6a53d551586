"""The release a worker serves, and how all workers of a server change to another while they serve.

A new release is loaded and tried beside the old one, and only then takes its place, in one assignment. Requests keep
the classifier they came in with. The worker that is asked writes what it changed to into the run folder; the others
look there, and so does a worker that is started later.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from tocsin import EventClassifier, Release, ReleaseError, TocsinError
from tocsin_serving.model_header import check_name
from tocsin_serving.schemas import EXAMPLE_TEXTS

LOOK_SECONDS = 1.0
"""How often a worker looks for a change."""
# Longest time that a load is believed to take, for what /admin/reload promises.
FOLLOW_SECONDS = 10.0
# Longest pause between two tries to follow, each of which reads and hashes a whole release.
_LONGEST_WAIT_SECONDS = 60.0
_PACE_ROUNDS = 3

# A child of BentoML's logger, for its handlers are the ones a server has.
logger = logging.getLogger("bentoml.tocsin")


class Notice(BaseModel):
    """What the run folder says is to be served."""

    change: int
    release: str | None


class ServedRelease:
    """The classifier of a worker, exchangeable while it serves."""

    def __init__(self, source: str | None, notice_file: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Load what the server serves now: what it was last changed to, otherwise the source.

        :param source: as for `EventClassifier.load`.
        :param clock: seconds.
        :raises ReleaseError: the source is incomplete, altered or unfit.
        """
        self._source = source
        self._notice_file = notice_file
        self._clock = clock
        self._seen = 0
        self._failed = 0
        """The change that could not be followed."""
        self._wait = LOOK_SECONDS
        self._next_try = 0.0
        self._changing = threading.Lock()
        self.classifier = self._first()

    def change_to(self, source: str | None) -> EventClassifier:
        """Serve another release, or the present one's folder as it is now; tell the other workers.

        :raises ReleaseError: it is incomplete, altered, unfit or changes while it is read, or the other workers cannot
            be told; the old one stays.
        """
        with self._changing:
            source = source or self._source
            classifier = load_settled(source)
            change = time.time_ns()
            # Before it is served here, or this worker alone would serve it if the others cannot be told.
            _write(self._notice_file, Notice(change=change, release=source))
            self._source, self._seen, self.classifier = source, change, classifier
        return classifier

    def follow(self) -> None:
        """Change to what another worker was told to serve.

        What cannot be loaded is logged and tried again, ever more seldom; another change is tried at once.
        """
        with self._changing:
            notice = _read(self._notice_file)
            if notice is None or notice.change == self._seen:
                return
            if notice.change == self._failed and self._clock() < self._next_try:
                return
            try:
                self.classifier = load_settled(notice.release)
            except TocsinError as error:
                self._put_off(notice.change)
                told = "Still serving %s, cannot follow to the new release, next try in %.0f s: %s"
                logger.error(told, self.classifier.version, self._wait, error)
                return
            self._source, self._seen = notice.release, notice.change
        logger.info("Serving %s from now on", self.classifier.version)

    def _put_off(self, change: int) -> None:
        self._wait = min(2 * self._wait, _LONGEST_WAIT_SECONDS) if change == self._failed else LOOK_SECONDS
        self._failed, self._next_try = change, self._clock() + self._wait

    def _first(self) -> EventClassifier:
        try:
            notice = _read(self._notice_file)
            if notice is not None:
                classifier = load_settled(notice.release)
                self._source, self._seen = notice.release, notice.change
                return classifier
        except TocsinError as error:
            logger.error("Cannot load the release that was changed to, falling back: %s", error)
        return load_settled(self._source)


def load_settled(source: str | None) -> EventClassifier:
    """A classifier whose files were the same before and after it was loaded, and that has answered once.

    :raises TocsinError: as `EventClassifier.load`, or the folder was being written to, or it cannot answer.
    """
    try:
        return _load_settled(source)
    except TocsinError:
        raise
    except Exception as error:
        # Whatever a folder brings about that was put together wrongly, the release that serves goes on.
        name = source or "the shipped release"
        raise ReleaseError(f"{name}: cannot be loaded: {error}. Copy or train the release anew.") from error


def _load_settled(source: str | None) -> EventClassifier:
    classifier = EventClassifier.load(source)
    # The files are hashed first and read later: without a second look a copy under way could come in between.
    again = Release.open(classifier.release.folder)
    if again.manifest != classifier.release.manifest:
        raise ReleaseError(f"{again.folder}: changed while it was being loaded; try again when the copy is complete")
    check_name(classifier.release)
    classifier.classify_batch(EXAMPLE_TEXTS)
    return classifier


def measured_seconds_per_token(classifier: EventClassifier) -> float:
    """What a token costs on this machine, as a first estimate."""
    tokens = sum(classifier.token_counts(EXAMPLE_TEXTS))
    begun = time.perf_counter()
    for _ in range(_PACE_ROUNDS):
        classifier.score_batch(EXAMPLE_TEXTS)
    return (time.perf_counter() - begun) / (_PACE_ROUNDS * tokens)


def _read(file: Path) -> Notice | None:
    """What is to be served; none where no change was asked for yet.

    :raises ReleaseError: that cannot be found out.
    """
    try:
        return Notice.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{file}: cannot be read: {error}; send /admin/reload again") from error


def _write(file: Path, notice: Notice) -> None:
    part = file.with_suffix(f".{os.getpid()}")
    try:
        part.write_text(notice.model_dump_json(), encoding="utf-8")
        part.replace(file)
    except OSError as error:
        raise ReleaseError(
            f"{file}: cannot be written, so the other workers cannot be told: {error.strerror}; make room, try again"
        ) from error
