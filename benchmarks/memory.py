"""Peak memory of `tocsin score` on files made on the fly: it must not grow with the file.

    python benchmarks/memory.py [--megabytes 5 50] [--format csv] [--workers 1] [--beside 0]

Texts repeat within a chunk, so that the run is short: what stands in a chunk more than once is scored once. Rows,
chunks and answers are as many as ever. `--beside 1000` gives each row another column of so many bytes, as files have
that are large: 5 GB of them are four million rows, and some minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from speed import corpus_texts, peak_memory

from tocsin_serving.batch.files import compress

FORMATS = ("csv", "csv.gz", "jsonl", "jsonl.zst", "parquet")
_DISTINCT_TEXTS = 16
# Of Parquet: 16,000 rows.
_ROUNDS_A_GROUP = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--megabytes", type=int, nargs="+", default=[5, 50], help="sizes of the text before compression"
    )
    parser.add_argument("--format", choices=FORMATS, default="csv")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--beside", type=int, default=0, help="bytes of a second column in each row, which is kept")
    arguments = parser.parse_args()
    table = Table("file", "rows", "rows/s", "peak memory, all processes", title="tocsin score; must 1000 MB, aim 400")
    for megabytes in arguments.megabytes:
        source = Source(megabytes * 1_000_000, arguments.format, arguments.beside)
        table.add_row(f"{megabytes} MB {arguments.format}", *measured(source, arguments.workers))
    Console().print(table)


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


def measured(kind: Source, workers: int) -> tuple[str, str, str]:
    """Rows, speed and peak memory of a job over a file."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / f"in.{kind.format}"
        rows = make(source, kind)
        command = [sys.executable, "-m", "tocsin.cli.main", "score", str(source), f"{scratch}/out.{kind.format}"]
        begun = time.perf_counter()
        peak = peak_memory([*command, "--workers", str(workers)], every=1)
        return f"{rows:,}", f"{rows / (time.perf_counter() - begun):,.0f}", f"{peak / 1e6:,.0f} MB"


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
