"""Preparing people's own data: rows a second, memory and disk of `tocsin data` on a made-up export in ACLED's layout.

    python benchmarks/prepare.py [--rows 600000] [--gigabytes 5] [--no-near-duplicates] [--save]

Notes are words drawn at random by frequency, as long as ACLED's are; one in twenty is there twice, and one in twenty
is another with a word changed, which is what the search for near-duplicates is for. The second run finds what the first
made. Label errors are not looked for.

A file of `--gigabytes` is projected and not made: its time and disk by the rows, its memory by what the rows beyond a
quarter of those measured added. Memory is without pages of files, which the system takes back when it needs them.
`--save` writes the table, with date, machine and command, between the marks in docs/retraining.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from pathlib import Path

from pages import DOCS, publish
from speed import CORES, ROOT, as_made, cpu_name, own_memory, peak_memory

from tocsin.taxonomy import Taxonomy
from tocsin_training.config import load_settings, to_toml
from tocsin_training.corpus import IMPORT_REPORT

PAGE = DOCS / "retraining.md"
_PROGRAM = "benchmarks/prepare.py"
_PARTS = 4
_LOOKED_EVERY = 0.5
"""Seconds between two looks at the disk."""
_COLUMNS = ("event_id_cnty", "event_date", "event_type", "sub_event_type", "country", "source", "notes")
_WORDS = 12_000
_DAYS = 2_500
_FIRST_DAY = date(2018, 1, 1)


@dataclass(frozen=True)
class Taken:
    """What an import took."""

    rows: int
    bytes: int
    """Of the file."""
    seconds: float
    again_seconds: float
    """Where it was imported before."""
    memory_bytes: int
    disk_bytes: int
    """At most, while it went on."""
    read_share: float
    """Of the time, that reading took."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the file that is projected")
    parser.add_argument("--no-near-duplicates", action="store_true", help="leave out the search for these")
    parser.add_argument("--save", action="store_true", help="write the table into docs/retraining.md")
    arguments = parser.parse_args()
    options = ["--no-near-duplicates"] if arguments.no_near_duplicates else []

    def table() -> str:
        part, whole = (measured(rows, options) for rows in (arguments.rows // _PARTS, arguments.rows))
        return as_table(part, whole, projected(part, whole, round(arguments.gigabytes * 1e9)))

    publish(table, PAGE, _PROGRAM, save=arguments.save)


def measured(rows: int, options: list[str]) -> Taken:
    """An import of so many rows that are made for it."""
    with tempfile.TemporaryDirectory() as scratch:
        source, recipe, runs = Path(scratch) / "export.csv", Path(scratch) / "recipe.toml", Path(scratch) / "runs"
        settings = load_settings(ROOT / "training" / "train-tiny.toml")
        recipe.write_text(to_toml(settings.model_copy(update={"runs": runs})), encoding="utf-8")
        write_export(source, rows, Taxonomy.load(settings.data.taxonomy))
        command = [sys.executable, "-m", "tocsin.cli.main", "data", str(source), "--config", str(recipe), *options]
        # They are looked for in 5,000 texts, however many there are, so that their time would not grow with the file.
        command.append("--no-label-errors")
        begun = time.perf_counter()
        with watched(runs) as disk:
            memory = peak_memory(command, of=own_memory)
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        peak_memory(command, of=own_memory)
        again = time.perf_counter() - begun
        (report,) = (json.loads(path.read_text(encoding="utf-8")) for path in runs.glob(f"imports/*/{IMPORT_REPORT}"))
        share = report["read_seconds"] / report["seconds"]
        return Taken(rows, source.stat().st_size, seconds, again, memory, max(disk), share)


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """How many bytes a folder held, looked at now and then while the block runs."""
    sizes, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(_LOOKED_EVERY):
            sizes.append(disk_use(folder))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield sizes
    finally:
        done.set()
        thread.join()
        sizes.append(disk_use(folder))


def disk_use(folder: Path) -> int:
    """Bytes of the disk that the files under a folder take; what vanishes meanwhile takes none."""
    total = 0
    for path in folder.rglob("*"):
        try:
            # Blocks and not the size: a file may have room in it that nothing was written to yet.
            total += 512 * path.stat().st_blocks
        except OSError:
            continue
    return total


def projected(part: Taken, whole: Taken, size: int) -> Taken:
    """What a file of so many bytes would take."""
    times = size / whole.bytes
    added = max(0, whole.memory_bytes - part.memory_bytes) / (whole.rows - part.rows)
    rows = round(whole.rows * times)
    return Taken(
        rows=rows,
        bytes=size,
        seconds=whole.seconds * times,
        again_seconds=whole.again_seconds * times,
        memory_bytes=round(whole.memory_bytes + added * max(0, rows - whole.rows)),
        disk_bytes=round(whole.disk_bytes * times),
        read_share=whole.read_share,
    )


def as_table(part: Taken, whole: Taken, more: Taken) -> str:
    """The two that were measured, and the one that was projected."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {CORES} cores, by `{as_made('bench-prepare')}`; of the time "
        f"{whole.read_share:.0%} is reading:",
        "",
        "| file | rows | first import | rows/s | second import | peak memory | peak disk |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for took, said in ((part, ""), (whole, ""), (more, " (projected)")):
        row = (
            f"{took.bytes / 1e6:,.0f} MB{said}",
            f"{took.rows:,}",
            f"{took.seconds / 60:.1f} minutes",
            f"{took.rows / took.seconds:,.0f}",
            f"{took.again_seconds:.0f} s",
            f"{took.memory_bytes / 1e6:,.0f} MB",
            f"{took.disk_bytes / 1e9:.2f} GB",
        )
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def write_export(path: Path, rows: int, taxonomy: Taxonomy) -> None:
    """A file of made-up rows; the same for the same number of rows."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randrange(3, 11))) for _ in range(_WORDS)]
    frequencies = list(accumulate(1 / (rank + 10) for rank in range(_WORDS)))
    note = ""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for number in range(rows):
            kind = number % 20
            if kind == 1:
                note = note.replace(" ", f" {rng.choice(words)} ", 1)
            elif kind != 2:
                note = " ".join(rng.choices(words, cum_weights=frequencies, k=rng.randrange(25, 65))).capitalize() + "."
            label = rng.choice(taxonomy.labels)
            day = _FIRST_DAY + timedelta(days=number * _DAYS // rows)
            place = f"Country {number % 60}"
            writer.writerow(
                (f"X{number}", day, label.event_type, label.sub_event_type, place, f"Source {number % 900}", note)
            )


if __name__ == "__main__":
    main()
