"""What a job would find and how long it would take, told from the first rows; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from tocsin import EventClassifier, TocsinError, UsageError
from tocsin.cli.console import err
from tocsin_serving.batch.chunks import CHUNK_ROWS, Chunk
from tocsin_serving.batch.files import Input, readable
from tocsin_serving.batch.job import (
    FileSummary,
    JobOptions,
    check_before,
    disk_errors,
    finished_rows,
    open_reader,
    open_release,
    unfinished_rows,
)
from tocsin_serving.batch.outputs import FilePair
from tocsin_serving.batch.progress import duration
from tocsin_serving.batch.records import ReleaseRecord
from tocsin_serving.batch.scoring import ChunkScorer, scoring
from tocsin_serving.batch.summary import summary_table
from tocsin_serving.settings import available_cores

# Distinct ones. Enough for a rate that holds within some tenths, in a second or so.
_TEXTS = 256
_WARM_UP_TEXTS = 16
# Rows read, over all files, to tell how many there are; of a compressed file at least a whole buffer.
_ROWS_COUNTED = 20_000
_NOTHING = Chunk(None, [], np.empty(0, dtype=np.int64), [], 0)


@dataclass(frozen=True)
class Estimate:
    """What the first rows promise."""

    sample: FileSummary
    """Of the first file with a text among its first rows."""
    rows: int | None
    """Left to score of all files, told from the share of each that its first rows take up; none for a pipe."""
    rows_per_second: float | None
    """Of one worker, for texts of which none is another's repetition; none when the first rows hold no text."""

    def in_words(self, workers: int | None, start_up: float | None = None) -> str:
        """Rows, rate, time and cost.

        :param workers: none when a cluster will tell how many there are.
        :param start_up: seconds that workers take to start; none where it is not known.
        """
        if self.rows == 0:
            return "no rows are left to score"
        rows = "how many rows a pipe holds is not known" if self.rows is None else f"about {self.rows:,} rows"
        if self.rows_per_second is None:
            return f"{rows}; the first hold no text, so how fast they will be scored is not known"
        rate = self.rows_per_second * (workers or 1)
        of = "each worker" if workers is None else "1 worker" if workers == 1 else f"{workers} workers"
        if self.rows is None:
            cost = _core_hours(1_000_000 / self.rows_per_second)
            return f"about {rate:,.0f} rows/s with {of}, {cost} a million rows; {rows}"
        time_taken = duration(self.rows / rate) + (" divided by the number of workers" if workers is None else "")
        starting = "" if start_up is None else f" and {duration(start_up)} to start"
        cost = _core_hours(self.rows / self.rows_per_second)
        return f"{rows} at about {rate:,.0f} rows/s with {of}: about {time_taken}{starting}, {cost}"


def estimate(files: Sequence[FilePair], options: JobOptions) -> Estimate:
    """Score the first rows of the first file that has texts there, in this process.

    :raises TocsinError: a file or the release cannot be used, as in the job itself.
    """
    classifier = EventClassifier(open_release(options), cascade=options.cascade)
    release = ReleaseRecord.of(classifier.release)
    limit = max(CHUNK_ROWS, _ROWS_COUNTED // len(files))
    sampled, chunk, counted = files[0], _NOTHING, list[int | None]()
    for pair in files:
        if options.resume and finished_rows(pair, options, release) is not None:
            continue
        with disk_errors(pair, lambda: "Nothing was scored."):
            first, rows = _look(pair, options, limit)
        kept = unfinished_rows(pair, options) if options.resume else 0
        counted.append(None if rows is None else max(rows - kept, 0))
        if not chunk.read or (first.texts and not chunk.texts):
            sampled, chunk = pair, first
    known = [rows for rows in counted if rows is not None]
    sample, rate = _timed(ChunkScorer(classifier, options.shape, remember=0), sampled, chunk)
    return Estimate(sample, sum(known) if len(known) == len(counted) else None, rate)


def _timed(score: ChunkScorer, pair: FilePair, chunk: Chunk) -> tuple[FileSummary, float | None]:
    """Counts of a chunk's first rows, and how many are scored in a second; none without a text.

    What stands in a chunk twice is scored once. The rest of a file may repeat nothing, so each row is reckoned as a
    text of its own.
    """
    chunk = _beginning(chunk, _TEXTS)
    score(_beginning(chunk, _WARM_UP_TEXTS))
    begun = time.perf_counter()
    answers = score(chunk)
    seconds = time.perf_counter() - begun
    sample = FileSummary(pair)
    sample.add(chunk, answers)
    if not chunk.texts:
        return sample, None
    seconds_a_text = seconds / len(set(chunk.texts))
    return sample, sample.rows_read / (seconds_a_text * len(chunk.texts))


def start_up(options: JobOptions, workers: int) -> float:
    """Seconds that a job's workers take to start, all at once as in the job, until each has a release and Arrow.

    One worker is the job's own process, which starts as long as another one does.

    :raises TocsinError: they cannot start.
    """
    release, chunk = open_release(options), Chunk(None, ["A text."], np.array([1]), [], 1)
    begun = time.perf_counter()
    with scoring(release, options.shape, workers=max(workers, 2), cascade=options.cascade) as score:
        for _ in score([chunk] * workers, lambda: iter(())):
            pass
        return time.perf_counter() - begun


def dry_run_with_estimate(files: Sequence[FilePair], options: JobOptions) -> None:
    """Print on stderr what the first rows hold and what the job would take.

    :raises UsageError: the job would be refused, which is said after the estimate.
    """
    release = ReleaseRecord.of(open_release(options))
    unread, refused = dict[FilePair, TocsinError](), None
    try:
        unread = check_before(files, options, release, trial=True)
    except UsageError as error:
        refused = error
    for failure in unread.values():
        err.print(f"Left out: {failure}", markup=False)
    found = estimate([pair for pair in files if pair not in unread], options)
    if found.sample.rows_read:
        err.print(summary_table([found.sample], title=f"The first rows of {found.sample.files.source_name}"))
    workers = options.workers or (available_cores() if options.engine == "local" else None)
    left = found.rows != 0 and found.rows_per_second is not None
    starting = start_up(options, workers) if left and workers and options.engine == "local" else None
    err.print(f"{found.in_words(workers, starting)}. Nothing was written.", markup=False)
    if refused is not None:
        raise UsageError(f"the job would be refused: {refused}")


def _look(pair: FilePair, options: JobOptions, limit: int) -> tuple[Chunk, int | None]:
    """A file's first rows, if possible with a text, and how many it has: counted up to a limit, then by the share read.

    :return: no number for a pipe that goes on beyond the limit.
    """
    first, rows, share = _NOTHING, 0, 0.0
    with closing(Input(pair.source, pair.source_format)) as source, readable(source):
        reader = open_reader(source, options.columns)
        for chunk in reader.chunks():
            first, rows = first if first.texts else chunk, rows + chunk.read
            before, share = share, reader.progress()
            if rows < limit:
                continue
            if pair.source_format.codec is None:
                return first, round(rows / share) if share else None
            # Of a compressed file the share is that of whole buffers. When the next one is fetched, somewhere in this
            # chunk, the rows of those before have all been counted.
            if 0 < before < share:
                return first, round((rows - chunk.read / 2) / before)
    return first, rows


def _beginning(chunk: Chunk, count: int) -> Chunk:
    """A chunk's rows up to so many distinct texts, with the rejects that stand among them."""
    found, end = set[str](), 0
    for text in chunk.texts:
        found.add(text)
        if len(found) > count:
            break
        end += 1
    if end == len(chunk.texts):
        return chunk
    numbers = chunk.numbers[:end]
    rejects = [reject for reject in chunk.rejects if reject.row < numbers[-1]]
    return Chunk(None, chunk.texts[:end], numbers, rejects, end + len(rejects))


def _core_hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.1f} core-hours" if hours >= 0.1 else "less than 0.1 core-hours"
