"""Tab-separated files that are measured on, read as they are written: no quoting, nothing left out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from tocsin.errors import InputError


def read_tsv(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The lines of a file with a header, each with its number; a cell that a line does not have is none.

    :param columns: that it must have.
    :raises InputError: it cannot be read, or lacks a column; the message has the line.
    """
    try:
        # Some editors put a byte order mark first, which would be a part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            if missing := sorted(set(columns) - set(lines.fieldnames or ())):
                raise InputError(f"{path}: has no column {', '.join(missing)}; it needs {' and '.join(columns)}")
            for row in lines:
                yield lines.line_num, row
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except csv.Error as error:
        raise InputError(f"{path}:{lines.line_num}: no line of a tab-separated table: {error}") from error
