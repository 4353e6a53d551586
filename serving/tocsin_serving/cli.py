"""The sub-commands this room adds to ``tocsin``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tocsin.cli.console import err, out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin_serving.batch import FileSummary, JobOptions
    from tocsin_serving.batch.outputs import FilePair

# Files that are left out, of perhaps thousands.
_NAMED = 10
ReleaseOption = Annotated[
    str | None,
    typer.Option(help="Release to use instead of the shipped one: a folder or store:name.", show_default=False),
]
DelimiterOption = Annotated[
    str | None,
    typer.Option(help="CSV: the character between cells, such as ^ or tab.", show_default="told from the file"),
]
QuoteOption = Annotated[str, typer.Option(help="CSV: the character around cells; none where there is none.")]
EscapeOption = Annotated[
    str | None,
    typer.Option(
        help="CSV: the character before quotes of a text, such as a backslash.", show_default="they are doubled"
    ),
]
EncodingOption = Annotated[str, typer.Option(help="CSV: encoding, such as cp1252 or utf-16.")]

PrefixOption = Annotated[
    str,
    typer.Option(
        help="Before the names of the columns that are added, such as tocsin_: for inputs that have such names "
        "themselves, ACLED's own among them.",
        show_default="nothing",
    ),
]


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3000,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes of one computing thread each.", show_default="one per core"),
    ] = None,
    release: ReleaseOption = None,
) -> None:
    """Serve the HTTP interface, with a page for people at / and the API's description at /docs.

    Ctrl-C stops it. Limits are set by TOCSIN_* environment variables, such as TOCSIN_MAX_TEXTS, and API keys by
    TOCSIN_API_KEYS_FILE (see `tocsin key new`).
    """
    from tocsin_serving.server import run

    run(host=host, port=port, workers=workers, release=release)


key = typer.Typer(help="API keys of the service.", no_args_is_help=True, add_completion=False)


@key.callback()
def _key() -> None:
    """API keys of the service; without any it is open to all who reach it, and /admin is off."""


@key.command("new")
def new_key(
    name: Annotated[str, typer.Argument(help="Whose key it is; written into the log beside each request.")],
    file: Annotated[
        Path | None,
        typer.Option(help="Key file to add it to; made if missing. Serve with TOCSIN_API_KEYS_FILE=FILE."),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="Let it call /admin, such as /admin/reload.")] = False,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Most requests a minute.", show_default="no limit")
    ] = None,
) -> None:
    """Make a key. It is shown once, on stdout; what is stored is its hash."""
    from tocsin_serving import keys

    secret, stored = keys.new_key(name, admin=admin, requests_per_minute=requests_per_minute)
    line = stored.model_dump_json()
    if file is None:
        err.print(f"Add this line to the file that {keys.FILE_VARIABLE} names, or put it into {keys.VARIABLE}:")
        err.print(line, markup=False)
        err.print("The key, shown this once:")
    else:
        keys.append(file, line)
        err.print(f"Added to {file}; a server reads it when it starts. The key, shown this once:", markup=False)
    out.print(secret, markup=False)


def score(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A .csv, .tsv, .jsonl, .ndjson, .jl (also .gz, .zst) or .parquet file, a folder of them, a glob in "
            "quotes, a URL such as s3://bucket/folder, or - for stdin.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT",
            help="A file of the same kind, compressed if its name says so; a folder when INPUT is a folder or a glob; "
            "a URL; - for stdout.",
        ),
    ],
    text_column: Annotated[
        str, typer.Option(help="Column or field that holds the text; its number with --no-header.")
    ] = "text",
    split_sentences: Annotated[
        bool, typer.Option("--split-sentences", help="Write one row per sentence instead of one per text.")
    ] = False,
    scores: Annotated[bool, typer.Option("--scores", help="Add every label's probability.")] = False,
    output_schema: Annotated[
        Literal["tocsin", "acled"],
        typer.Option(
            help="tocsin: every row, its events added. acled: a row per event, under ACLED's column names; only for "
            "releases whose labels have them."
        ),
    ] = "tocsin",
    prefix: PrefixOption = "",
    cascade: Annotated[
        bool,
        typer.Option(
            "--cascade",
            help="Let a first look settle texts that plainly report nothing: faster where most do, a few events lost.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Worker processes of one thread each; more than 16 may take more than 1 GB of memory.",
            show_default="one per core",
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local: processes on this machine. ray: on a cluster too; needs tocsin[ray]."),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="With --engine ray: the cluster this machine is part of, such as auto or 10.0.0.1:6379.",
            envvar="RAY_ADDRESS",
            show_default="a cluster of this machine alone",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Also write a page of charts and samples, one HTML file; needs tocsin[report]."),
    ] = None,
    date_column: Annotated[
        str | None, typer.Option(help="With --report: column of dates, for events over time.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Score the first rows only, say how long all will take, write nothing.")
    ] = False,
    release: ReleaseOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist, finished or unfinished.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with unfinished outputs; leave finished ones that would come out the same."
        ),
    ] = False,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="csv|jsonl|parquet",
            help="For files whose names tell none, such as -; those of a folder or glob are then read too.",
        ),
    ] = None,
    delimiter: DelimiterOption = None,
    quote: QuoteOption = '"',
    escape: EscapeOption = None,
    encoding: EncodingOption = "utf-8",
    no_header: Annotated[
        bool,
        typer.Option(
            "--no-header", help="CSV: the first line is a row. The output names the columns column_1, column_2, ..."
        ),
    ] = False,
    work_dir: Annotated[
        Path | None,
        typer.Option(help="Where an output bound for a URL grows until it is complete.", show_default="user's cache"),
    ] = None,
) -> None:
    """Label the texts of CSV, JSON Lines or Parquet files.

    Every input column and the order of rows are kept; the events and their probabilities are added. Rows that cannot be
    scored go to OUTPUT.rejects.jsonl with the reason; OUTPUT.manifest.json tells what the output was made from and
    counts its events. Outputs appear only when they are complete; a job that was stopped goes on with --resume. At its
    end stands a summary of what was found.
    """
    from tocsin import UsageError
    from tocsin_serving.batch import JobOptions, check_scored, dry_run_with_estimate, plan
    from tocsin_serving.batch.dialect import Dialect
    from tocsin_serving.batch.report import check_report

    # RAY_ADDRESS may be set for all that runs here.
    ray_address = ray_address if engine == "ray" or _was_typed(context, "ray_address") else None
    if date_column is not None and report is None:
        raise UsageError("--date-column is for the report: add --report FILE.html, or leave it out")
    dialect = Dialect.of(delimiter=delimiter, quote=quote, escape=escape, encoding=encoding, header=not no_header)
    options = JobOptions(
        text_column=dialect.column(text_column),
        date_column=None if date_column is None else dialect.column(date_column),
        split_sentences=split_sentences,
        scores=scores,
        acled=output_schema == "acled",
        prefix=prefix,
        cascade=cascade,
        workers=workers,
        engine=engine,
        ray_address=ray_address,
        release=release,
        overwrite=overwrite,
        resume=resume,
        work_dir=work_dir,
    )
    # Schedulers stop jobs with SIGTERM; it is to end like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pairs = plan(source, target, file_format, dialect, left_out=_tell_left_out)
    if report is not None:
        check_report(report, pairs, overwrite=overwrite, resume=resume)
    if dry_run:
        dry_run_with_estimate(pairs, options)
    elif report is not None:
        _score_and_report(pairs, options, report)
    else:
        check_scored(_score(pairs, options))


def _tell_left_out(names: Sequence[str]) -> None:
    """Name on stderr the first few files that will not be read."""
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
    err.print(f"Left out, for their names tell no format: {shown}", markup=False, soft_wrap=True)


def _was_typed(context: typer.Context, option: str) -> bool:
    """Whether an option's value comes from the command line, and not from the environment."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _score(pairs: Sequence[FilePair], options: JobOptions) -> list[FileSummary]:
    from tocsin_serving.batch import rows_kept, run_with_progress
    from tocsin_serving.batch.files import STREAM

    try:
        return run_with_progress(pairs, options)
    except KeyboardInterrupt:
        resumable = all(pair.target != STREAM for pair in pairs)
        err.print(_stopped(rows_kept(pairs, options), resumable=resumable), markup=False, soft_wrap=True)
        raise typer.Exit(130) from None


def _score_and_report(pairs: Sequence[FilePair], options: JobOptions, report: Path) -> None:
    from tocsin_serving.batch import check_scored
    from tocsin_serving.batch.files import STREAM
    from tocsin_serving.batch.report import write_report

    # Only what went to stdout is not there to be read again.
    with tempfile.TemporaryDirectory() as folder:
        options = replace(options, stdout_copy=Path(folder) / "output")
        summaries = _score(pairs, options)
        try:
            write_report(report, summaries, options)
        except KeyboardInterrupt:
            resumable = all(pair.target != STREAM for pair in pairs)
            how = f". Write it with: {_resuming()}" if resumable else ""
            err.print(
                f"stopped; what was scored is complete, the report was not written{how}", markup=False, soft_wrap=True
            )
            raise typer.Exit(130) from None
        check_scored(summaries)


def _stopped(rows: int, *, resumable: bool) -> str:
    if not resumable:
        return "stopped; what went to stdout is not complete, and such a job cannot be resumed"
    if not rows:
        return "stopped; nothing had been scored yet"
    return f"stopped; {rows:,} rows are kept. Go on with: {_resuming()}"


def _resuming() -> str:
    """The command that goes on; behind ``--`` an option would be a file's name."""
    command, *rest = (argument for argument in sys.argv[1:] if argument != "--resume")
    return shlex.join(["tocsin", command, "--resume", *rest])


def remap(
    source: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="Output of `tocsin score`: .csv, .jsonl, .parquet; or a folder or glob."),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A file of the same kind; of several, a folder.")],
    names: Annotated[Path, typer.Option(help='TOML file: a table [labels] with lines like old_label = "new_label".')],
    taxonomy: Annotated[
        Path | None, typer.Option(help="The new labels; by default those of --release.", show_default=False)
    ] = None,
    release: ReleaseOption = None,
    prefix: PrefixOption = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    delimiter: DelimiterOption = None,
    quote: QuoteOption = '"',
    escape: EscapeOption = None,
    encoding: EncodingOption = "utf-8",
) -> None:
    """Put old batch output under new label names, without scoring it again.

    Labels may be renamed, and several may become one; a label cannot be split or dropped. Every other column is kept,
    `model_version` too: it names the release that gave the answers.
    """
    from tocsin import Release, Taxonomy
    from tocsin.stores import resolve_release
    from tocsin_serving.batch.dialect import Dialect
    from tocsin_serving.batch.remap import Renaming, read_names
    from tocsin_serving.batch.remap import remap as write

    new = Release.open(resolve_release(release)).taxonomy if taxonomy is None else Taxonomy.load(taxonomy)
    dialect = Dialect.of(delimiter=delimiter, quote=quote, escape=escape, encoding=encoding)
    renaming = Renaming(read_names(names), new, prefix)
    rows = write(source, target, renaming, overwrite=overwrite, dialect=dialect, left_out=_tell_left_out)
    err.print(f"{source}: {rows:,} rows under new names in {target}", markup=False)
    if renaming.unmet:
        err.print(f"of the map, no row had: {', '.join(renaming.unmet)}", markup=False)
