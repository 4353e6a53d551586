"""Files as rows: CSV, TSV, JSON Lines, JSON, Parquet and Excel, a row at a time, each with its place in the file.

A row that cannot be read is handed on as such, with its line and the reason, and never stops the others. Cells are what
their format gives: text in CSV, and numbers, dates and lists where a format knows them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings
import zlib
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from tocsin.errors import InputError
from tocsin.text import excel_separator, replace_lone_surrogates
from tocsin_training.importing.options import ImportOptions

_DELIMITERS = (",", ";", "\t", "|")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_ZIP = b"PK\x03\x04"
"""How archives begin, and the workbooks that are such."""
_PRINTABLE = bytes(range(0x20, 0x7F))
_HEAD = 4096
"""Bytes of a file that are looked at to see whether it is text."""
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r"))
_MOST_CONTROLS = 0.01
"""Share of these in text: some notes have strayed ones, while a picture or a database has one in ten and more."""
_SHOWN_NAME, _SHOWN_NAMES = 60, 40
# A quote that is never closed would otherwise read any file into memory.
_MAX_CELL = 16 * 1024 * 1024
# A row over more lines than that has a stray quote.
_MOST_LINES = 1000
# A cell too long to be kept is a file's rest behind an open quote if it has line breaks at all.
_SWALLOWED_LINES = 2
_WESTERN = frozenset("àáâãäåæçèéêëìíîïñòóôõöøœùúûüýÿßÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØŒÙÚÛÜÝ‘’“”„«»–—…€£°ºª§·¿¡\xa0")
"""What stands beside ASCII in the languages that Windows-1252 is for."""
_PEEKED = 50
_PARQUET_ROWS = 1024
_DEEPEST = 100
_NO_MARKS = bytes({*range(256)} - set(b'[]{}"'))
_BAD_XML = SyntaxError
"""What a sheet that breaks off raises: xml's ParseError and lxml's error, either of which openpyxl reads with."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that could be read."""

    line: int
    """Line of a text file or an Excel sheet, and number of the entry elsewhere; from 1."""
    cells: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row cannot be used."""

    kind: str
    """What reasons are counted under."""
    reason: str


_LINE_BREAK = Problem(
    "line break", "its last cell opens a quote and the line ends before it is closed, so the text may be cut"
)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read."""

    line: int
    problem: Problem


@dataclass
class Table:
    """A file that is being read; its rows can be taken once."""

    path: Path
    format: str
    columns: tuple[str, ...]
    rows: Iterator[Row | BadRow]
    of_objects: frozenset[str] = frozenset()
    """Columns whose cells are lists of objects, in formats that have such."""
    odd_bytes: bytearray = field(default_factory=bytearray)
    """Some of what was not valid UTF-8, to guess its encoding from."""
    share: Callable[[], float | None] = lambda: None
    """How much of the file has been read, from 0 to 1; none where that cannot be told."""


@contextmanager
def open_table(path: Path, options: ImportOptions) -> Iterator[Table]:
    """A file as a table.

    :raises InputError: it is missing, empty, of no known format or damaged; the message says what to do.
    """
    if path.suffix.lower() == ".gz" and path.with_suffix("").suffix.lower() not in (".csv", ".tsv", ".jsonl", ".json"):
        raise InputError(f"{path}: only CSV, TSV, JSON Lines and JSON may be compressed; unpack it")
    kind = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    if kind not in _READERS:
        raise InputError(f"{path}: the name must end in one of {', '.join(_READERS)}; save it as one of these")
    with ExitStack() as stack:
        try:
            if not path.stat().st_size:
                raise InputError(f"{path}: is empty; export the data again")
            table = _READERS[kind](path, options, stack)
        except (OSError, EOFError, BadZipFile, zlib.error, csv.Error, _BAD_XML) as error:
            raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
        table.rows = _guarded(path, table.rows)
        yield table


def _guarded(path: Path, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
    """The rows; a file that breaks off is said to be damaged, and one without any to hold none."""
    there = False
    try:
        for row in rows:
            there = True
            yield row
    except (OSError, EOFError, BadZipFile, zlib.error, csv.Error, UnicodeError, _BAD_XML) as error:
        raise InputError(f"{path}: is damaged: {error}; export or copy it again") from error
    if not there:
        raise InputError(f"{path}: has columns and no rows; export the data again")


def _opened(path: Path, stack: ExitStack) -> gzip.GzipFile | io.BufferedReader:
    if path.suffix.lower() == ".gz":
        return stack.enter_context(gzip.GzipFile(path, "rb"))
    return stack.enter_context(path.open("rb"))


def _share_read(path: Path, raw: gzip.GzipFile | io.BufferedReader) -> Callable[[], float]:
    """Tells how much of a file's bytes have been read, as they lie on the disk."""
    size = path.stat().st_size
    file: Any = raw.fileobj if isinstance(raw, gzip.GzipFile) else raw
    return lambda: min(1.0, file.tell() / size)


# --- CSV and TSV


def _csv_table(path: Path, options: ImportOptions, stack: ExitStack) -> Table:
    raw = _opened(path, stack)
    if raw.peek(4)[:4] == _ZIP:
        raise InputError(f"{path}: is a workbook or an archive and no CSV; name it .xlsx if it is one, or unpack it")
    other = _beside_utf8(path, options)
    encoding = "utf-16" if raw.peek(2)[:2] in _UTF16 else "utf-8-sig" if other else options.encoding or "utf-8-sig"
    if encoding == "utf-8-sig":
        _refuse_no_text(path, raw.peek(_HEAD)[:_HEAD])
    try:
        # surrogateescape: a byte that is out of place spoils its row, not the file.
        errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
        text = stack.enter_context(io.TextIOWrapper(raw, encoding, errors=errors, newline=""))
        first = _reread(text.readline(_MAX_CELL), other)
        above = 0
        if named := excel_separator(first):
            above, first = 1, _reread(text.readline(_MAX_CELL), other)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not {other or encoding}; save it as UTF-8, or give its --encoding") from error
    if not first.strip():
        raise InputError(f"{path}: begins with an empty line; its first line must name the columns")
    delimiter = _delimiter(path, first, options, named)
    # The limit is the interpreter's, so it is set where it is needed and not at import.
    csv.field_size_limit(_MAX_CELL)
    if delimiter == "\t":
        header = _unquoted(_cells(first))
        rows: Iterable[tuple[int, list[str] | Problem]] = _TabRows(text, len(header), above)
    else:
        rows = _csv_rows(path, text, first, delimiter, above)
        header = _header(path, rows)
    columns = _columns(path, header)
    table = Table(path, "TSV" if delimiter == "\t" else "CSV", columns, iter(()), share=_share_read(path, raw))
    table.rows = _checked_rows(table, rows, other)
    return table


Numbered = Iterator[tuple[int, list[str] | Problem]]
"""Rows of text, each with the line it begins in."""


def _header(path: Path, rows: Numbered) -> list[str]:
    number, found = next(rows)
    if isinstance(found, Problem):
        raise InputError(f"{path}:{number}: the line with the names of the columns {found.reason}; close it")
    return found


def _refuse_no_text(path: Path, start: bytes) -> None:
    """Refuse a file whose start holds what no text does, before its bytes are taken for the names of columns.

    :raises InputError: it is a picture, a database or the like.
    """
    if len(start) - len(start.translate(None, _CONTROLS)) > _MOST_CONTROLS * len(start):
        unmarked = "; if it is UTF-16 without a mark at its start, say --encoding utf-16-le" if b"\0" in start else ""
        raise InputError(
            f"{path}: is not a text file, though its name says so; export the table as CSV, or give it the ending of "
            f"what it is, one of {', '.join(FORMATS)}{unmarked}"
        )


def _beside_utf8(path: Path, options: ImportOptions) -> str | None:
    """The encoding that the user names, if it can stand beside UTF-8 in one file; UTF-16, say, cannot.

    Files are put together from many hands, so it is what is read where a cell is not UTF-8: text in it hardly ever
    makes sense as UTF-8, while UTF-8 read in it is a mess that nothing would tell.
    """
    if options.encoding is None:
        return None
    try:
        alike = _PRINTABLE.decode(options.encoding) == _PRINTABLE.decode("ascii")
    except LookupError as error:
        raise InputError(f"{path}: no encoding is called {options.encoding!r}; cp1252 or latin-1, say") from error
    except UnicodeDecodeError:
        alike = False
    return options.encoding if alike else None


def _reread(cell: str, encoding: str | None) -> str:
    """A cell with bytes that are not UTF-8 read in another encoding, if there is one.

    :raises UnicodeDecodeError: they make no sense in it either.
    """
    if encoding is None or cell.isascii():
        return cell
    try:
        cell.encode()
    except UnicodeEncodeError:
        return cell.encode("utf-8", "surrogateescape").decode(encoding)
    return cell


def _delimiter(path: Path, header: str, options: ImportOptions, named: str | None) -> str:
    """What stands between a file's cells, by the user, by the file or by its header.

    :param named: in Excel's line above the header.
    """
    widths = {each: len(next(csv.reader([header], delimiter=each), [])) for each in _DELIMITERS}
    best = max(widths, key=lambda each: widths[each])
    given = {"tab": "\t", r"\t": "\t"}.get(options.delimiter or "", options.delimiter)
    if given is None:
        return named or best
    if len(given) != 1:
        raise InputError(f"--delimiter {given!r}: one character is needed, or `tab`")
    if given not in header and widths[best] > 1:
        raise InputError(
            f"{path}: its first line has no {given!r}, but splits into {widths[best]} columns at {best!r}; "
            f"leave --delimiter out, or give --delimiter {'tab' if best == chr(9) else repr(best)}"
        )
    return given


def _columns(path: Path, header: list[str]) -> tuple[str, ...]:
    columns = tuple(name.strip() for name in header)
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise InputError(f"{path}: more than one column is called '{shown(twice[0])}'; rename one of them")
    return columns


def _csv_rows(path: Path, lines: Iterable[str], first: str, delimiter: str, above: int) -> Numbered:
    """Rows with the line they begin in, the header first.

    A row over several lines whose quotes do not balance may have swallowed others, so it is not used.

    :param above: lines before the first.
    :raises InputError: a quote is opened and not closed for so long that the rest of the file would be one cell.
    """
    taken: list[str] = []
    reader = csv.reader(_noted(chain([first], lines), taken), delimiter=delimiter)
    before = 0
    while True:
        taken.clear()
        begun = above + before + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if reader.line_num - before < _SWALLOWED_LINES:
                raise
            raise InputError(
                f"{path}:{begun}: the row that begins in this line opens a quote that is never closed, or not in "
                f'the {reader.line_num - before:,} lines that follow; close it, or write "" for a quote that belongs '
                "to the text"
            ) from error
        if cells is None:
            return
        over = reader.line_num - before
        # Quotes that open, close and are doubled come in pairs, wherever the cells end.
        if over > 1 and sum(line.count('"') for line in taken) % 2:
            yield begun, Problem("line break", f"goes on over {over:,} lines, for a quote in it is not closed")
        else:
            yield begun, cells
        before = reader.line_num


def _noted(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


class _TabRows:
    """Rows of tab-separated text: by its definition it has no quotes, and programs write them all the same.

    Where the quotes of a row balance, they are taken for such, over line breaks too. Elsewhere a quote belongs to the
    text: one may begin with what somebody said. But a row whose last cell opens a quote, and that is followed by what
    is no row, may be cut at a line break, so it is not used.
    """

    def __init__(self, lines: Iterable[str], width: int, above: int) -> None:
        self._lines = enumerate(lines, above + 2)
        self._width = width
        self._waiting: deque[tuple[int, str]] = deque()
        """Lines that were looked at and are still to be read."""

    def __iter__(self) -> Iterator[tuple[int, list[str] | Problem]]:
        """Each row with the line it begins in."""
        while (found := self._next()) is not None:
            number, line = found
            cells = _cells(line)
            quoted = any(cell.startswith('"') for cell in cells)
            yield number, self._out_of_quotes(line, cells) if quoted else cells

    def _next(self) -> tuple[int, str] | None:
        return self._waiting.popleft() if self._waiting else next(self._lines, None)

    def _out_of_quotes(self, line: str, cells: list[str]) -> list[str] | Problem:
        taken: list[tuple[int, str]] = []
        found = self._balanced(line, taken)
        # Where the line is a row by itself, another such row may only happen to close the quote.
        if found is not None and not (self._is_row(line) and any(self._is_row(each) for _, each in taken)):
            return found
        if not taken and (following := self._next()) is not None:
            taken.append(following)
        self._waiting.extendleft(reversed(taken))
        opened = cells[-1].startswith('"') and not _is_quoted(cells[-1])
        after = next((each for _, each in taken if each.strip()), None)
        broken = after is not None and not self._is_row(after)
        if opened and self._is_row(line) and (found is not None or broken):
            return _LINE_BREAK
        return _unquoted(cells)

    def _balanced(self, line: str, taken: list[tuple[int, str]]) -> list[str] | None:
        """The cells of a row whose quotes balance.

        :param taken: gets the lines after its first that it was looked for in, up to the first that is a row by itself.
        """

        def lines() -> Iterator[str]:
            yield line
            while len(taken) < _MOST_LINES and (following := self._next()) is not None:
                taken.append(following)
                yield following[1]
                if self._is_row(following[1]):
                    return

        try:
            cells = next(csv.reader(lines(), delimiter="\t", strict=True))
        except csv.Error:
            return None
        return cells if len(cells) == self._width else None

    def _is_row(self, line: str) -> bool:
        return line.count("\t") + 1 == self._width


def _cells(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _unquoted(cells: list[str]) -> list[str]:
    """The cells, those that are in quotes as a whole taken out of them."""
    return [cell[1:-1].replace('""', '"') if _is_quoted(cell) else cell for cell in cells]


def _is_quoted(cell: str) -> bool:
    """Whether a cell is in quotes as a whole: those within it are doubled."""
    return len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "")


def _checked_rows(
    table: Table, rows: Iterable[tuple[int, list[str] | Problem]], encoding: str | None
) -> Iterator[Row | BadRow]:
    """Rows as wide as the header, without those of empty cells.

    :param encoding: of cells that are not UTF-8; none: they are bad.
    """
    width = len(table.columns)
    for line, found in rows:
        if isinstance(found, Problem):
            yield BadRow(line, found)
            continue
        if not any(found):
            continue
        try:
            cells = [_reread(cell, encoding) for cell in found]
        except UnicodeDecodeError:
            yield BadRow(line, Problem("encoding", f"holds bytes that are neither UTF-8 nor {encoding}"))
            continue
        if problem := _cells_problem(table, cells, width):
            yield BadRow(line, problem)
        else:
            yield Row(line, dict(zip(table.columns, cells, strict=True)))


def _cells_problem(table: Table, cells: list[str], width: int) -> Problem | None:
    joined = "".join(cells)
    if not joined.isascii():
        try:
            joined.encode()
        except UnicodeEncodeError:
            if len(table.odd_bytes) < 100_000:
                table.odd_bytes += joined.encode("utf-8", "surrogateescape") + b"\n"
            return Problem("encoding", "holds bytes that are not UTF-8")
    if len(cells) != width:
        return Problem("cells", f"has {len(cells)} cells; the header has {width}")
    return None


def guess_encoding(odd: bytes) -> str | None:
    """What bytes that are not UTF-8 may be.

    Windows-1252, by far the commonest, where they make sense in it; a detector takes short Western text for others.
    """
    from charset_normalizer import from_bytes

    western = odd.decode("cp1252", errors="replace")
    if all(character.isascii() or character in _WESTERN for character in western):
        return "cp1252"
    best = from_bytes(odd).best()
    return None if best is None else str(best.encoding)


# --- JSON


def _jsonl_table(path: Path, options: ImportOptions, stack: ExitStack) -> Table:
    raw = _opened(path, stack)
    return _of_objects(path, "JSON Lines", _jsonl_rows(raw), _share_read(path, raw))


def _jsonl_rows(lines: Iterable[bytes]) -> Iterator[Row | BadRow]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError:
            yield BadRow(number, Problem("encoding", "holds bytes that are not UTF-8"))
        except (ValueError, RecursionError) as error:
            yield BadRow(number, Problem("json", f"not a JSON object: {error}"))
        else:
            yield _object(number, value)


def _object(number: int, value: Any) -> Row | BadRow:  # noqa: ANN401  JSON
    if isinstance(value, dict):
        return Row(number, value)
    return BadRow(number, Problem("json", f"not a JSON object but {type(value).__name__}"))


def _json_table(path: Path, options: ImportOptions, stack: ExitStack) -> Table:
    """A list of objects, an object with such a list under `data` (ACLED's API), or JSON Lines under another name."""
    import ijson  # type: ignore[import-untyped]

    raw = _opened(path, stack)
    start = raw.peek(4096).lstrip(BOM_UTF8 + b" \t\r\n")
    if start[:1] == b"{":
        _refuse_error_answer(path, start)
        if _is_whole_object(start):
            return _of_objects(path, "JSON Lines", _jsonl_rows(raw), _share_read(path, raw))
    if start[:1] not in (b"[", b"{"):
        raise InputError(f"{path}: is not JSON: a list of objects is needed, or an object with a list under `data`")

    def rows() -> Iterator[Row | BadRow]:
        number = 0
        try:
            for value in ijson.items(_Shallow(path, raw), "item" if start[:1] == b"[" else "data.item", use_float=True):
                number += 1
                yield _object(number, value)
        except ijson.JSONError as error:
            raise InputError(
                f"{path}:{number + 1}: is not JSON in this entry or behind it: {_why_no_json(error)}; export it again"
            ) from error

    return _of_objects(path, "JSON", rows(), _share_read(path, raw))


class _Shallow:
    """JSON that nests no deeper than data do: time and memory of the parser grow with the square of the depth."""

    def __init__(self, path: Path, raw: gzip.GzipFile | io.BufferedReader) -> None:
        self._path = path
        self._raw = raw
        self._inside = False
        """Whether the last bytes end within a string."""
        self._escape = b""
        """A backslash in which they end, for the character behind it."""
        self._depth = 0

    def read(self, size: int) -> bytes:
        """The next bytes.

        :raises InputError: in them lists and objects nest too deeply.
        """
        found = self._raw.read(size)
        unpaired = (self._escape + found).replace(rb"\\", b"")
        self._escape = unpaired[-1:] if unpaired.endswith(b"\\") else b""
        # By the quotes that are no character of a string: what lies outside of strings and inside takes turns.
        pieces = unpaired.replace(rb"\"", b"").translate(None, _NO_MARKS).split(b'"')
        outside = b"".join(pieces[self._inside :: 2])
        self._inside ^= len(pieces) % 2 == 0
        for bracket in outside:
            self._depth += 1 if bracket in b"[{" else -1
            if self._depth > _DEEPEST:
                raise InputError(
                    f"{self._path}: lists and objects lie in one another more than {_DEEPEST} deep; export it again"
                )
        return found


def _why_no_json(error: Exception) -> str:
    """What the parser says, without the picture of the place that it draws over several lines."""
    said = str(error).partition("\n")[0].strip().removeprefix("parse error: ").removeprefix("lexical error: ")
    return {"premature EOF": "the file ends too early", "Incomplete JSON content": "the file ends too early"}.get(
        said, said
    )


def _refuse_error_answer(path: Path, start: bytes) -> None:
    """Refuse what a server says of a failed request, saved in the place of the data that were asked for.

    :raises InputError: it is such an answer (ACLED's has ``status``, ``success``, ``error`` and no ``data``).
    """
    try:
        answer = json.loads(start)
    except (ValueError, RecursionError):
        return
    if not isinstance(answer, dict) or answer.get("data"):
        return
    status = answer.get("status")
    failed = (isinstance(status, int) and status >= 400) or answer.get("success") is False
    if failed or (answer.get("error") and "data" in answer):
        said = "; ".join(_messages([answer.get("error"), answer.get("message")]))
        what = " ".join(filter(None, ("" if status is None else str(status), said and f"'{shown(said)}'")))
        raise InputError(
            f"{path}: holds no data but a server's answer that the request failed{what and ': ' + what}; see to your "
            "account and what you asked for, and download it again"
        )


def _messages(found: Any) -> Iterator[str]:  # noqa: ANN401  JSON
    """All texts in what a server says went wrong, however it nests them."""
    if isinstance(found, str) and found.strip():
        yield found.strip()
    elif isinstance(found, list | dict):
        for each in found.values() if isinstance(found, dict) else found:
            yield from _messages(each)


def _is_whole_object(start: bytes) -> bool:
    """Whether the first line is an object by itself and no envelope."""
    try:
        first = json.loads(start.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and not isinstance(first.get("data"), list)


def _of_objects(path: Path, kind: str, rows: Iterator[Row | BadRow], share: Callable[[], float]) -> Table:
    """A table whose columns are the keys of its first objects."""
    head = list(islice(rows, _PEEKED))
    if not head:
        where = "; they are looked for in a list, or in one under `data`" if kind == "JSON" else ""
        raise InputError(f"{path}: holds no rows{where}; export the data again")
    if head and all(isinstance(row, BadRow) for row in head):
        first = next(row for row in head if isinstance(row, BadRow))
        raise InputError(f"{path}:{first.line}: {first.problem.reason}")
    columns = dict.fromkeys(key for row in head if isinstance(row, Row) for key in row.cells)
    cells = {name: [row.cells.get(name) for row in head if isinstance(row, Row)] for name in columns}
    of_objects = frozenset(
        name
        for name, found in cells.items()
        if any(isinstance(each, list) for each in found) and all(map(is_objects, found))
    )
    return Table(path, kind, tuple(columns), chain(head, rows), of_objects, share=share)


def is_objects(cell: Any) -> bool:  # noqa: ANN401  JSON
    """Whether a cell is a list of objects, or nothing."""
    return cell is None or (isinstance(cell, list) and all(isinstance(item, dict) for item in cell))


# --- Parquet and Excel


def _parquet_table(path: Path, options: ImportOptions, stack: ExitStack) -> Table:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = stack.enter_context(pyarrow.parquet.ParquetFile(path))
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: is not a Parquet file: {error}") from error

    total, number = file.metadata.num_rows, 0

    def rows() -> Iterator[Row]:
        nonlocal number
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            for cells in batch.to_pylist():
                number += 1
                yield Row(number, cells)

    of_objects = frozenset(
        column.name
        for column in file.schema_arrow
        if isinstance(column.type, pa.ListType | pa.LargeListType) and pa.types.is_struct(column.type.value_type)
    )
    columns = tuple(file.schema_arrow.names)
    return Table(path, "Parquet", columns, rows(), of_objects, share=lambda: number / total if total else None)


def _excel_table(path: Path, options: ImportOptions, stack: ExitStack) -> Table:
    from openpyxl import load_workbook  # type: ignore[import-untyped]
    from openpyxl.utils.exceptions import InvalidFileException  # type: ignore[import-untyped]

    try:
        with warnings.catch_warnings():
            # Styles and extensions that openpyxl does not know are no business of ours.
            warnings.simplefilter("ignore", UserWarning)
            book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, ValueError) as error:
        raise InputError(f"{path}: is not an Excel workbook (.xlsx); save it as one, or as CSV") from error
    stack.callback(book.close)
    sheet = _sheet(path, book, options.sheet)
    # A file says itself how many rows and columns it has, and programs that fill in a template do not mend that.
    sheet.reset_dimensions()
    numbered = ((number, cells) for number, cells in enumerate(sheet.iter_rows(values_only=True), 1) if any(cells))
    _, header = next(numbered, (0, ()))
    columns = _columns(path, ["" if name is None else str(name) for name in header])
    if not columns:
        raise InputError(f"{path}: sheet {sheet.title!r} is empty; name another with --sheet")

    def rows() -> Iterator[Row]:
        for number, cells in numbered:
            # A row ends with its last cell, so that one may be shorter than the header.
            filled = chain(cells, repeat(None))
            yield Row(number, {name: cell for name, cell in zip(columns, filled, strict=False) if name})

    return Table(path, "Excel", columns, rows())


def _sheet(path: Path, book: Any, name: str | None) -> Any:  # noqa: ANN401  openpyxl has no types
    """The sheet that is named, or the first with cells: one may hold a chart alone.

    :raises InputError: there is none.
    """
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if not sheets:
        raise InputError(f"{path}: has no sheet with cells; save the table itself as .xlsx or CSV")
    if name is not None and name not in sheets:
        what = "holds a chart and no cells" if name in book.sheetnames else "is not there"
        raise InputError(f"{path}: sheet {name!r} {what}; its sheets with cells are: {shown_list(sheets)}")
    return next(iter(sheets.values())) if name is None else sheets[name]


_READERS: dict[str, Callable[[Path, ImportOptions, ExitStack], Table]] = {
    ".csv": _csv_table,
    ".tsv": _csv_table,
    ".jsonl": _jsonl_table,
    ".ndjson": _jsonl_table,
    ".json": _json_table,
    ".parquet": _parquet_table,
    ".xlsx": _excel_table,
}
FORMATS = tuple(_READERS)
"""Ends of names that can be read."""


def shown(name: str) -> str:
    """A name that a file has, as a message may say it: nothing that a terminal obeys or cannot print, not endless."""
    plain = "".join(each if each.isprintable() else _escaped(each) for each in name)
    return plain if len(plain) <= _SHOWN_NAME else f"{plain[: _SHOWN_NAME - 3]}..."


def _escaped(character: str) -> str:
    # What could not be decoded is told by its byte.
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(character)[1:-1]


def shown_list(names: Iterable[str]) -> str:
    """Several such names; of very many the first."""
    every = [shown(name) for name in names]
    more = len(every) - _SHOWN_NAMES
    return ", ".join(every[:_SHOWN_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def as_text(value: Any) -> str:  # noqa: ANN401  a cell of any format
    """A cell as text that UTF-8 can carry; nothing, and what pandas writes for nothing, as none."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return replace_lone_surrogates(str(value).strip())
