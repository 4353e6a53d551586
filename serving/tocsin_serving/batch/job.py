"""A batch job: read, score, write, count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tocsin import TocsinError, UsageError
from tocsin.cli.console import err
from tocsin_serving.batch.chunks import Answers, Chunk, Columns, Reader, Writer
from tocsin_serving.batch.columns import Shape
from tocsin_serving.batch.csv_format import CsvReader, CsvWriter
from tocsin_serving.batch.jsonl_format import JsonlReader, JsonlWriter
from tocsin_serving.batch.outputs import FilePair, atomic, check_content, check_writable, plan, reject_line
from tocsin_serving.batch.parquet_format import ParquetReader, ParquetWriter
from tocsin_serving.batch.scoring import ScoreChunks, scoring
from tocsin_serving.batch.summary import kind_of_reason, summary_table
from tocsin_serving.batch.tally import Tally
from tocsin_serving.settings import available_cores


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How to score."""

    text_column: str = "text"
    date_column: str | None = None
    """A column that must be there for the report."""
    split_sentences: bool = False
    scores: bool = False
    acled: bool = False
    """A row per event under ACLED's column names."""
    workers: int | None = 1
    """None: one per core that the engine has."""
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    release: str | None = None
    overwrite: bool = False

    @property
    def shape(self) -> Shape:
        """What an output row is."""
        notes = self.text_column != "notes" or self.split_sentences
        return Shape(split_sentences=self.split_sentences, scores=self.scores, acled=self.acled, notes=notes)

    @property
    def columns(self) -> Columns:
        """The columns to read and those to add."""
        others = () if self.date_column is None else (self.date_column,)
        return Columns(self.text_column, self.shape.schema, others)


@dataclass
class FileSummary:
    """What became of one file's rows."""

    files: FilePair
    rows_read: int = 0
    rows_scored: int = 0
    rows_rejected: int = 0
    rows_written: int = 0
    """Equal to the rows scored, or the number of sentences with `split_sentences` and of events with `acled`."""
    tally: Tally = field(default_factory=Tally)
    reject_reasons: Counter[str] = field(default_factory=Counter)

    def add(self, chunk: Chunk, answers: Answers) -> None:
        """Count one chunk."""
        self.rows_read += chunk.read
        self.rows_scored += len(chunk.texts)
        self.rows_rejected += len(chunk.rejects)
        self.rows_written += answers.columns.num_rows
        self.tally += answers.tally
        self.reject_reasons.update(kind_of_reason(reject.reason) for reject in chunk.rejects)

    def check(self) -> None:
        """Refuse to finish when a row was lost.

        :raises TocsinError: the counts do not add up.
        """
        if self.rows_read != self.rows_scored + self.rows_rejected:
            raise TocsinError(f"{self}: rows were lost, so no output was written. Please report this.")

    def __str__(self) -> str:
        written = f" ({self.rows_written:,} rows written)" if self.rows_written != self.rows_scored else ""
        rejects = f" in {self.files.rejects}" if self.rows_rejected else ""
        return (
            f"{self.files.source}: {self.rows_read:,} rows read = {self.rows_scored:,} scored{written} in "
            f"{self.files.target} + {self.rows_rejected:,} rejected{rejects}"
        )


Progressed = Callable[[FileSummary, float], None]
"""Called after each chunk with the counts so far and the share of the file that has been read."""


def score_file(
    source: str | Path,
    target: str | Path,
    *,
    text_column: str = "text",
    split_sentences: bool = False,
    scores: bool = False,
    workers: int = 1,
    release: str | Path | None = None,
    overwrite: bool = False,
) -> FileSummary:
    """Label the texts of one CSV, JSON Lines or Parquet file.

    :param target: file to write, of the same kind; it appears only when it is complete.
    :param text_column: column or field that holds the text.
    :param split_sentences: write a row per sentence, with its place in the text.
    :param scores: add every label's probability.
    :param workers: processes of one thread each; 1 scores in this process.
    :return: counts; rows that could not be scored are in ``<target>.rejects.jsonl``.
    :raises TocsinError: nothing was written; the message says why.
    """
    options = JobOptions(
        text_column=text_column,
        split_sentences=split_sentences,
        scores=scores,
        workers=workers,
        release=None if release is None else str(release),
        overwrite=overwrite,
    )
    (summary,) = run(_single(plan(source, target)), options)
    return summary


def run(pairs: Sequence[FilePair], options: JobOptions, progressed: Progressed | None = None) -> list[FileSummary]:
    """Score files one after the other with the same workers; see `score_file`."""
    for pair in pairs:
        check_content(pair.source)
        open_reader(pair.source, options.columns).close()
        check_writable(pair, overwrite=options.overwrite)
    with _engine(pairs, options) as score:
        return [_run_file(pair, options, score, progressed or _ignore) for pair in pairs]


def _engine(pairs: Sequence[FilePair], options: JobOptions) -> AbstractContextManager[ScoreChunks]:
    if options.engine == "local":
        return scoring(options.release, options.shape, workers=options.workers or available_cores())
    try:
        from tocsin_serving.batch.ray_engine import ray_scoring
    except ModuleNotFoundError as error:
        raise UsageError(f"--engine ray needs {error.name}: run `pip install 'tocsin[ray]'`") from error
    files = [partial(read_chunks, pair.source, options.columns) for pair in pairs]
    return ray_scoring(options.release, options.shape, files, address=options.ray_address, workers=options.workers)


def read_chunks(path: Path, columns: Columns) -> Iterator[Chunk]:
    """All rows of a file in order."""
    with closing(open_reader(path, columns)) as reader:
        yield from reader.chunks()


def run_with_progress(pairs: Sequence[FilePair], options: JobOptions) -> list[FileSummary]:
    """Score files with a progress bar, and at the end a line of counts per file and a summary, on stderr."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[speed]:,.0f} rows/s"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    with bar:
        tasks = {pair: bar.add_task(pair.source.name, total=1.0, rows=0, speed=0.0, start=False) for pair in pairs}

        def show(summary: FileSummary, share: float) -> None:
            task = tasks[summary.files]
            if not bar.tasks[task].started:
                bar.start_task(task)
            seconds = bar.tasks[task].elapsed or 0.0
            speed = summary.rows_read / seconds if seconds else 0.0
            bar.update(task, completed=share, rows=summary.rows_read, speed=speed)

        summaries = run(pairs, options, show)
    for summary in summaries:
        err.print(str(summary), soft_wrap=True, markup=False, highlight=False)
    err.print(summary_table(summaries))
    return summaries


def _single(pairs: list[FilePair]) -> list[FilePair]:
    if len(pairs) != 1:
        raise TocsinError(f"score_file takes one file, not {len(pairs)}; use plan() and run()")
    return pairs


def _ignore(summary: FileSummary, share: float) -> None:
    """Nobody is watching."""


def open_reader(path: Path, columns: Columns) -> Reader:
    """A reader for a file by its extension."""
    readers: dict[str, Callable[[Path, Columns], Reader]] = {
        ".csv": CsvReader,
        ".jsonl": JsonlReader,
        ".parquet": ParquetReader,
    }
    return readers[path.suffix.lower()](path, columns)


def open_writer(file: BinaryIO, reader: Reader, columns: Columns) -> Writer:
    """The writer that goes with a reader."""
    if isinstance(reader, CsvReader):
        return CsvWriter(file, reader, columns.added)
    if isinstance(reader, ParquetReader):
        return ParquetWriter(file, reader, columns.added)
    return JsonlWriter(file)


def _run_file(pair: FilePair, options: JobOptions, score: ScoreChunks, progressed: Progressed) -> FileSummary:
    """Score one file. Output and rejects appear together, the output last; a failure leaves neither."""
    summary = FileSummary(pair)
    try:
        with ExitStack() as stack:
            output = stack.enter_context(atomic(pair.target))
            rejects = stack.enter_context(atomic(pair.rejects))
            reader = stack.enter_context(closing(open_reader(pair.source, options.columns)))
            writer = stack.enter_context(closing(open_writer(output, reader, options.columns)))
            for chunk, answers in score(reader.chunks()):
                writer.write(chunk.rows, answers)
                rejects.writelines(reject_line(pair.source, reject) for reject in chunk.rejects)
                summary.add(chunk, answers)
                progressed(summary, reader.progress())
            summary.check()
    except OSError as error:
        raise TocsinError(
            f"{pair.source} to {pair.target}: {error.strerror or error}. No output was written."
        ) from error
    if not summary.rows_rejected:
        pair.rejects.unlink()
    return summary
