"""What a job would find and how long it would take, told from the first rows; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from tocsin.cli.console import err
from tocsin_serving.batch.chunks import CHUNK_ROWS, Chunk
from tocsin_serving.batch.files import Input, readable
from tocsin_serving.batch.job import FileSummary, JobOptions, load_classifier, open_reader, rows_kept
from tocsin_serving.batch.outputs import FilePair
from tocsin_serving.batch.scoring import ChunkScorer
from tocsin_serving.batch.summary import summary_table
from tocsin_serving.settings import available_cores

# Enough for a rate that holds within some tenths, in a second or so.
_TEXTS = 256
_WARM_UP_TEXTS = 16
# Rows read, over all files, to tell how many there are: of a compressed file only whole buffers can be told.
_ROWS_COUNTED = 20_000


@dataclass(frozen=True)
class Estimate:
    """What the first rows promise."""

    sample: FileSummary
    rows: int | None
    """Left to score of all files, told from the share of each that its first rows take up; none for a pipe."""
    rows_per_second: float
    """Of one worker."""

    def in_words(self, workers: int | None) -> str:
        """Rows, rate and time.

        :param workers: none when a cluster will tell how many there are.
        """
        rate = self.rows_per_second * (workers or 1)
        of = "each worker" if workers is None else "1 worker" if workers == 1 else f"{workers} workers"
        if self.rows is None:
            return f"about {rate:,.0f} rows/s with {of}; how many rows a pipe holds is not known"
        time_taken = _duration(self.rows / rate) + (" divided by the number of workers" if workers is None else "")
        return f"about {self.rows:,} rows at about {rate:,.0f} rows/s with {of}: about {time_taken}"


def estimate(files: Sequence[FilePair], options: JobOptions) -> Estimate:
    """Score the first rows of the first file in this process.

    :raises TocsinError: a file or the release cannot be used, as in the job itself.
    """
    scorer = ChunkScorer(load_classifier(options), options.shape)
    looks = [_look(pair, options, max(CHUNK_ROWS, _ROWS_COUNTED // len(files))) for pair in files]
    chunk = _beginning(looks[0][0], _TEXTS)
    scorer(_beginning(chunk, _WARM_UP_TEXTS))
    begun = time.perf_counter()
    answers = scorer(chunk)
    seconds = time.perf_counter() - begun
    sample = FileSummary(files[0])
    sample.add(chunk, answers)
    known = [rows for _, rows in looks if rows is not None]
    kept = rows_kept(files, options) if options.resume else 0
    rows = max(sum(known) - kept, 0) if len(known) == len(looks) else None
    return Estimate(sample, rows, sample.rows_read / seconds)


def dry_run_with_estimate(files: Sequence[FilePair], options: JobOptions) -> None:
    """Print on stderr what the first rows hold and what the job would take."""
    found = estimate(files, options)
    err.print(summary_table([found.sample], title=f"The first rows of {files[0].source_name}"))
    workers = options.workers or (available_cores() if options.engine == "local" else None)
    err.print(f"{found.in_words(workers)}. Nothing was written.", markup=False)


def _look(pair: FilePair, options: JobOptions, limit: int) -> tuple[Chunk, int | None]:
    """A file's first rows, and how many it has: counted up to a limit, then by the share read; none for a pipe."""
    with closing(Input(pair.source, pair.source_format)) as source, readable(source):
        reader = open_reader(source, options.columns)
        first, rows = None, 0
        for chunk in reader.chunks():
            first, rows = first or chunk, rows + chunk.read
            if rows >= limit:
                share = reader.progress()
                return first, round(rows / share) if share else None
    return first or Chunk(None, [], np.empty(0, dtype=np.int64), [], 0), rows


def _beginning(chunk: Chunk, count: int) -> Chunk:
    """The first texts of a chunk, with the rejects that stand among them."""
    if len(chunk.texts) <= count:
        return chunk
    numbers = chunk.numbers[:count]
    rejects = [reject for reject in chunk.rejects if reject.row < numbers[-1]]
    return Chunk(None, chunk.texts[:count], numbers, rejects, count + len(rejects))


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"
