"""Worker processes that share one copy of a release.

A process of its own loads the release and forks the workers from itself. What it has loaded (the weights, packed as the
kernels want them, the tokenizer, the packages) is not written to again, so its pages stay one copy for all of them, and
a worker adds only what it computes with. The job's own process is not forked: it may be anybody's program, with threads
that hold locks. The one that loads has no thread that does: the graph runs in one, and those of OpenBLAS and Arrow are
made for forks. (docs/experiments.md, "what workers can share", has the other ways that were tried.)
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tocsin import EventClassifier, TocsinError
from tocsin.language import detect_language
from tocsin.release import Manifest
from tocsin_serving.batch.chunks import Answers, Chunk
from tocsin_serving.batch.records import refuse_another

# Elsewhere system libraries do not survive a fork, so there each worker loads a copy of its own.
_FORKS = sys.platform == "linux"
# What terminals and schedulers send to all processes of a job: its own process stops the others.
_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}

_GONE = "A worker process died, perhaps for want of memory. Try fewer --workers."
# Before its first line of ours, a new process runs the program that called.
_NEVER_BEGAN = (
    "The process that starts the workers ended before it began; why stands above. It first runs the program that calls "
    'anew, so that must be a file, and call under `if __name__ == "__main__":`. workers=1 needs no such process.'
)

Score = Callable[[Chunk], Answers]
MakeScore = Callable[[EventClassifier], Score]


@dataclass(frozen=True)
class WorkerSource:
    """What to load, and how."""

    folder: Path
    manifest: Manifest
    """Of the release that the job began with, which its folder may no longer hold."""
    cascade: bool

    def load(self) -> EventClassifier:
        """The classifier, with what would else be loaded with its first text.

        :raises ReleaseError: the folder holds no release, or another one.
        """
        classifier = EventClassifier.load(self.folder, cascade=self.cascade)
        refuse_another(self.folder, classifier.release.manifest, self.manifest)
        detect_language("text", classifier.languages)
        # Arrow imports pandas, where it is installed, with its first array of a list.
        pa.array([0])
        return classifier


class Workers:
    """Processes of one computing thread each: takes texts, and gives answers in the order they were asked for.

    To be entered once and left when no more is asked for; what is still in the making is then given up.
    """

    def __init__(self, source: WorkerSource, make: MakeScore, count: int) -> None:
        """:param make: what scores, from a classifier; must be picklable."""
        spawn = get_context("spawn")
        self._connection, self._theirs = spawn.Pipe()
        self._process = spawn.Process(target=_load_and_fork, args=(self._theirs, source, make, count))
        self._begun = False

    def __enter__(self) -> Self:
        with _deaf_to_stop_signals():
            self._process.start()
        # Where only the other process has its end, its death ends what is read here.
        self._theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Nothing of theirs is kept, so they need no farewell; workers end with the process that forked them.
        self._process.kill()
        self._process.join()
        self._connection.close()

    def ask(self, texts: list[str], numbers: NDArray[np.int64]) -> None:
        """Have a chunk's texts scored.

        :raises TocsinError: the workers are gone, or never came to be.
        """
        with self._plain_loss():
            self._connection.send((texts, numbers))

    def answer(self) -> Answers:
        """Wait for the answers to the chunk that was asked for first among those not yet answered.

        :raises TocsinError: the release cannot be loaded, or the workers are gone, or never came to be.
        """
        with self._plain_loss():
            if not self._begun:
                self._begun = self._connection.recv()
            answer: Answers | Exception = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextmanager
    def _plain_loss(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            self._process.join()
            # What a signal ended, the system's want of memory say, has the signal's number below zero.
            by_itself = (self._process.exitcode or 0) >= 0
            raise TocsinError(_GONE if self._begun or not by_itself else _NEVER_BEGAN) from error


@contextmanager
def _deaf_to_stop_signals() -> Iterator[None]:
    """Processes started here, and those that they start, never see Ctrl-C and SIGTERM."""
    # Python's helper process is started with the first other one, and its start would let the signals through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_score: Score | None = None
"""What a worker scores with; made in the process from which it was forked."""


def _load_and_fork(connection: Connection, source: WorkerSource, make: MakeScore, count: int) -> None:
    """Load a release, fork workers, and pass chunks to them and answers back until the job ends."""
    # The job may be gone.
    with suppress(ConnectionError):
        connection.send(True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        _prepare(source, make)
    except TocsinError as error:
        for _ in _requests(connection):
            connection.send(error)
        return
    # Python's collector writes into every object that it looks at, and what is written to is no longer shared.
    gc.collect()
    gc.freeze()
    # Python warns of any other thread; see above why these do no harm.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    context = get_context("fork" if _FORKS else "spawn")
    with ProcessPoolExecutor(count, context, initializer=_begin, initargs=(source, make)) as pool:
        # The first task forks them all, before this process has threads of its own.
        pool.submit(os.getpid)
        _end_with_parent()
        _pass(connection, pool)


def _pass(connection: Connection, pool: ProcessPoolExecutor) -> None:
    futures: SimpleQueue[Future[Answers]] = SimpleQueue()
    threading.Thread(target=_send_answers, args=(connection, futures), daemon=True).start()
    # A worker that died breaks the pool; the end of this process then tells the job.
    with suppress(BrokenProcessPool):
        for texts, numbers in _requests(connection):
            futures.put(pool.submit(_scored, texts, numbers))


def _requests(connection: Connection) -> Iterator[tuple[list[str], NDArray[np.int64]]]:
    with suppress(EOFError, ConnectionError):
        while True:
            yield connection.recv()


def _send_answers(connection: Connection, futures: SimpleQueue[Future[Answers]]) -> None:
    while True:
        future = futures.get()
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            os._exit(1)
        if error is not None and error.__cause__ is not None:
            # Its traceback in the worker, which pickling drops.
            error.add_note(str(error.__cause__))
        # The job may be gone.
        with suppress(ConnectionError):
            connection.send(error or future.result())


def _prepare(source: WorkerSource, make: MakeScore) -> None:
    global _score
    _score = make(source.load())


def _begin(source: WorkerSource, make: MakeScore) -> None:
    """A worker's first work."""
    _end_with_parent()
    if _score is None:
        _prepare(source, make)


def _scored(texts: list[str], numbers: NDArray[np.int64]) -> Answers:
    if _score is None:
        raise RuntimeError("the worker has nothing to score with")
    return _score(Chunk(None, texts, numbers, [], len(texts)))


def _end_with_parent() -> None:
    """End this process with the one that started it: killed, that can stop nobody, and they would wait for ever."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
