"""How far a job is, for whoever waits for it, on stderr.

On a terminal bars, which go when the job ends: one for the file at work and, of several files, one for all. Elsewhere
(a log, a pipe) a line every half minute, so that a small job says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tocsin import InputError
from tocsin.cli.console import err
from tocsin_serving.batch.files import STREAM
from tocsin_serving.batch.job import FileSummary, JobOptions, run
from tocsin_serving.batch.outputs import FilePair
from tocsin_serving.batch.summary import summary_table

_SAID_EVERY = 30.0
"""Seconds between two lines where there are no bars."""
_LATELY = 600.0
"""Seconds from whose speed it is told how long the rest takes: a compressed file is read in big steps."""


class Display:
    """Shows what a job tells of itself after each chunk.

    :param console: none is told nothing, as where stderr is for rejects.
    :param every: seconds between lines where the console is no terminal.
    """

    def __init__(
        self,
        pairs: Sequence[FilePair],
        console: Console | None,
        *,
        every: float = _SAID_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._every, self._clock, self._said = console, every, clock, clock()
        self._places = {pair: place for place, pair in enumerate(pairs)}
        self._weights = _weights(pairs)
        self._passed = [0, *accumulate(self._weights)]
        """Weight of the files before each one, and of all."""
        self._before = 0, 0
        """Rows and rejects of the files before the one at work."""
        self._file: FileSummary | None = None
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=console is None or not console.is_terminal,
            get_time=clock,
            speed_estimate_period=_LATELY,
        )
        several = len(pairs) > 1
        self._all = self._bars.add_task("", total=self._passed[-1], counts="") if several else None
        self._one = self._bars.add_task("", total=1.0, counts="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, summary: FileSummary, share: float) -> None:
        """A file is so far; see `job.Progressed`."""
        if summary.failure is not None:
            self._say(f"Left out: {summary.failure}")
            return
        if self._file is None or self._file.files != summary.files:
            self._begin(summary)
        self._file = summary
        rejected = f"{summary.rows_rejected:,} rejected"
        counts = f"{summary.rows_read:,} rows, {rejected}, {summary.rows_per_second:,.0f} rows/s"
        self._bars.update(self._one, completed=share, counts=counts)
        if self._all is not None:
            rows, rejects = self._before
            place = self._places[summary.files]
            counts = f"{rows + summary.rows_read:,} rows, {rejects + summary.rows_rejected:,} rejected"
            name = f"{place:,} of {len(self._places):,} files"
            done = self._passed[place] + share * self._weights[place]
            self._bars.update(self._all, description=name, completed=done, counts=counts)
        if self._bars.disable and self._clock() - self._said >= self._every:
            self._said = self._clock()
            self._say("; ".join(map(self._line, self._bars.task_ids)))

    def _begin(self, summary: FileSummary) -> None:
        """Another file is at work from now on."""
        if self._file is not None:
            rows, rejects = self._before
            self._before = rows + self._file.rows_read, rejects + self._file.rows_rejected
        self._bars.reset(self._one, description=summary.files.source_name)

    def _line(self, number: int) -> str:
        """What a bar shows, in words."""
        task = next(task for task in self._bars.tasks if task.id == number)
        left = task.time_remaining
        to_go = "" if left is None else f", {duration(left)} to go"
        return f"{task.description}: {task.fields['counts']}, {task.percentage:.0f}%{to_go}"

    def _say(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, markup=False, soft_wrap=True)


def _weights(pairs: Sequence[FilePair]) -> list[int]:
    """What share of all each file is: bytes, where they are told without asking a store; else files count alike."""
    # Of a file that is gone the job will tell.
    with suppress(OSError):
        sizes = [pair.source.stat().st_size for pair in pairs if isinstance(pair.source, Path)]
        if len(sizes) == len(pairs) and sum(sizes) > 0:
            return sizes
    return [1] * len(pairs)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"


def run_with_progress(pairs: Sequence[FilePair], options: JobOptions) -> list[FileSummary]:
    """Score files and tell on stderr how far they are, and at the end counts per file and a summary.

    :return: see `run`; `check_scored` refuses those that were left out.
    """
    # With the output on stdout the rejects come on stderr.
    with Display(pairs, None if any(pair.target == STREAM for pair in pairs) else err) as display:
        summaries = run(pairs, options, display)
    scored = [summary for summary in summaries if summary.failure is None]
    for summary in scored:
        err.print(str(summary), soft_wrap=True, markup=False, highlight=False)
    err.print(summary_table(scored))
    return summaries


def check_scored(summaries: Sequence[FileSummary]) -> None:
    """Refuse to end well when files were left out.

    :raises InputError: naming them.
    """
    failures = [str(summary.failure) for summary in summaries if summary.failure is not None]
    if failures:
        raise InputError("\n".join([f"Of {len(summaries):,} files {len(failures):,} could not be scored:", *failures]))
