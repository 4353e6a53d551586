"""Files into the store: every row is read, understood by its file's layout and cleaned, or kept with the reason why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tocsin.errors import InputError, UsageError
from tocsin.release import sha256
from tocsin_training.importing.cleaning import clean
from tocsin_training.importing.dates import Order, is_numeric, order_of
from tocsin_training.importing.layouts import NO_TEXT, Columns, Draft, cell, find_layout
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.store import Entry, Store
from tocsin_training.importing.tables import FORMATS, BadRow, Problem, Row, Table, open_table

DATE = "date"
"""What `--split-by` calls the date, whatever its column."""
_BATCH = 2000


@dataclass
class FileFacts:
    """What a file turned out to be."""

    path: Path
    sha256: str
    bytes: int
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


def expand(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant: a folder stands for all tables in it.

    :raises InputError: one is not there, or a folder holds none.
    :raises UsageError: one is named twice, or two have the same name.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if each.name.lower().endswith((*FORMATS, ".gz")))
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


def file_facts(path: Path) -> FileFacts:
    """A file's hash and size."""
    return FileFacts(path, sha256(path), path.stat().st_size)


def read_file(number: int, facts: FileFacts, options: ImportOptions, store: Store) -> None:
    """Read one file into the store and complete what is known of it.

    :param number: that the store knows the file by.
    :raises InputError: it cannot be read, or its layout is not known.
    """
    with open_table(facts.path, options) as table:
        columns = Columns(table)
        layout = find_layout(columns, options)
        facts.layout, facts.format = layout.name, table.format
        by = options.split_by
        value = None if by in (None, DATE) else columns.need(str(by), "--split-by")
        read = layout.reader(columns, options)

        def drafts() -> Iterator[tuple[Row, Draft | Problem] | BadRow]:
            for row in table.rows:
                yield row if isinstance(row, BadRow) else (row, read(row.cells))

        _take_in(number, facts, drafts(), value, options, store)
        _finish(facts, table)


def _take_in(
    number: int,
    facts: FileFacts,
    drafts: Iterator[tuple[Row, Draft | Problem] | BadRow],
    value: str | None,
    options: ImportOptions,
    store: Store,
) -> None:
    entries: list[Entry] = []
    problems: list[tuple[int, int, str, str, int]] = []
    numeric: set[str] = set()
    for found in drafts:
        facts.rows += 1
        line, problem = (found.line, found.problem) if isinstance(found, BadRow) else (found[0].line, found[1])
        if not isinstance(found, BadRow) and isinstance(problem, Draft):
            draft, problem = problem, None
            if draft.date and is_numeric(draft.date):
                numeric.add(draft.date)
            cleaned = clean(draft.text, strip_opening=options.strip_openings)
            facts.html += cleaned.html
            facts.openings += cleaned.opening
            if cleaned.text:
                split_value = cell(found[0].cells, value)
                entries.append(Entry(cleaned.text, draft.names, draft.date, split_value, draft.reason, number, line))
            else:
                problem = NO_TEXT
        if isinstance(problem, Problem):
            problems.append((number, line, problem.kind, problem.reason, 1))
        if len(entries) + len(problems) >= _BATCH:
            store.add(entries)
            store.add_problems(problems)
            entries, problems = [], []
    store.add(entries)
    store.add_problems(problems)
    facts.orders = order_of(numeric)


def _finish(facts: FileFacts, table: Table) -> None:
    facts.odd_bytes = bytes(table.odd_bytes)
    if not facts.rows:
        raise InputError(f"{facts.path}: has columns and no rows; export the data again")
