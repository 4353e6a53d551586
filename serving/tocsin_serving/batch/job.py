"""A batch job: read, score, write, count; and go on where it was interrupted."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from upath import UPath

from tocsin import InputError, Release, TocsinError, UsageError
from tocsin.disk import atomic, sync
from tocsin.errors import how_to_install
from tocsin.release import default_release_folder
from tocsin.stores import resolve_release
from tocsin_serving.batch.chunks import Answers, Chunk, Columns, Reader, Writer
from tocsin_serving.batch.columns import Shape
from tocsin_serving.batch.csv_format import CsvReader, CsvWriter
from tocsin_serving.batch.dialect import Dialect
from tocsin_serving.batch.files import (
    STREAM,
    FileFormat,
    Input,
    Place,
    compress,
    deliver,
    fingerprint,
    reaching,
    readable,
)
from tocsin_serving.batch.jsonl_format import JsonlReader, JsonlWriter
from tocsin_serving.batch.outputs import FilePair, check_absent, check_content, check_folder, plan, reject_line
from tocsin_serving.batch.parquet_format import ParquetReader, ParquetWriter
from tocsin_serving.batch.records import (
    Counts,
    FileRecord,
    Identity,
    JobManifest,
    Progress,
    ReleaseRecord,
    package_versions,
)
from tocsin_serving.batch.scoring import ScoreChunks, check_answers, scoring
from tocsin_serving.batch.workspace import OutputTakenError, Spool, Workspace
from tocsin_serving.settings import available_cores

Engine = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How to score."""

    text_column: str = "text"
    date_column: str | None = None
    """A column that must be there for the report."""
    split_sentences: bool = False
    scores: bool = False
    acled: bool = False
    """A row per event under ACLED's column names; for releases whose labels have ACLED's names."""
    prefix: str = ""
    """What stands before the names of the columns that are added."""
    cascade: bool = False
    """Let the release's screen settle texts that plainly report nothing."""
    workers: int | None = 1
    """None: one per core that the engine has."""
    engine: Engine = "local"
    ray_address: str | None = None
    release: str | None = None
    overwrite: bool = False
    resume: bool = False
    """Go on with unfinished outputs and leave finished ones as they are."""
    work_dir: Path | None = None
    """Where outputs bound for a store grow; none means a folder of the user's cache."""
    stdout_copy: Path | None = None
    """Where what goes to stdout is kept too, for the report."""

    def __post_init__(self) -> None:
        """:raises UsageError: an option would be without effect."""
        if self.ray_address is not None and self.engine != "ray":
            raise UsageError("--ray-address says where Ray is: add --engine ray, or leave it out")

    @property
    def shape(self) -> Shape:
        """What an output row is."""
        notes = self.text_column != "notes" or self.split_sentences
        return Shape(self.split_sentences, self.scores, self.acled, notes, self.prefix)

    @property
    def columns(self) -> Columns:
        """The columns to read and those to add."""
        others = () if self.date_column is None else (self.date_column,)
        return Columns(self.text_column, self.shape.schema, others)


@dataclass
class FileSummary(Counts):
    """What became of one file's rows."""

    files: FilePair
    failure: TocsinError | None = None
    """Why the file was not scored; none: it was."""
    left_as_it_was: bool = field(default=False, compare=False)
    """An earlier run had finished the output, and these are its counts."""
    rows_kept: int = field(default=0, compare=False)
    """Of the rows read, those that an earlier run had done."""
    seconds: float = field(default=0.0, compare=False)
    """That the others have taken."""

    @property
    def rows_per_second(self) -> float:
        """Rows that this run has done in a second, scored or rejected."""
        return (self.rows_read - self.rows_kept) / self.seconds if self.seconds else 0.0

    def check(self) -> None:
        """Refuse to finish when a row was lost.

        :raises TocsinError: the counts do not add up.
        """
        if self.rows_read != self.rows_scored + self.rows_rejected:
            raise TocsinError(f"{self}: rows were lost, so no output was written. Please report this.")

    def __str__(self) -> str:
        written = f" ({self.rows_written:,} rows written)" if self.rows_written != self.rows_scored else ""
        streamed = self.files.target == STREAM
        where = "on stderr" if streamed else f"in {self.files.rejects}"
        return (
            f"{self.files.source_name}: {self.rows_read:,} rows read = {self.rows_scored:,} scored{written} "
            f"{'on stdout' if streamed else f'in {self.files.target}'} + {self.rows_rejected:,} rejected"
            f"{f' {where}' if self.rows_rejected else ''}{'; left as it was' if self.left_as_it_was else ''}"
        )


@dataclass(frozen=True)
class Reading:
    """A file's missing chunks, which come out the same wherever and however often they are read."""

    where: Place
    file_format: FileFormat
    name: str
    columns: Columns
    begin: int = 0
    """Chunks to pass over."""

    def __call__(self) -> Iterator[Chunk]:
        """Open the file and read it.

        :raises InputError: the file cannot be read to its end.
        """
        with closing(Input(self.where, self.file_format, self.name)) as source:
            with readable(source):
                reader = open_reader(source, self.columns)
            yield from islice(_chunks(reader, source), self.begin, None)

    def check(self) -> None:
        """Read a file to its end if damage could keep what is behind it from being read: scoring it takes much longer.

        :raises InputError: the file cannot be read to its end.
        """
        if self.file_format.may_break_off:
            deque(self(), maxlen=0)


Progressed = Callable[[FileSummary, float], None]
"""Called after each chunk with the counts so far and the share of the file that has been read."""


def score_file(
    source: str | Path | UPath,
    target: str | Path | UPath,
    *,
    text_column: str = "text",
    split_sentences: bool = False,
    scores: bool = False,
    acled: bool = False,
    prefix: str = "",
    cascade: bool = False,
    workers: int | None = 1,
    engine: Engine = "local",
    ray_address: str | None = None,
    release: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    file_format: str | None = None,
    work_dir: str | Path | None = None,
    delimiter: str | None = None,
    quote: str = '"',
    escape: str | None = None,
    encoding: str = "utf-8",
    header: bool = True,
) -> FileSummary:
    """Label the texts of one CSV, JSON Lines or Parquet file.

    :param source: file to read: a path, a URL such as ``s3://bucket/reports.csv.gz``, or ``-`` for stdin.
    :param target: file to write, of the same kind; it appears only when it is complete.
    :param text_column: column or field that holds the text; without a header its number.
    :param split_sentences: write a row per sentence, with its place in the text.
    :param scores: add every label's probability.
    :param acled: write a row per event, under ACLED's column names.
    :param prefix: what to put before the names of the columns that are added, where the input has such names itself.
    :param cascade: let the release's screen settle texts that plainly report nothing.
    :param workers: processes of one thread each; 1 scores in this process, none means one per core.
    :param engine: ``local``, or ``ray`` for a cluster.
    :param ray_address: of the cluster; none starts one of this machine alone.
    :param resume: go on with an unfinished output, or leave a finished one that this job would write again.
    :param file_format: ``csv``, ``jsonl`` or ``parquet`` for files whose names tell none.
    :param work_dir: where an output bound for a store grows; none means a folder of the user's cache.
    :param delimiter: of CSV, between cells; none to tell it from the file.
    :param quote: of CSV, around cells; ``none`` where quotes are characters like others.
    :param escape: of CSV, the character before quotes of a text; none where they are doubled.
    :param encoding: of CSV.
    :param header: of CSV, whether its first row holds the columns' names; without, they are ``column_1`` and so on.
    :return: counts; rows that could not be scored are in ``<target>.rejects.jsonl``.
    :raises TocsinError: no output was written; the message says why.
    """
    dialect = Dialect.of(delimiter=delimiter, quote=quote, escape=escape, encoding=encoding, header=header)
    options = JobOptions(
        text_column=dialect.column(text_column),
        split_sentences=split_sentences,
        scores=scores,
        acled=acled,
        prefix=prefix,
        cascade=cascade,
        workers=workers,
        engine=engine,
        ray_address=ray_address,
        release=None if release is None else str(release),
        overwrite=overwrite,
        resume=resume,
        work_dir=None if work_dir is None else Path(work_dir),
    )
    (summary,) = run(_single(plan(source, target, file_format, dialect)), options)
    return summary


def run(pairs: Sequence[FilePair], options: JobOptions, progressed: Progressed | None = None) -> list[FileSummary]:
    """Score files one after the other with the same workers; see `score_file`.

    A file that cannot be read, or whose output is not this job's to write, keeps no others from being scored: its
    summary says why.

    :raises TocsinError: no file can be read, or the job cannot go on; unfinished outputs are kept for ``resume``.
    """
    progressed, release = progressed or _ignore, open_release(options)
    record = ReleaseRecord.of(release)
    unread = check_before(pairs, options, record)
    summaries = {pair: FileSummary(pair, error) for pair, error in unread.items()}
    for summary in summaries.values():
        progressed(summary, 1.0)
    others = [pair for pair in pairs if pair not in unread]
    job = _Job(options, record, progressed)
    with _engine(release, others, options) as score:
        for pair in others:
            try:
                summaries[pair] = job.stream(pair, score) if pair.target == STREAM else job.file(pair, score)
            except (InputError, UsageError) as error:
                if len(pairs) == 1 or isinstance(error, OutputTakenError):
                    raise
                summaries[pair] = FileSummary(pair, error)
                progressed(summaries[pair], 1.0)
    return [summaries[pair] for pair in pairs]


def open_release(options: JobOptions) -> Release:
    """The release that is to answer, checked; whoever scores loads its encoder.

    :raises ReleaseError: it cannot be used.
    :raises UsageError: its labels have no place in the columns asked for.
    """
    release = Release.open(resolve_release(options.release))
    if options.cascade:
        release.require_screen()
    if options.acled and not release.taxonomy.has_acled_names:
        raise UsageError(
            f"--output-schema acled: not every label of {release.name} has ACLED's names (sub_event_type and "
            "disorder_type in its taxonomy), so ACLED's columns cannot be filled. Leave the option out."
        )
    return release


def _engine(release: Release, pairs: Sequence[FilePair], options: JobOptions) -> AbstractContextManager[ScoreChunks]:
    if options.engine == "local":
        workers = options.workers or available_cores()
        return scoring(release, options.shape, workers=workers, cascade=options.cascade)
    try:
        from tocsin_serving.batch.ray_engine import ray_scoring
    except ModuleNotFoundError as error:
        raise UsageError(f"--engine ray needs {error.name}: {how_to_install('ray')}") from error
    expected = list(_expected(pairs, options))
    return ray_scoring(
        release,
        options.shape,
        expected,
        address=options.ray_address,
        workers=options.workers,
        cascade=options.cascade,
    )


def _expected(pairs: Sequence[FilePair], options: JobOptions) -> Iterator[Reading]:
    """What there will be to read."""
    for pair in pairs:
        if STREAM not in (pair.source, pair.target) and (reading := _missing(pair, options)):
            yield reading


def _missing(pair: FilePair, options: JobOptions) -> Reading | None:
    """What is to be read of a file, as far as can be told before its output is locked and it is hashed."""
    progress = _workspace(pair, options).progress() if options.resume else None
    with reaching(pair.target):
        done = progress.finished if progress else options.resume and not options.overwrite and pair.target.exists()
    return None if done else _reading(pair, pair.source, options, progress.chunks if progress else 0)


def _reading(pair: FilePair, where: Place, options: JobOptions, begin: int = 0) -> Reading:
    # A worker elsewhere may run in another folder.
    where = where.absolute() if isinstance(where, Path) else where
    return Reading(where, pair.source_format, pair.source_name, options.columns, begin)


def rows_kept(pairs: Sequence[FilePair], options: JobOptions) -> int:
    """Rows of finished and unfinished outputs that a resumed job need not score again.

    :raises ReleaseError: there is no release to be compared with that of finished outputs.
    """
    folder = resolve_release(options.release)
    release = ReleaseRecord.at(default_release_folder() if folder is None else Path(folder))
    finished = {pair: finished_rows(pair, options, release) for pair in pairs}
    return sum(unfinished_rows(pair, options) if rows is None else rows for pair, rows in finished.items())


def unfinished_rows(pair: FilePair, options: JobOptions) -> int:
    """Rows of an unfinished output that a resumed job need not score again."""
    progress = None if pair.target == STREAM else _workspace(pair, options).progress()
    return 0 if progress is None else progress.counts.rows_read


def finished_rows(pair: FilePair, options: JobOptions, release: ReleaseRecord) -> int | None:
    """Rows of a finished output that a resumed job leaves as it is; none when it is not there.

    Told from sizes, without the hashes that the job compares: those would take the files to be read.
    """
    manifest = None if pair.target == STREAM else _manifest(pair)
    if manifest is None:
        return None
    made = (manifest.release, manifest.settings, manifest.versions, manifest.input.path)
    same = made == (release, _settings(pair, options), package_versions(), pair.source_name)
    sizes = {pair.source: manifest.input.bytes, pair.target: manifest.output.bytes}
    same = same and all(where == STREAM or _size(where) == size for where, size in sizes.items())
    return manifest.counts.rows_read if same else None


def _size(where: Place) -> int | None:
    with reaching(where):
        try:
            return int(where.stat().st_size)
        except FileNotFoundError:
            return None


def open_reader(source: Input, columns: Columns) -> Reader:
    """A reader for an opened file; what cannot be read as what it is called is refused.

    :raises InputError: naming the file and its fault.
    """
    check_content(source)
    readers: dict[str, Callable[[Input, Columns], Reader]] = {
        "csv": CsvReader,
        "jsonl": JsonlReader,
        "parquet": ParquetReader,
    }
    return readers[source.format.kind](source, columns)


def open_writer(reader: Reader, columns: Columns) -> Writer:
    """The writer that goes with a reader."""
    if isinstance(reader, CsvReader):
        return CsvWriter(reader, columns.added)
    if isinstance(reader, ParquetReader):
        return ParquetWriter(reader, columns.added)
    return JsonlWriter()


def _single(pairs: list[FilePair]) -> list[FilePair]:
    if len(pairs) != 1:
        raise TocsinError(f"score_file takes one file, not {len(pairs)}: call it for each")
    return pairs


def _ignore(summary: FileSummary, share: float) -> None:
    """Nobody is watching."""


def _workspace(pair: FilePair, options: JobOptions) -> Workspace:
    return Workspace.of(pair.target, options.work_dir)


def check_before(
    pairs: Sequence[FilePair], options: JobOptions, release: ReleaseRecord, *, trial: bool = False
) -> dict[FilePair, TocsinError]:
    """Refuse what can be refused before any work.

    :param release: that is to answer.
    :param trial: write nothing, and look no further than at the beginning of files.
    :return: files that cannot be read, and why; the others can be scored.
    :raises TocsinError: none can be read, or an output cannot be written or resumed.
    """
    files = [pair for pair in pairs if pair.source != STREAM]
    unread = _faults(files, lambda pair: _check_start(pair, options))
    _refuse_all(pairs, unread)
    for pair in pairs:
        if pair not in unread:
            with disk_errors(pair, lambda: "Nothing was scored."):
                _check_target(pair, options, release, trial=trial)
    if not trial:
        unread |= _faults([pair for pair in files if pair not in unread], lambda pair: _check_rest(pair, options))
        _refuse_all(pairs, unread)
    return unread


def _faults(pairs: Sequence[FilePair], check: Callable[[FilePair], None]) -> dict[FilePair, TocsinError]:
    """The files that do not pass a check, and why."""
    found = dict[FilePair, TocsinError]()
    for pair in pairs:
        try:
            with disk_errors(pair, lambda: "Nothing was scored."):
                check(pair)
        except TocsinError as error:
            found[pair] = error
    return found


def _refuse_all(pairs: Sequence[FilePair], unread: dict[FilePair, TocsinError]) -> None:
    if pairs and len(unread) == len(pairs):
        raise unread[pairs[0]]


def _check_start(pair: FilePair, options: JobOptions) -> None:
    with closing(Input(pair.source, pair.source_format)) as source, readable(source):
        open_writer(open_reader(source, options.columns), options.columns)


def _check_rest(pair: FilePair, options: JobOptions) -> None:
    if reading := _missing(pair, options):
        reading.check()


def _check_target(pair: FilePair, options: JobOptions, release: ReleaseRecord, *, trial: bool) -> None:
    if pair.target != STREAM:
        check_folder(pair, trial=trial)
        _check_output(pair, options)
        if options.resume:
            _check_alike(pair, options, release)
    elif options.resume:
        raise UsageError("A job that writes to stdout cannot be resumed; leave --resume out")


@contextmanager
def disk_errors(pair: FilePair, outcome: Callable[[], str]) -> Iterator[None]:
    """Turn what a disk in trouble raises into a message.

    :param outcome: says what has become of the output.
    :raises TocsinError: in place of the system's error.
    """
    try:
        yield
    except BrokenPipeError:
        # Whoever read our stdout went away, which is no trouble; the command ends without a word.
        raise
    except OSError as error:
        reason = error.strerror or error
        raise TocsinError(f"{pair.source_name} to {pair.target_name}: {reason}. {outcome()}") from error


def _check_output(pair: FilePair, options: JobOptions) -> None:
    """Refuse to touch a finished or unfinished output unless told what to do with it.

    :raises UsageError: naming the options.
    """
    if options.resume or options.overwrite:
        return
    check_absent(pair)
    progress = _workspace(pair, options).progress()
    if progress is not None:
        raise UsageError(
            f"{pair.target} is unfinished: {progress.counts.rows_read:,} rows are kept. "
            "--resume goes on, --overwrite starts anew."
        )


def _check_alike(pair: FilePair, options: JobOptions, release: ReleaseRecord) -> None:
    """Refuse to resume by another release, other settings or versions: they are the whole job's, not this file's.

    Whether input and output are as they were takes reading them, and is seen when the file's turn comes.

    :raises UsageError: saying what differs.
    """
    manifest, progress = _manifest(pair), _workspace(pair, options).progress()
    differences = [] if manifest is None else _changes(manifest.identity, pair, options, release)
    if progress is not None and (manifest is None or differences):
        _check_begun(pair, _changes(progress.identity, pair, options, release))
    elif differences and not options.overwrite:
        check_absent(pair, differences)


def _changes(made: Identity, pair: FilePair, options: JobOptions, release: ReleaseRecord) -> list[str]:
    """In words, what a job has otherwise than one before it, the input left aside."""
    return made.differences(_identity(pair, options, release, made.input))


def _check_begun(pair: FilePair, changes: Sequence[str]) -> None:
    """:raises UsageError: there are changes since an output was begun."""
    if changes:
        raise UsageError(
            f"{pair.target} was begun otherwise: {'; '.join(changes)}. "
            "Resume it as it was begun, or start anew with --overwrite and without --resume."
        )


class _Job:
    """One run over files: the options, the release that answers, and who is told."""

    def __init__(self, options: JobOptions, release: ReleaseRecord, progressed: Progressed) -> None:
        self._options = options
        self._release = release
        self._progressed = progressed

    def file(self, pair: FilePair, score: ScoreChunks) -> FileSummary:
        """Score a file into a file or an object of a store.

        :raises TocsinError: the output is not there; what was done is kept for --resume.
        """
        workspace = _workspace(pair, self._options)
        with (
            disk_errors(pair, lambda: f"No output was written{_kept(workspace)}."),
            workspace.locked(pair.target),
        ):
            # Once more, for another job may have finished since.
            _check_output(pair, self._options)
            return self._file(pair, workspace, score)

    def stream(self, pair: FilePair, score: ScoreChunks) -> FileSummary:
        """Score a file to stdout, rejects to stderr, each chunk as soon as it is scored.

        :raises TocsinError: what went to stdout is not complete.
        """
        counts, begun = Counts(), time.monotonic()
        with (
            disk_errors(pair, lambda: "What went to stdout is not complete."),
            tempfile.TemporaryDirectory() as folder,
            ExitStack() as stack,
        ):
            scratch = Path(folder)
            where = pair.source
            if pair.source == STREAM and self._options.engine != "local":
                where = _copied_pipe(scratch / "input")
            source = stack.enter_context(closing(Input(where, pair.source_format, pair.source_name)))
            with readable(source):
                reader = open_reader(source, self._options.columns)
            writer = open_writer(reader, self._options.columns)
            output = stack.enter_context(closing(_Stdout(writer, scratch, self._options.stdout_copy)))
            output.write(writer.header())
            for chunk, answers in score(_chunks(reader, source), _reading(pair, where, self._options)):
                self._count(counts, chunk, answers)
                for piece in writer.encode(chunk.rows, answers):
                    output.write(piece)
                sys.stderr.buffer.write(_reject_lines(pair, chunk))
                sys.stderr.flush()
                self._progressed(_summary(pair, counts, seconds=time.monotonic() - begun), reader.progress())
            output.finish(counts.rows_written)
        summary = _summary(pair, counts)
        summary.check()
        return summary

    def _file(self, pair: FilePair, workspace: Workspace, score: ScoreChunks) -> FileSummary:
        where = _copied_pipe(workspace.input) if pair.source == STREAM else pair.source
        seen = fingerprint(where)
        if seen is None:
            raise InputError(f"{pair.source_name} is not there any more.")
        identity = _identity(pair, self._options, self._release, FileRecord.of(where, pair.source_name))
        before = _manifest(pair) if self._options.resume else None
        differences = [] if before is None else _differences(pair, before, identity)
        if before is not None and not differences:
            workspace.forget()
            return FileSummary(pair, left_as_it_was=True, **vars(before.counts))
        progress = self._begin(pair, workspace, identity, differences)
        if not progress.finished:
            if pair.source == STREAM:
                _reading(pair, where, self._options).check()
            with closing(Input(where, pair.source_format, pair.source_name)) as source:
                writer = self._score(pair, workspace, progress, source, score)
            if fingerprint(where) != seen:
                workspace.forget()
                raise InputError(f"{pair.source_name} was changed while it was read. Run the job again.")
            _finish(pair, workspace, progress, writer)
        _publish(pair, workspace, progress)
        return _summary(pair, progress.counts)

    def _begin(self, pair: FilePair, workspace: Workspace, identity: Identity, differences: Sequence[str]) -> Progress:
        """The journal to go on with, or a new one.

        :param differences: what keeps a finished output from being taken for this job's.
        :raises UsageError: the unfinished output is another job's, or a finished one would be replaced.
        """
        progress = workspace.progress() if self._options.resume else None
        if progress is None:
            workspace.forget()
        if not self._options.overwrite and not (progress and progress.finished):
            check_absent(pair, differences)
        if progress is None:
            return Progress(identity=identity, counts=Counts(), started=_now())
        _check_begun(pair, progress.identity.differences(identity))
        progress.resumed += 1
        return progress

    def _score(
        self, pair: FilePair, workspace: Workspace, progress: Progress, source: Input, score: ScoreChunks
    ) -> Writer:
        """Append the rows that are still missing, a chunk at a time."""
        with readable(source):
            reader = open_reader(source, self._options.columns)
        writer = open_writer(reader, self._options.columns)
        header = b"" if progress.output_bytes else writer.header()
        # Read again and passed over: the same file comes in the same chunks, and reading costs little beside scoring.
        missing = islice(_chunks(reader, source), progress.chunks, None)
        again = _reading(pair, source.where, self._options, progress.chunks)
        kept, begun = progress.counts.rows_read, time.monotonic()
        with closing(Spool(workspace, progress)) as spool:
            try:
                for chunk, answers in score(missing, again):
                    progress.chunks += 1
                    self._count(progress.counts, chunk, answers)
                    rows = writer.encode(chunk.rows, answers)
                    spool.commit(chain([header], rows), _reject_lines(pair, chunk))
                    header = b""
                    summary = _summary(pair, progress.counts, rows_kept=kept, seconds=time.monotonic() - begun)
                    self._progressed(summary, reader.progress())
            except InputError:
                # The file has to be mended, and then it is another one.
                workspace.forget()
                raise
            if header:
                spool.commit([header], b"")
        return writer

    def _count(self, counts: Counts, chunk: Chunk, answers: Answers) -> None:
        """Count a chunk, no row of which was lost.

        :raises TocsinError: one was.
        """
        check_answers(chunk, answers, self._options.shape)
        counts.add(chunk, answers)


def _identity(pair: FilePair, options: JobOptions, release: ReleaseRecord, source: FileRecord) -> Identity:
    return Identity(input=source, release=release, settings=_settings(pair, options), versions=package_versions())


def _settings(pair: FilePair, options: JobOptions) -> dict[str, str | bool | None]:
    """What an output depends on besides input, release and versions."""
    return {
        "text_column": options.text_column,
        "split_sentences": options.split_sentences,
        "scores": options.scores,
        "output_schema": "acled" if options.acled else "tocsin",
        "prefix": options.prefix,
        "cascade": options.cascade,
        "input_format": str(pair.source_format),
        "output_format": str(pair.target_format),
    }


def _chunks(reader: Reader, source: Input) -> Iterator[Chunk]:
    with readable(source):
        yield from reader.chunks()


def _summary(pair: FilePair, counts: Counts, *, rows_kept: int = 0, seconds: float = 0.0) -> FileSummary:
    return FileSummary(pair, rows_kept=rows_kept, seconds=seconds, **vars(counts))


def _reject_lines(pair: FilePair, chunk: Chunk) -> bytes:
    return b"".join(reject_line(pair.source_name, reject) for reject in chunk.rejects)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _kept(workspace: Workspace) -> str:
    progress = workspace.progress()
    return f"; {progress.counts.rows_read:,} rows are kept, --resume goes on" if progress else ""


def _copied_pipe(copy: Path) -> Path:
    """Stdin as a file: it can be hashed before and read again, by a resumed job that gets the same input as well."""
    with copy.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return copy


class _Stdout:
    """Takes output to stdout as it comes, or for Parquet, whose end describes the whole, when all of it is there."""

    def __init__(self, writer: Writer, scratch: Path, copy: Path | None) -> None:
        """:param copy: where all of it is kept too; none for nowhere."""
        self._parquet = writer if isinstance(writer, ParquetWriter) else None
        self._copy = copy
        self._packed = scratch / "packed"
        self._spooled = scratch / "output" if self._parquet else copy
        self._file = self._spooled.open("wb") if self._spooled else None

    def write(self, content: bytes) -> None:
        """Add what a writer made."""
        if self._file is not None:
            self._file.write(content)
        if self._parquet is None:
            sys.stdout.buffer.write(content)
            sys.stdout.flush()

    def finish(self, rows: int) -> None:
        """Nothing more comes after so many rows."""
        self.close()
        if self._parquet is None or self._spooled is None:
            return
        self._parquet.assemble(self._spooled, self._packed, rows)
        with self._packed.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.flush()
        if self._copy is not None:
            shutil.move(self._packed, self._copy)

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()


def _manifest(pair: FilePair) -> JobManifest | None:
    """What a finished output was made from; none where there is no manifest of a job."""
    with reaching(pair.manifest):
        try:
            return JobManifest.model_validate_json(pair.manifest.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None


def _differences(pair: FilePair, manifest: JobManifest, identity: Identity) -> list[str]:
    """In words, why a finished output is not what this job would write; nothing when it is."""
    records = {pair.target: manifest.output, pair.rejects: manifest.rejects}
    faults = (_fault(where, record) for where, record in records.items() if record is not None)
    return manifest.identity.differences(identity) or [fault for fault in faults if fault]


def _fault(where: Place, record: FileRecord) -> str | None:
    """What became of a file since it was recorded; none when it is as it was."""
    try:
        return None if FileRecord.of(where).sha256 == record.sha256 else f"{where} was changed since"
    except FileNotFoundError:
        return f"{where} is missing"


def _ready(pair: FilePair, workspace: Workspace) -> Path:
    """The file of the workspace that becomes the output."""
    plain = pair.target_format.codec is None and pair.target_format.kind != "parquet"
    return workspace.output if plain else workspace.packed


def _finish(pair: FilePair, workspace: Workspace, progress: Progress, writer: Writer) -> None:
    """Make output, rejects and manifest ready to be put in place."""
    _summary(pair, progress.counts).check()
    if isinstance(writer, ParquetWriter):
        writer.assemble(workspace.output, workspace.packed, progress.counts.rows_written)
    elif pair.target_format.codec:
        compress(workspace.output, workspace.packed, pair.target_format.codec)
    ready = _ready(pair, workspace)
    sync(ready)
    rejects = FileRecord.of(workspace.rejects, str(pair.rejects)) if progress.counts.rows_rejected else None
    manifest = JobManifest(
        tocsin=progress.identity.versions["tocsin"],
        **dict(progress.identity),
        output=FileRecord.of(ready, str(pair.target)),
        rejects=rejects,
        counts=progress.counts,
        started=progress.started,
        finished=_now(),
        resumed=progress.resumed,
    )
    with atomic(workspace.manifest) as file:
        file.write((manifest.model_dump_json(indent=2) + "\n").encode())
    progress.finished = True
    workspace.save(progress)


def _publish(pair: FilePair, workspace: Workspace, progress: Progress) -> None:
    """Put the files in place, the output last: where it is, the others are. Interrupted, it can be done again.

    What is replaced stays until then: an output that is there is never gone for a moment, but may for one be older than
    its companions.
    """
    if not progress.counts.rows_rejected:
        with reaching(pair.rejects):
            if pair.rejects.exists():
                pair.rejects.unlink()
    ready = {workspace.manifest: pair.manifest, _ready(pair, workspace): pair.target}
    if progress.counts.rows_rejected:
        ready = {workspace.rejects: pair.rejects, **ready}
    for made, target in ready.items():
        if made.exists():
            deliver(made, target)
    workspace.forget()
