"""Texts to columns, in this process or in several."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tocsin import EventClassifier, InputError, Release, TocsinError
from tocsin.sentences import split_sentences
from tocsin_serving.batch.chunks import Answers, Chunk
from tocsin_serving.batch.columns import SENTENCE_FIELDS, Shape, answer_columns, event_rows
from tocsin_serving.batch.repeats import REMEMBERED, Memory
from tocsin_serving.batch.tally import Tally
from tocsin_serving.batch.workers import Workers, WorkerSource

# Chunks in the making per worker: one being scored and one waiting keep it busy.
_CHUNKS_AHEAD = 2


class ChunkScorer:
    """Makes the columns to add for chunks; each worker process has one."""

    def __init__(self, classifier: EventClassifier, shape: Shape, *, remember: int = REMEMBERED) -> None:
        """:param remember: texts of earlier chunks that are not read again."""
        self._classifier = classifier
        self._memory = Memory(classifier, remember)
        self._shape = shape

    def __call__(self, chunk: Chunk) -> Answers:
        """The columns to add for a chunk, its rows untouched."""
        columns, parents, texts = self._by_sentence(chunk) if self._shape.split_sentences else self._by_text(chunk)
        tally = Tally.of(columns, self._classifier.languages)
        if self._shape.acled:
            columns, places = event_rows(columns, texts, self._shape)
            parents = parents[places]
        columns = columns.select(self._shape.fields.names).rename_columns(self._shape.schema.names)
        return Answers(columns, parents, tally)

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
        """One row per text; what stands in the chunk more than once, or stood in a late one, is read once."""
        encoded = pa.array(texts, pa.large_string()).dictionary_encode()
        unique = encoded.dictionary.to_pylist()
        scores = self._classifier.answers(self._memory.read(unique))
        columns = answer_columns(scores, unique, scores=self._shape.scores)
        return columns if len(unique) == len(texts) else columns.take(encoded.indices)


Scored = Iterator[tuple[Chunk, Answers]]
ReadChunks = Callable[[], Iterator[Chunk]]
ScoreChunks = Callable[[Iterable[Chunk], ReadChunks], Scored]
"""Scores a file's chunks lazily, in order; the second way to read them serves an engine that does so elsewhere too."""


def check_answers(chunk: Chunk, answers: Answers, shape: Shape) -> None:
    """Refuse answers that are not those to all rows of a chunk, whoever made them.

    :raises TocsinError: naming the rows.
    """
    asked, written, tally = len(chunk.texts), answers.columns.num_rows, answers.tally
    # A sentence is a text to the tally.
    answered = tally.scored >= asked if shape.split_sentences else tally.scored == asked
    if shape.acled:
        # A text without event has no row.
        complete = written == tally.labels.total()
    else:
        complete = written == tally.scored and np.array_equal(np.unique(answers.parents), np.arange(asked))
    if not (answered and complete and written == len(answers.parents)):
        first, last = chunk.numbers[[0, -1]] if asked else (0, 0)
        raise TocsinError(
            f"Of rows {first:,} to {last:,} some were lost while they were scored, so no output was written. "
            "Please report this."
        )


@contextmanager
def scoring(release: Release, shape: Shape, *, workers: int, cascade: bool = False) -> Iterator[ScoreChunks]:
    """A function that scores chunks in order, lazily, with as many processes as asked for.

    Beside workers this process has no encoder of its own: it reads and writes.
    """
    if workers == 1:
        scorer = ChunkScorer(EventClassifier(release, cascade=cascade), shape)
        yield lambda chunks, _: ((chunk, scorer(chunk)) for chunk in chunks)
        return
    source = WorkerSource(release.folder, release.manifest, cascade=cascade)
    with Workers(source, partial(ChunkScorer, shape=shape), workers) as pool:
        yield lambda chunks, _: _in_order(pool, chunks, workers * _CHUNKS_AHEAD)


def _in_order(pool: Workers, chunks: Iterable[Chunk], ahead: int) -> Scored:
    """Chunks with their answers in the order they came, at most `ahead` of them in the making."""
    waiting: deque[Chunk] = deque()
    try:
        for chunk in chunks:
            # Only what scoring needs crosses to the other process.
            pool.ask(chunk.texts, chunk.numbers)
            waiting.append(chunk)
            if len(waiting) >= ahead:
                yield waiting.popleft(), pool.answer()
    except InputError:
        # The answers to another file come behind these.
        for _ in waiting:
            pool.answer()
        raise
    while waiting:
        yield waiting.popleft(), pool.answer()
