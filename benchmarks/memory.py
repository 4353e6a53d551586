"""Peak memory of `tocsin score` on files made on the fly: it must not grow with the file.

    python benchmarks/memory.py [--megabytes 5 50] [--format csv] [--workers 1]

Texts repeat within a chunk, so that the run is short: what stands in a chunk more than once is scored once. Rows,
chunks and answers are as many as ever.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
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
    arguments = parser.parse_args()
    table = Table("file", "rows", "rows/s", "peak memory, all processes", title="tocsin score; must 1000 MB, aim 400")
    for megabytes in arguments.megabytes:
        table.add_row(f"{megabytes} MB {arguments.format}", *measured(megabytes, arguments.format, arguments.workers))
    Console().print(table)


def measured(megabytes: int, file_format: str, workers: int) -> tuple[str, str, str]:
    """Rows, speed and peak memory of a job over a file of a size."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / f"in.{file_format}"
        rows = make(source, megabytes * 1_000_000)
        command = [sys.executable, "-m", "tocsin.cli.main", "score", str(source), f"{scratch}/out.{file_format}"]
        begun = time.perf_counter()
        peak = peak_memory([*command, "--workers", str(workers)])
        return f"{rows:,}", f"{rows / (time.perf_counter() - begun):,.0f}", f"{peak / 1e6:,.0f} MB"


def make(path: Path, size: int) -> int:
    """Write a file of about so many bytes of text; the number of its rows."""
    texts = corpus_texts(_DISTINCT_TEXTS)
    rounds = max(1, size // sum(len(text.encode()) for text in texts))
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
            for written in range(0, rounds, _ROUNDS_A_GROUP):
                writer.write_table(pa.table({"text": texts * min(_ROUNDS_A_GROUP, rounds - written)}))
        return rounds * len(texts)
    jsonl = ".jsonl" in path.name
    lines = [json.dumps({"text": text}) if jsonl else '"' + text.replace('"', '""') + '"' for text in texts]
    block = ("\n".join(lines) + "\n").encode()
    plain = path.with_name("plain")
    with plain.open("wb") as file:
        file.write(b"" if jsonl else b"text\n")
        for _ in range(rounds):
            file.write(block)
    if path.suffix in (".gz", ".zst"):
        compress(plain, path, {".gz": "gzip", ".zst": "zstd"}[path.suffix])
    else:
        plain.rename(path)
    return rounds * len(texts)


if __name__ == "__main__":
    main()
