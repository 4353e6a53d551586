"""How `tocsin score` grows with workers, on the local engine and on Ray, and what a text costs beyond start-up.

    python benchmarks/distributed.py [--texts 8000] [--workers 1 2 4] [--save]

`--save` writes the table, with date and machine, between the marks in docs/distributed.md. Workers share this one
machine: those beyond its cores can bring nothing, and the table says how many cores there are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pages
from peers import output, reason
from speed import corpus_texts, cpu_name

from tocsin_serving.settings import available_cores

PAGE = Path(__file__).resolve().parents[1] / "docs" / "distributed.md"
_JOB_SECONDS = 3600


@dataclass(frozen=True)
class Job:
    """Seconds of a whole job as a user starts it, over all of the texts and over the first part of them."""

    whole: float
    part: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=8000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--save", action="store_true", help="write the table into docs/distributed.md")
    arguments = parser.parse_args()
    if arguments.save:
        # Now, and not after an hour of measuring.
        with_table("")
    texts = corpus_texts(arguments.texts)
    with tempfile.TemporaryDirectory() as scratch:
        whole, part = Path(scratch) / "whole", Path(scratch) / "part"
        for folder, count in ((whole, len(texts)), (part, part_of(len(texts)))):
            folder.mkdir()
            lines = (json.dumps({"text": text}) + "\n" for text in texts[:count])
            (folder / "in.jsonl").write_text("".join(lines), encoding="utf-8")
        jobs = {
            (engine, workers): Job(measured(whole, engine, workers), measured(part, engine, workers))
            for engine in ("local", "ray")
            for workers in arguments.workers
        }
    table = as_table(jobs, len(texts), arguments.workers)
    print(table)
    if arguments.save:
        PAGE.write_text(with_table(table), encoding="utf-8")


def part_of(texts: int) -> int:
    return max(1, texts // 4)


def measured(folder: Path, engine: str, workers: int) -> float:
    """Seconds of a job over a folder's texts; its output must be that of the first one.

    :raises SystemExit: it fails, or takes longer than an hour.
    """
    target = folder / f"{engine}-{workers}.jsonl"
    command = [sys.executable, "-m", "tocsin.cli.main", "score", str(folder / "in.jsonl"), str(target)]
    begun = time.perf_counter()
    try:
        output([*command, "--engine", engine, "--workers", str(workers)], _JOB_SECONDS)
    except subprocess.SubprocessError as error:
        raise SystemExit(f"the {engine} engine with {workers} workers: {reason(error)}") from error
    seconds = time.perf_counter() - begun
    first, *others = (file for file in folder.glob("*-*.jsonl") if ".rejects." not in file.name)
    if any(other.read_bytes() != first.read_bytes() for other in others):
        raise SystemExit(f"the {engine} engine with {workers} workers wrote something else")
    return seconds


def as_table(jobs: dict[tuple[str, int], Job], texts: int, workers: list[int]) -> str:
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {available_cores()} cores, {texts:,} texts. Texts a second with "
        f"start-up; core seconds and hours without it, from what these texts took longer than {part_of(texts):,}:",
        "",
        "| workers | local, texts/s | Ray, texts/s | Ray against its first row | Ray, core seconds per 1,000 texts "
        "| Ray, core hours per billion |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for count in workers:
        local, ray = jobs["local", count], jobs["ray", count]
        growth = jobs["ray", workers[0]].whole / ray.whole
        cost = core_seconds(ray, texts, count)
        row = (
            count,
            f"{texts / local.whole:.0f}",
            f"{texts / ray.whole:.0f}",
            f"{growth:.2f}x",
            "-" if cost is None else f"{cost * 1000:.2f}",
            "-" if cost is None else f"{cost * 1e9 / 3600:,.0f}",
        )
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def core_seconds(job: Job, texts: int, workers: int) -> float | None:
    """Of a text more, start-up left out: a job of a billion texts has it once. None where more took no longer."""
    more = texts - part_of(texts)
    if job.whole <= job.part or not more:
        return None
    return (job.whole - job.part) * min(workers, available_cores()) / more


def with_table(table: str) -> str:
    """The page with a table between its marks; refused where it has none."""
    return pages.with_table(PAGE, Path(__file__).name, table)


if __name__ == "__main__":
    main()
