"""Texts to columns, in this process or in several."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tocsin import EventClassifier, Release, TocsinError
from tocsin.release import Manifest
from tocsin.sentences import split_sentences
from tocsin_serving.batch.chunks import Answers, Chunk
from tocsin_serving.batch.columns import SENTENCE_FIELDS, Shape, answer_columns, event_rows
from tocsin_serving.batch.records import refuse_another
from tocsin_serving.batch.tally import Tally

# Chunks in the making per worker: one being scored and one waiting keep it busy.
_CHUNKS_AHEAD = 2


class ChunkScorer:
    """Makes the columns to add for chunks; each worker process has one."""

    def __init__(self, classifier: EventClassifier, shape: Shape) -> None:
        self._classifier = classifier
        self._shape = shape

    def __call__(self, chunk: Chunk) -> Answers:
        """The columns to add for a chunk, its rows untouched."""
        columns, parents, texts = self._by_sentence(chunk) if self._shape.split_sentences else self._by_text(chunk)
        tally = Tally.of(columns, self._classifier.languages)
        if self._shape.acled:
            columns, places = event_rows(columns, texts, self._shape)
            parents = parents[places]
        return Answers(columns.select(self._shape.schema.names), parents, tally)

    def _by_text(self, chunk: Chunk) -> tuple[pa.Table, NDArray[np.intp], list[str]]:
        columns = self._columns(chunk.texts).add_column(0, SENTENCE_FIELDS[0], [pa.array(chunk.numbers)])
        return columns, np.arange(len(chunk.texts)), chunk.texts

    def _by_sentence(self, chunk: Chunk) -> tuple[pa.Table, NDArray[np.intp], list[str]]:
        sentences = [split_sentences(text) for text in chunk.texts]
        counts = [len(found) for found in sentences]
        parents = np.repeat(np.arange(len(counts)), counts)
        placed = [(sentence.start, sentence.end, sentence.text) for found in sentences for sentence in found]
        starts, ends, texts = map(list, zip(*placed, strict=True)) if placed else ([], [], [])
        places = [chunk.numbers[parents], [n for count in counts for n in range(count)], starts, ends, texts]
        arrays = [pa.array(place, field.type) for place, field in zip(places, SENTENCE_FIELDS, strict=True)]
        columns = self._columns(texts)
        schema = pa.schema([*SENTENCE_FIELDS, *columns.schema])
        return pa.Table.from_arrays([*arrays, *columns.columns], schema=schema), parents, texts

    def _columns(self, texts: list[str]) -> pa.Table:
        """One row per text; what stands in the chunk more than once is scored once."""
        encoded = pa.array(texts, pa.large_string()).dictionary_encode()
        unique = encoded.dictionary.to_pylist()
        columns = answer_columns(self._classifier.score_batch(unique), unique, scores=self._shape.scores)
        return columns if len(unique) == len(texts) else columns.take(encoded.indices)


Scored = Iterator[tuple[Chunk, Answers]]
ReadChunks = Callable[[], Iterator[Chunk]]
ScoreChunks = Callable[[Iterable[Chunk], ReadChunks], Scored]
"""Scores a file's chunks lazily, in order; the second way to read them serves an engine that does so elsewhere too."""


@contextmanager
def scoring(release: Release, shape: Shape, *, workers: int, cascade: bool = False) -> Iterator[ScoreChunks]:
    """A function that scores chunks in order, lazily, with as many processes as asked for.

    Beside workers this process has no encoder of its own: it reads and writes.
    """
    if workers == 1:
        scorer = ChunkScorer(EventClassifier(release, cascade=cascade), shape)
        yield lambda chunks, _: ((chunk, scorer(chunk)) for chunk in chunks)
        return
    # spawn: a forked copy of onnxruntime's and Arrow's threads may hang.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_start_worker,
        initargs=(release.folder, release.manifest, shape, cascade),
    )
    try:
        with _deaf_to_ctrl_c():
            # A task for each process, for the pool starts one only when there is work for it.
            for _ in range(workers):
                pool.submit(os.getpid)
        yield lambda chunks, _: _in_order(pool, chunks, workers * _CHUNKS_AHEAD)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started here never see Ctrl-C, which a terminal sends to all: the job stops them."""
    # Python's helper process is started with the first worker, and its start would let the signal through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: ChunkScorer | TocsinError | None = None


def _start_worker(folder: Path, manifest: Manifest, shape: Shape, cascade: bool) -> None:
    """:param manifest: of the release that the job began with, which its folder may no longer hold."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        classifier = EventClassifier.load(folder, cascade=cascade)
        refuse_another(folder, classifier.release.manifest, manifest)
        _worker = ChunkScorer(classifier, shape)
    except TocsinError as error:
        # Told with the first task: of one that ends its start with an error the pool knows only that it is gone.
        _worker = error


def _end_with_parent() -> None:
    """A job that was killed cannot stop its workers, and they would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _score(texts: list[str], numbers: NDArray[np.int64]) -> Answers:
    if _worker is None:
        raise RuntimeError("the worker was not initialized")
    if isinstance(_worker, TocsinError):
        raise _worker
    return _worker(Chunk(None, texts, numbers, [], len(texts)))


def _in_order(pool: ProcessPoolExecutor, chunks: Iterable[Chunk], ahead: int) -> Scored:
    """Chunks with their answers in the order they came, at most `ahead` of them in the making."""
    waiting: deque[tuple[Chunk, Future[Answers]]] = deque()
    try:
        for chunk in chunks:
            # Only what scoring needs crosses to the other process.
            waiting.append((chunk, pool.submit(_score, chunk.texts, chunk.numbers)))
            if len(waiting) >= ahead:
                yield _finished(waiting)
        while waiting:
            yield _finished(waiting)
    except BrokenProcessPool as error:
        raise TocsinError("A worker process died, perhaps for want of memory. Try fewer --workers.") from error


def _finished(waiting: deque[tuple[Chunk, Future[Answers]]]) -> tuple[Chunk, Answers]:
    chunk, future = waiting.popleft()
    return chunk, future.result()
