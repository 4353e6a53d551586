"""How `tocsin score` grows with workers, on the local engine and on Ray, start-up included.

    python benchmarks/distributed.py [--texts 8000] [--workers 1 2 4] [--save]

`--save` writes the table, with date and machine, between the marks in docs/distributed.md. Workers share this one
machine: those beyond its cores can bring nothing, and the table says how many cores there are.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from speed import corpus_texts, cpu_name

from tocsin_serving.settings import available_cores

PAGE = Path(__file__).resolve().parents[1] / "docs" / "distributed.md"
_MARKS = re.compile(
    r"(<!-- benchmarks/distributed.py begins -->\n).*?(<!-- benchmarks/distributed.py ends -->)", re.DOTALL
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=8000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--save", action="store_true", help="write the table into docs/distributed.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jsonl"
        lines = (json.dumps({"text": text}) + "\n" for text in corpus_texts(arguments.texts))
        source.write_text("".join(lines), encoding="utf-8")
        seconds = {
            (engine, workers): measured(source, engine, workers)
            for engine in ("local", "ray")
            for workers in arguments.workers
        }
    table = as_table(seconds, arguments.texts, arguments.workers)
    print(table)
    if arguments.save:
        save(table)


def measured(source: Path, engine: str, workers: int) -> float:
    """Seconds of a whole job as a user starts it; its output must be that of the first one."""
    target = source.with_name(f"{engine}-{workers}.jsonl")
    command = [sys.executable, "-m", "tocsin.cli.main", "score", str(source), str(target)]
    begun = time.perf_counter()
    subprocess.run([*command, "--engine", engine, "--workers", str(workers)], check=True, stderr=subprocess.PIPE)
    seconds = time.perf_counter() - begun
    first, *others = (file for file in source.parent.glob("*-*.jsonl") if ".rejects." not in file.name)
    if any(other.read_bytes() != first.read_bytes() for other in others):
        raise SystemExit(f"the {engine} engine with {workers} workers wrote something else")
    return seconds


def as_table(seconds: dict[tuple[str, int], float], texts: int, workers: list[int]) -> str:
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {available_cores()} cores, {texts:,} texts, start-up included:",
        "",
        "| workers | local, texts/s | Ray, texts/s | Ray against its first row | Ray, core seconds per 1,000 texts "
        "| Ray, core hours per billion |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for count in workers:
        local, ray = seconds["local", count], seconds["ray", count]
        cost = ray * min(count, available_cores()) / texts * 1000
        growth = seconds["ray", workers[0]] / ray
        billion = cost / 1000 * 1e9 / 3600
        row = (count, f"{texts / local:.0f}", f"{texts / ray:.0f}", f"{growth:.2f}x", f"{cost:.2f}", f"{billion:,.0f}")
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def save(table: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_MARKS.sub(lambda marks: f"{marks[1]}{table}\n{marks[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
