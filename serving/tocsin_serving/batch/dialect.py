"""How a CSV file is written: delimiter, quotes, escapes, encoding."""

from __future__ import annotations

import _csv
import codecs
import csv
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

from tocsin import UsageError

UTF8 = "utf-8"
_BOMS = {UTF8: BOM_UTF8, "utf-16-le": BOM_UTF16_LE, "utf-16-be": BOM_UTF16_BE}
# For those that a shell does not let through easily.
_WORDS = {"tab": "\t", "\\t": "\t", "space": " "}
_BY_NUMBER = re.compile(r"\\x([0-9A-Fa-f]{2})")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What is known of CSV files before they are opened, in the words of the command's options."""

    delimiter: str | None = None
    """Between cells; none: told from the file."""
    quote: str | None = '"'
    """Around a cell; none: quotes are characters like others."""
    escape: str | None = None
    """Takes its meaning from the character behind it. None: a quote in a quoted cell is doubled."""
    encoding: str = UTF8
    """As Python names it; ``utf-16`` is told from the byte order mark."""
    header: bool = True
    """The first row holds the columns' names; without, they are called ``column_1`` and so on."""

    @classmethod
    def of(
        cls, *, delimiter: str | None, quote: str, escape: str | None, encoding: str, header: bool = True
    ) -> Dialect:
        r"""A dialect from the words of a command.

        :param delimiter: a character, ``tab``, ``space`` or one written like ``\x01``; none to tell it from the file.
        :param quote: a character or ``none``.
        :raises UsageError: naming the option that cannot be.
        """
        dialect = cls(
            delimiter=None if delimiter is None else _character("--delimiter", delimiter),
            quote=None if quote == "none" else _character("--quote", quote),
            escape=None if escape is None else _character("--escape", escape),
            encoding=_encoding(encoding),
            header=header,
        )
        given = {"--delimiter": dialect.delimiter, "--quote": dialect.quote, "--escape": dialect.escape}
        for (one, left), (other, right) in combinations(given.items(), 2):
            if left is not None and left == right:
                raise UsageError(f"{one} and {other} are the same character, {left!r}; give another for one of them")
        return dialect

    def column(self, given: str) -> str:
        """A column's name, from its number where there are no names."""
        return given if self.header or not given.isdecimal() else f"column_{given}"

    def __str__(self) -> str:
        """What is not as it mostly is."""
        usual = vars(USUAL)
        return ", ".join(f"{name} {value!r}" for name, value in vars(self).items() if value != usual[name])

    @property
    def decoding_errors(self) -> str:
        """Carries what is no text in the encoding as far as the rejects file."""
        # In UTF-16 that is half a pair, in others it is bytes.
        return "surrogatepass" if self.encoding.startswith("utf-16") else "surrogateescape"

    def codec(self, start: bytes) -> tuple[str, bytes]:
        """The encoding of a file that starts so, and its byte order mark, which may be empty."""
        encoding = self.encoding
        if encoding == "utf-16":
            encoding = "utf-16-be" if start.startswith(BOM_UTF16_BE) else "utf-16-le"
        mark = _BOMS.get(encoding, b"")
        return encoding, mark if start.startswith(mark) else b""

    def reader(self, lines: Iterable[str], *, strict: bool = False) -> _csv.Reader:
        """Rows of cells; the delimiter must be known."""
        # Doubled quotes are understood beside escaped ones.
        return csv.reader(lines, strict=strict, **self._python)

    def row_writer(self, put: Callable[[str], object]) -> Callable[[Iterable[Any]], object]:
        """A function that puts a row of cells somewhere as a line that ends with a line feed.

        A cell with a carriage return is quoted whatever the version of Python: before 3.13 only the characters of the
        line end are, and one left bare would be read back as the end of a row. So the line end has both, until it is
        written.
        """
        if self.quote is not None and self.escape is not None:
            return partial(self._put_escaped, put)
        return csv.writer(_LineFeeds(put), lineterminator="\r\n", **self._python).writerow

    def _put_escaped(self, put: Callable[[str], object], row: Iterable[Any]) -> None:
        """Python's writer escapes quotes outside quotes, where Spark and databases know of no escapes."""
        put((self.delimiter or "").join(map(self._escaped, row)) + "\n")

    def _escaped(self, cell: object) -> str:
        text = "" if cell is None else str(cell)
        quote, escape = self.quote or "", self.escape or ""
        if not any(special in text for special in (self.delimiter or "", quote, escape, "\r", "\n")):
            return text
        return f"{quote}{text.replace(escape, escape * 2).replace(quote, escape + quote)}{quote}"

    @property
    def _python(self) -> dict[str, Any]:
        quoting = csv.QUOTE_NONE if self.quote is None else csv.QUOTE_MINIMAL
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote,
            "quoting": quoting,
            "escapechar": self.escape,
        }


USUAL = Dialect()
TABS = Dialect(delimiter="\t")


class _LineFeeds:
    """Takes rows from a CSV writer, each in one piece, and ends them otherwise than it does."""

    def __init__(self, put: Callable[[str], object]) -> None:
        self._put = put

    def write(self, row: str) -> None:
        self._put(row.removesuffix("\r\n") + "\n")


def _character(option: str, value: str) -> str:
    number = _BY_NUMBER.fullmatch(value)
    character = chr(int(number[1], 16)) if number else _WORDS.get(value, value)
    if len(character) != 1 or character in "\r\n\0":
        raise UsageError(
            f"{option} takes one character, or tab, or one written like \\x01, and no line end; not {value!r}"
        )
    return character


def _encoding(name: str) -> str:
    """Python's name of an encoding.

    :raises UsageError: it knows none of that name, or files in it are not read.
    """
    try:
        # Other codecs than those of text refuse to encode one.
        "".encode(name)
        found = codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"--encoding {name}: no such encoding. Common ones: utf-8, utf-16, cp1252 (Western Windows), latin-1, "
            "cp1251, cp1256, gb18030, shift_jis."
        ) from error
    if found.startswith("utf-32"):
        raise UsageError(f"--encoding {name}: UTF-32 is not read; save the file as UTF-8")
    return UTF8 if found == "utf-8-sig" else found
