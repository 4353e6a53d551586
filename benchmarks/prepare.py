"""Preparing people's own data: rows a second and peak memory of `tocsin data` on a made-up export in ACLED's layout.

    python benchmarks/prepare.py [--rows 600000] [--no-near-duplicates]

Notes are words drawn at random by frequency, as long as ACLED's are; one in twenty is there twice, and one in twenty
is another with a word changed, which is what the search for near-duplicates is for. The second run finds what the first
made.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
import time
from datetime import date, timedelta
from itertools import accumulate
from pathlib import Path

from rich.console import Console
from rich.table import Table
from speed import CORES, ROOT, cpu_name, peak_memory

from tocsin.taxonomy import Taxonomy
from tocsin_training.config import load_settings, to_toml

_COLUMNS = ("event_id_cnty", "event_date", "event_type", "sub_event_type", "country", "source", "notes")
_WORDS = 12_000
_DAYS = 2_500
_FIRST_DAY = date(2018, 1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--no-near-duplicates", action="store_true", help="leave out the search for these")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source, recipe = Path(scratch) / "export.csv", Path(scratch) / "recipe.toml"
        settings = load_settings(ROOT / "training" / "train-tiny.toml")
        recipe.write_text(to_toml(settings.model_copy(update={"runs": Path(scratch) / "runs"})), encoding="utf-8")
        write_export(source, arguments.rows, Taxonomy.load(settings.data.taxonomy))
        command = [sys.executable, "-m", "tocsin.cli.main", "data", str(source), "--config", str(recipe)]
        command += ["--no-near-duplicates"] if arguments.no_near_duplicates else []
        title = f"{arguments.rows:,} rows, {CORES} cores, {cpu_name()}"
        table = Table("run", "seconds", "rows/s", "peak memory", title=title)
        for run in ("first", "second"):
            begun = time.perf_counter()
            peak = peak_memory(command)
            seconds = time.perf_counter() - begun
            table.add_row(run, f"{seconds:.1f}", f"{arguments.rows / seconds:,.0f}", f"{peak / 1e6:,.0f} MB")
    Console().print(table)


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
