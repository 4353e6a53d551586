"""How `tocsin score` grows with workers, on the local engine and on Ray, and what a text costs beyond start-up.

    python benchmarks/distributed.py [--texts 8000] [--workers 1 2 4] [--save]

`--save` writes the table, with date, machine and command, between the marks in docs/distributed.md. Workers share this
one machine: those beyond its cores can bring nothing, and the table says how many cores there are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import numpy as np
from pages import DOCS, publish
from peers import output, reason
from speed import as_made, corpus_texts, cpu_name

from tocsin import EventClassifier, Release
from tocsin_serving.batch import score_file
from tocsin_serving.batch.chunks import CHUNK_ROWS, Answers, Chunk
from tocsin_serving.batch.columns import Shape
from tocsin_serving.batch.scoring import ChunkScorer
from tocsin_serving.settings import available_cores

PAGE = DOCS / "distributed.md"
_PROGRAM = "benchmarks/distributed.py"
_JOB_SECONDS = 3600
_ROWS_PASSED_ON = 40_000


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
    publish(lambda: table(arguments.texts, arguments.workers), PAGE, _PROGRAM, save=arguments.save)


def table(count: int, workers: list[int]) -> str:
    """Measure, with so many texts."""
    texts = corpus_texts(count)
    with tempfile.TemporaryDirectory() as scratch:
        whole, part = (written(Path(scratch) / str(rows), texts[:rows]) for rows in (count, part_of(count)))
        jobs = {
            (engine, number): Job(measured(whole, engine, number), measured(part, engine, number))
            for engine in ("local", "ray")
            for number in workers
        }
        return as_table(jobs, count, workers, passing_on(Path(scratch) / "passed on"))


def written(folder: Path, texts: Sequence[str]) -> Path:
    """A folder with the texts as a file."""
    folder.mkdir()
    lines = (json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "in.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def passing_on(folder: Path) -> float:
    """CPU seconds a text of the process with the command: what it reads and writes, by a scorer that costs nothing.

    No more than a bound: the job also waits for the disk. Any chunk gets the answers to the first one's texts.
    """
    texts = corpus_texts(_ROWS_PASSED_ON)
    written(folder, texts)
    numbers = np.arange(CHUNK_ROWS)
    scored = ChunkScorer(EventClassifier.load(), Shape())(Chunk(None, texts[:CHUNK_ROWS], numbers, [], CHUNK_ROWS))

    def score(chunks: Iterable[Chunk], _: object) -> Iterator[tuple[Chunk, Answers]]:
        for chunk in chunks:
            rows = len(chunk.texts)
            tally = replace(scored.tally, scored=rows)
            yield chunk, Answers(scored.columns.slice(0, rows), scored.parents[:rows], tally)

    with patch("tocsin_serving.batch.job.scoring", lambda *_, **__: nullcontext(score)):
        begun = time.process_time()
        score_file(folder / "in.jsonl", folder / "out.jsonl")
        return (time.process_time() - begun) / len(texts)


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


def as_table(jobs: dict[tuple[str, int], Job], texts: int, workers: list[int], passed_on: float) -> str:
    """:param passed_on: CPU seconds that a text costs the process with the command."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {available_cores()} cores, release {Release.open().name}, "
        f"{texts:,} texts, by `{as_made('bench-distributed')}`. Texts a second with start-up; core seconds and hours "
        f"without it, from what these texts took longer than {part_of(texts):,}. Cores are those of workers: with "
        "fewer of them than cores, the process with the command works on one that is not counted, so go by a row with "
        "a worker on every core:",
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
    every_core = [count for count in workers if count >= available_cores()]
    costs = [cost for count in every_core if (cost := core_seconds(jobs["ray", count], texts, count)) is not None]
    cores = f": as many as {min(costs) / passed_on:,.0f} cores score" if costs else ""
    told = (
        f"The process with the command took {passed_on * 1000:.3f} CPU seconds to read and write 1,000 texts, which "
        f"makes {1 / passed_on:,.0f} a second by CPU time alone{cores}. It also waits for the disk, which has each "
        "chunk's rows and journal before the next, and what Ray itself does there comes on top of that."
    )
    return "\n".join([*lines, "", told])


def core_seconds(job: Job, texts: int, workers: int) -> float | None:
    """Of a text more, start-up left out: a job of a billion texts has it once. None where more took no longer."""
    more = texts - part_of(texts)
    if job.whole <= job.part or not more:
        return None
    return (job.whole - job.part) * min(workers, available_cores()) / more


if __name__ == "__main__":
    main()
