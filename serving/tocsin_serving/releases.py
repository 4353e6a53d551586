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
from pathlib import Path

from pydantic import BaseModel

from tocsin import EventClassifier, Release, ReleaseError
from tocsin_serving.schemas import EXAMPLE_TEXTS

LOOK_SECONDS = 1.0
"""How often a worker looks for a change."""
# Longest time that a load is believed to take, for what /admin/reload promises.
FOLLOW_SECONDS = 10.0
_PACE_ROUNDS = 3

# A child of BentoML's logger, for its handlers are the ones a server has.
logger = logging.getLogger("bentoml.tocsin")


class Notice(BaseModel):
    """What the run folder says is to be served."""

    change: int
    release: str | None


class ServedRelease:
    """The classifier of a worker, exchangeable while it serves."""

    def __init__(self, source: str | None, notice_file: Path) -> None:
        """Load what the server serves now: what it was last changed to, otherwise the source.

        :param source: as for `EventClassifier.load`.
        :raises ReleaseError: the source is incomplete, altered or unfit.
        """
        self._source = source
        self._notice_file = notice_file
        self._seen = 0
        self._changing = threading.Lock()
        self.classifier = self._first()

    def change_to(self, source: str | None) -> EventClassifier:
        """Serve another release, or the present one's folder as it is now; tell the other workers.

        :raises ReleaseError: it is incomplete, altered, unfit or changes while it is read; the old one stays.
        """
        with self._changing:
            classifier = load_settled(source or self._source)
            self._source = source or self._source
            self._seen = time.time_ns()
            self.classifier = classifier
            _write(self._notice_file, Notice(change=self._seen, release=self._source))
        return classifier

    def follow(self) -> None:
        """Change to what another worker was told to serve. What cannot be loaded is logged and tried again."""
        notice = _read(self._notice_file)
        if notice is None or notice.change == self._seen:
            return
        with self._changing:
            try:
                self.classifier = load_settled(notice.release)
            except ReleaseError as error:
                logger.error("Still serving %s, cannot follow to the new release: %s", self.classifier.version, error)
                return
            self._source, self._seen = notice.release, notice.change
        logger.info("Serving %s from now on", self.classifier.version)

    def _first(self) -> EventClassifier:
        notice = _read(self._notice_file)
        if notice is not None:
            try:
                classifier = load_settled(notice.release)
                self._source, self._seen = notice.release, notice.change
                return classifier
            except ReleaseError as error:
                logger.error("Cannot load the release that was changed to, falling back: %s", error)
        return load_settled(self._source)


def load_settled(source: str | None) -> EventClassifier:
    """A classifier whose files were the same before and after it was loaded, and that has answered once.

    :raises ReleaseError: as `EventClassifier.load`, or the folder was being written to.
    """
    classifier = EventClassifier.load(source)
    # The files are hashed first and read later: without a second look a copy under way could come in between.
    again = Release.open(classifier.release.folder)
    if again.manifest != classifier.release.manifest:
        raise ReleaseError(f"{again.folder}: changed while it was being loaded; try again when the copy is complete")
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
    try:
        return Notice.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None


def _write(file: Path, notice: Notice) -> None:
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(notice.model_dump_json(), encoding="utf-8")
    part.replace(file)
