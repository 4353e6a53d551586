"""What an import is at and how long it takes, for whoever waits for a big one, on stderr.

On a terminal a bar, which goes when the import ends; elsewhere (a log, a pipe) a line every half minute, so that a
small import says nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from tocsin.errors import InputError
from tocsin_training.duplicates import SKETCH_BYTES
from tocsin_training.importing.options import ImportOptions

Item = TypeVar("Item")

FORESEEN_AFTER = 20_000
"""Rows by which the others are foreseen; files that are smaller are read before anybody wonders."""
_SAID_EVERY = 30.0
"""Seconds between two lines where there is no bar."""
_LOOKED_EVERY = 1000
_LONG_SECONDS, _LARGE_BYTES = 120.0, 1_000_000_000
"""An import that takes less than either is not announced."""
# Seconds of processor time as a multiple of reading's, and bytes on the disk as one of the store's: what
# `make bench-prepare` measures of an export in ACLED's layout.
_REST, _NEAR_DUPLICATES = 1.4, 2.1
_CORPUS = 1.1


@dataclass(frozen=True)
class Forecast:
    """What a whole import takes, by its first rows."""

    rows: int
    seconds: float
    disk_bytes: int
    """At most, while it is made: the rows, and beside them the corpus or what near-duplicates are found by."""

    @classmethod
    def of(cls, rows: int, share: float, seconds: float, store_bytes: int, options: ImportOptions) -> Forecast:
        """:param share: of the files that was read, in these seconds, to get these rows."""
        longer = 1 + _REST + (_NEAR_DUPLICATES if options.near_duplicates else 0)
        found = round(rows / share)
        beside = max(_CORPUS * store_bytes / share, SKETCH_BYTES * found if options.near_duplicates else 0)
        return cls(found, longer * seconds / share, round(store_bytes / share + beside))

    @property
    def big(self) -> bool:
        """Whether one would want to know before."""
        return self.seconds > _LONG_SECONDS or self.disk_bytes > _LARGE_BYTES

    def __str__(self) -> str:
        return f"about {self.rows:,} rows: some {duration(self.seconds)} and {_gigabytes(self.disk_bytes)} of disk"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


class Progress:
    """Tells of an import while it goes on.

    :param console: none tells nothing.
    :param every: seconds between lines where the console is no terminal.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        every: float = _SAID_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._every, self._clock = console, every, clock
        self._what, self._began, self._said = "", clock(), clock()
        self._bar: Bar | None = None
        self._task = TaskID(0)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The bar is there while the block runs."""
        if self._console is None or not self._console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        speed = TextColumn("{task.fields[rows]:,} rows, {task.fields[speed]:,.0f} rows/s")
        with Bar(*columns, speed, TimeRemainingColumn(), console=self._console, transient=True) as self._bar:
            yield
        self._bar = None

    @property
    def seconds(self) -> float:
        """Since the present step began."""
        return self._clock() - self._began

    def begin(self, what: str) -> None:
        """From now on something else is done."""
        self._what, self._began = what, self._clock()
        if self._bar is not None:
            for done in self._bar.task_ids:
                self._bar.remove_task(done)
            self._task = self._bar.add_task(what, total=1.0, rows=0, speed=0.0)

    def at(self, rows: int, share: float | None) -> None:
        """So many rows of the present step are done.

        :param share: of all of it; none where it is not known.
        """
        speed = rows / self.seconds if self.seconds else 0.0
        if self._bar is not None:
            self._bar.update(self._task, completed=share or 0.0, rows=rows, speed=speed)
        elif self._console is not None and self._clock() - self._said >= self._every:
            self._said = self._clock()
            to_go = "" if not share else f", {share:.0%}, {duration(self.seconds * (1 / share - 1))} to go"
            self.say(f"{self._what}: {rows:,} rows, {speed:,.0f} rows/s{to_go}")

    def over(self, what: str, items: Iterable[Item], of: int | Callable[[], float | None]) -> Iterator[Item]:
        """The items, of which it is told how many were taken.

        :param of: how many there are, or what tells the share that was taken.
        """
        self.begin(what)
        for number, item in enumerate(items):
            if number % _LOOKED_EVERY == 0 and number:
                self.at(number, of() if callable(of) else number / of)
            yield item

    def say(self, text: str) -> None:
        """A line for people."""
        if self._console is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def need_room(forecast: Forecast, there: int, folder: Path) -> int:
    """Bytes that are free for an import, which suffice.

    :param there: bytes that it has written so far.
    :raises InputError: they do not.
    """
    free = shutil.disk_usage(folder).free
    if free < forecast.disk_bytes - there:
        raise InputError(
            f"{folder}: {forecast} are foreseen there, and {_gigabytes(free)} are free; make room, or let `runs` in "
            "the recipe name a folder on a larger disk"
        )
    return free


class Foresight:
    """Says what an import takes as soon as that can be told, and stops one that the disk has no room for."""

    def __init__(self, progress: Progress, folder: Path, options: ImportOptions) -> None:
        self._progress, self._folder, self._options = progress, folder, options
        self._begun, self._done = time.monotonic(), False

    def look(self, rows: int, share: float | None, store_bytes: Callable[[], int]) -> None:
        """:param share: of the files that was read.

        :raises InputError: the disk is too small.
        """
        if self._done or rows < FORESEEN_AFTER or not share:
            return
        self._done = True
        there = store_bytes()
        found = Forecast.of(rows, share, time.monotonic() - self._begun, there, self._options)
        free = need_room(found, there, self._folder)
        if found.big:
            self._progress.say(f"{found} (in {self._folder}, where {_gigabytes(free)} are free)")
