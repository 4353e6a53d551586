"""Peak memory of `tocsin score` on files made on the fly: it must not grow with the file.

    python benchmarks/memory.py [--megabytes 5 50] [--format csv] [--workers 1 2 4 8] [--beside 0] [--save]

A hundred texts repeat, so that the run is short: a worker scores a text once that comes again soon. So its time says
nothing of how fast texts are scored, and is not told. Rows, chunks and answers are as many as ever; texts that all
differ take each worker some 7 MB more, by which it knows them again. `--beside 1000` gives each row another column of
so many bytes, as files have that are large: 5 GB of them are four million rows, and some minutes. `--save` writes the
table, with date, machine and command, between the marks in docs/batch.md. Memory is PSS: a page that several processes
share counts once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pages import DOCS, publish
from speed import as_made, corpus_texts, cpu_name, peak_memory

from tocsin import Release
from tocsin_serving.batch.files import compress
from tocsin_serving.settings import available_cores

PAGE = DOCS / "batch.md"
_PROGRAM = "benchmarks/memory.py"
FORMATS = ("csv", "csv.gz", "jsonl", "jsonl.zst", "parquet")
_DISTINCT_TEXTS = 100
# Of Parquet: 16,000 rows.
_ROUNDS_A_GROUP = 160


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--megabytes", type=int, nargs="+", default=[5, 50], help="sizes of the text before compression"
    )
    parser.add_argument("--format", choices=FORMATS, default="csv")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--beside", type=int, default=0, help="bytes of a second column in each row, which is kept")
    parser.add_argument("--save", action="store_true", help="write the table into docs/batch.md")
    arguments = parser.parse_args()
    found = (
        (f"{megabytes} MB {arguments.format}", workers, measured(source, workers))
        for megabytes in arguments.megabytes
        for source in [Source(megabytes * 1_000_000, arguments.format, arguments.beside)]
        for workers in arguments.workers
    )
    publish(lambda: as_table(found), PAGE, _PROGRAM, save=arguments.save)


@dataclass(frozen=True)
class Measured:
    """What a job over a file took."""

    rows: int
    peak: int
    """Bytes, of all processes."""


def as_table(found: Iterable[tuple[str, int, Measured]]) -> str:
    """:param found: a file's name, the job's workers, and what it took."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {available_cores()} cores, release {Release.open().name}, by "
        f"`{as_made('bench-memory')}`; {_DISTINCT_TEXTS} texts that repeat; must 1,000 MB, aim 400:",
        "",
        "| file | workers | rows | peak memory, all processes |",
        "| --- | --- | --- | --- |",
    ]
    for name, workers, took in found:
        row = (name, workers, f"{took.rows:,}", f"{took.peak / 1e6:,.0f} MB")
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Source:
    """A file to be scored."""

    size: int
    """Bytes before compression, about."""
    format: str
    beside: int
    """Bytes of a second column in each row; 0: there is none."""

    @property
    def rows(self) -> list[dict[str, str]]:
        """Those that are repeated."""
        more = {"body": "x" * self.beside} if self.beside else {}
        return [{"text": text} | more for text in corpus_texts(_DISTINCT_TEXTS)]

    @property
    def rounds(self) -> int:
        """How often they are."""
        return max(1, self.size // sum(len(value.encode()) for row in self.rows for value in row.values()))


def measured(kind: Source, workers: int) -> Measured:
    """A job over a file that is made for it."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / f"in.{kind.format}"
        rows = make(source, kind)
        command = [sys.executable, "-m", "tocsin.cli.main", "score", str(source), f"{scratch}/out.{kind.format}"]
        return Measured(rows, peak_memory([*command, "--workers", str(workers)], every=1))


def make(path: Path, kind: Source) -> int:
    """Write the file; the number of its rows."""
    rows, rounds = kind.rows, kind.rounds
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, pa.Table.from_pylist(rows).schema) as writer:
            for written in range(0, rounds, _ROUNDS_A_GROUP):
                writer.write_table(pa.Table.from_pylist(rows * min(_ROUNDS_A_GROUP, rounds - written)))
        return rounds * len(rows)
    jsonl = ".jsonl" in path.name
    lines = [json.dumps(row) if jsonl else _csv(row.values()) for row in rows]
    block = ("\n".join(lines) + "\n").encode()
    plain = path.with_name("plain")
    with plain.open("wb") as file:
        file.write(b"" if jsonl else (_csv(rows[0]) + "\n").encode())
        for _ in range(rounds):
            file.write(block)
    if path.suffix in (".gz", ".zst"):
        compress(plain, path, {".gz": "gzip", ".zst": "zstd"}[path.suffix])
    else:
        plain.rename(path)
    return rounds * len(rows)


def _csv(values: Iterable[str]) -> str:
    return ",".join('"' + value.replace('"', '""') + '"' for value in values)


if __name__ == "__main__":
    main()
