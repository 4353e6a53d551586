"""The sub-commands this room adds to ``tocsin``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ReleaseOption = Annotated[
    str | None,
    typer.Option(help="Release to use instead of the shipped one: a folder or store:name.", show_default=False),
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

    Ctrl-C stops it. Limits are set by TOCSIN_* environment variables, such as TOCSIN_MAX_TEXTS.
    """
    from tocsin_serving.server import run

    run(host=host, port=port, workers=workers, release=release)


def score(
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="A .csv, .jsonl or .parquet file, a folder of them, or a glob in quotes."),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT", help="A file of the same kind; a folder when INPUT is a folder or a glob."),
    ],
    text_column: Annotated[str, typer.Option(help="Column or field that holds the text.")] = "text",
    split_sentences: Annotated[
        bool, typer.Option("--split-sentences", help="Write one row per sentence instead of one per text.")
    ] = False,
    scores: Annotated[bool, typer.Option("--scores", help="Add every label's probability.")] = False,
    output_schema: Annotated[
        Literal["tocsin", "acled"],
        typer.Option(help="tocsin: every row, its events added. acled: a row per event, under ACLED's column names."),
    ] = "tocsin",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes of one thread each.", show_default="one per core")
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
) -> None:
    """Label the texts of CSV, JSON Lines or Parquet files.

    Every input column and the order of rows are kept; the events and their probabilities are added. Rows that cannot be
    scored go to OUTPUT.rejects.jsonl with the reason. Outputs appear only when they are complete. A summary of what
    was found ends the job.
    """
    from tocsin_serving.batch import JobOptions, dry_run_with_estimate, plan, run_with_progress
    from tocsin_serving.batch.report import check_report, write_report

    options = JobOptions(
        text_column=text_column,
        date_column=date_column,
        split_sentences=split_sentences,
        scores=scores,
        acled=output_schema == "acled",
        workers=workers,
        engine=engine,
        ray_address=ray_address,
        release=release,
        overwrite=overwrite,
    )
    files = plan(source, target)
    if report is not None:
        check_report(report, overwrite=overwrite)
    if dry_run:
        dry_run_with_estimate(files, options)
        return
    summaries = run_with_progress(files, options)
    if report is not None:
        write_report(report, summaries, options)
