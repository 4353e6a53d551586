"""The sub-commands this room adds to ``tocsin``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli.console import err, out

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
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes of one thread each.", show_default="one per core")
    ] = None,
    release: ReleaseOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
) -> None:
    """Label the texts of CSV, JSON Lines or Parquet files.

    Every input column and the order of rows are kept; the events and their probabilities are added. Rows that cannot be
    scored go to OUTPUT.rejects.jsonl with the reason. Outputs appear only when they are complete.
    """
    from tocsin_serving.batch import JobOptions, plan, run_with_progress
    from tocsin_serving.settings import available_cores

    options = JobOptions(
        text_column=text_column,
        split_sentences=split_sentences,
        scores=scores,
        workers=workers or available_cores(),
        release=release,
        overwrite=overwrite,
    )
    run_with_progress(plan(source, target), options)
