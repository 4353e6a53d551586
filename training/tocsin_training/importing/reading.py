"""Files into the store: every row is read, understood by its file's layout and cleaned, or noted with the reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from sqlite3 import DatabaseError

from tocsin.errors import InputError, UsageError
from tocsin.release import sha256
from tocsin_training.importing.cleaning import clean
from tocsin_training.importing.dates import Order, is_numeric, order_of
from tocsin_training.importing.layouts import NO_TEXT, Draft, LaidOut, cell, lay_out, named_columns
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.store import Entry, Store
from tocsin_training.importing.tables import FORMATS, BadRow, Problem, Row, Table, open_table

DATE = "date"
"""What `--split-by` calls the date, whatever its column."""
_BATCH = 2000
_VERSION = 9
"""Of what is made of the same files; raised when that changes, so that nothing old is taken for new."""


@dataclass
class FileFacts:
    """What a file turned out to be."""

    path: Path
    sha256: str
    size: int
    layout: str = ""
    format: str = ""
    rows: int = 0
    html: int = 0
    """Texts that markup was taken off."""
    openings: int = 0
    """Texts that lost a formula opening."""
    orders: set[Order] = field(default_factory=set)
    """What its dates prove about day and month."""
    odd_bytes: bytes = b""
    lacks: tuple[str, ...] = ()
    """Columns that the user named and it has not, so that it was read by those of its layout."""
    ignored: tuple[str, ...] = ()
    """Options that the user gave and that play no part in its layout."""


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Tell what the system does not let us do with a file.

    :param path: named where the system names none.
    :raises InputError: a file cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read or written: {error.strerror or error}") from error
    except DatabaseError as error:
        raise InputError(f"{path}: rows cannot be kept there: {error}; make room on the disk") from error


def expand(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant: a folder stands for all tables in it.

    :raises InputError: one is not there, or a folder holds none.
    :raises UsageError: one is named twice, or two have the same name.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [each for each in _seen(path) if _is_table(each)]
            if not inside:
                raise InputError(f"{path}: holds no file whose name ends in one of {', '.join(FORMATS)}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"{path}: no such file")
    if not found:
        raise UsageError("name at least one file")
    if twice := sorted({path.name for path in found if [other.name for other in found].count(path.name) > 1}):
        raise UsageError(f"more than one file is called {twice[0]}; rename one, so that rows can be told apart")
    return found


def passed_over(paths: Sequence[Path]) -> list[str]:
    """What lies in folders beside their tables, and so is not read."""
    return [each.name for path in paths if path.is_dir() for each in _seen(path) if not _is_table(each)]


def _seen(folder: Path) -> list[Path]:
    """What a person sees in a folder: what is hidden, and what Excel locks an open workbook with, is no data."""
    with refusing(folder):
        return sorted(each for each in folder.iterdir() if not each.name.startswith((".", "~$")))


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith((*FORMATS, ".gz"))


def file_facts(path: Path) -> FileFacts:
    """A file's hash and size."""
    with refusing(path):
        return FileFacts(path, sha256(path), path.stat().st_size)


def key_of(facts: Sequence[FileFacts], options: ImportOptions, **more: object) -> str:
    """What tells things made of files from those made of others, or in another way.

    :param more: what else they depend on, as JSON has it.
    """
    parts = {
        "version": _VERSION,
        "files": [[each.path.name, each.sha256] for each in facts],
        "options": options.model_dump(mode="json"),
        "names": None if options.names is None or not options.names.is_file() else sha256(options.names),
        **more,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Found:
    """What a row is."""

    line: int
    what: Draft | Problem
    part: str = ""
    """What it has in the column that splits go by."""
    html: bool = False
    opening: bool = False


def have_named(paths: Sequence[Path], options: ImportOptions, *, texts: bool = True) -> bool:
    """Whether one of several files has the columns that the user named, so that another may do without them."""

    def has_them(path: Path) -> bool:
        with open_table(path, options) as table:
            return not lay_out(table, options, texts=texts, lenient=True).lacks

    return len(paths) > 1 and bool(named_columns(options)) and any(map(has_them, paths))


def understood(table: Table, options: ImportOptions, *, lenient: bool = False) -> tuple[LaidOut, Iterator[Found]]:
    """How a table is read, and what each of its rows is, with a clean text.

    :param lenient: as `lay_out` takes it.
    :raises TocsinError: the layout is not known, or a column that the user named is not there.
    """
    laid = lay_out(table, options, lenient=lenient)
    by = options.split_by
    grouping = None if by is None or by == DATE else laid.columns.need(by, "--split-by")
    date = laid.columns.date(laid.options, *laid.layout.dates)

    def found() -> Iterator[Found]:
        for row in laid.rows:
            if isinstance(row, BadRow):
                yield Found(row.line, row.problem)
            else:
                yield _cleaned(row, laid.read(row.cells), cell(row.cells, date), cell(row.cells, grouping), options)

    return laid, found()


def _cleaned(row: Row, what: Draft | Problem, date: str, part: str, options: ImportOptions) -> Found:
    if isinstance(what, Problem):
        return Found(row.line, what)
    cleaned = clean(what.text, strip_opening=options.strip_openings)
    if not cleaned.text:
        return Found(row.line, NO_TEXT)
    draft = replace(what, text=cleaned.text, date=date or what.date)
    return Found(row.line, draft, part, cleaned.html, cleaned.opening)


def read_file(
    number: int,
    facts: FileFacts,
    options: ImportOptions,
    store: Store,
    told: Callable[[float | None], None] = lambda share: None,
    *,
    lenient: bool = False,
) -> None:
    """Read one file into the store and complete what is known of it.

    :param number: that the store knows the file by.
    :param told: called now and then with the share of the file that was read, if that is known.
    :param lenient: as `lay_out` takes it.
    :raises TocsinError: it cannot be read, or its layout is not known.
    """
    with open_table(facts.path, options) as table:
        laid, rows = understood(table, options, lenient=lenient)
        facts.layout, facts.format, facts.lacks = laid.layout.name, table.format, laid.lacks
        facts.ignored = tuple(name for name in laid.layout.ignores if options.is_given(name))
        numeric: set[str] = set()
        while batch := list(islice(rows, _BATCH)):
            _take_in(number, facts, batch, store)
            told(table.share())
            numeric |= {
                found.what.date for found in batch if isinstance(found.what, Draft) and is_numeric(found.what.date)
            }
        facts.orders, facts.odd_bytes = order_of(numeric), bytes(table.odd_bytes)


def _take_in(number: int, facts: FileFacts, batch: list[Found], store: Store) -> None:
    facts.rows += len(batch)
    facts.html += sum(found.html for found in batch)
    facts.openings += sum(found.opening for found in batch)
    store.add(
        Entry(what.text, what.names, what.date, found.part, what.reason, number, found.line)
        for found in batch
        if isinstance(what := found.what, Draft)
    )
    store.add_problems(
        (number, found.line, what.kind, what.reason, 1) for found in batch if isinstance(what := found.what, Problem)
    )
