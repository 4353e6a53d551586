"""What readers hand to the scorer and the scorer to writers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tocsin import UsageError
from tocsin_serving.batch.tally import Tally

# A chunk ends at whichever comes first; together with the number of workers they bound a job's memory. Small
# enough that the last one, over which the other workers wait, is some seconds' work.
CHUNK_ROWS = 512
CHUNK_BYTES = 1_000_000
# Output made at once: with --split-sentences each sentence repeats its whole row, a chunk a thousand times over.
PIECE_BYTES = 8 * 1024 * 1024
MAX_TEXT = 2_000_000
"""Characters of a text, several times a novel's. What a text takes in memory while it is scored grows with it, and no
other row can be finished without it: a file put into a cell by mistake would end a job again each time it is resumed.
"""


@dataclass(frozen=True)
class Reject:
    """A row that cannot be scored."""

    row: int
    """Its number in the file, from 1; in JSON Lines that of the line."""
    reason: str
    raw: str | bytes
    """The row as it stood in the file; bytes where they are no UTF-8."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file."""

    rows: Any
    """Rows that can be scored, as the reader's own format keeps them; only its writer looks into them."""
    texts: list[str]
    """Their texts."""
    numbers: NDArray[np.int64]
    """Their numbers in the file, from 1."""
    rejects: list[Reject]
    read: int
    """Rows read, scoreable or not."""


@dataclass(frozen=True)
class Answers:
    """The columns to add for one chunk."""

    columns: pa.Table
    parents: NDArray[np.intp]
    """For each output row the position in the chunk of the row it belongs to."""
    tally: Tally
    """What the answers say in figures, rows that an output leaves out included."""


class Reader(Protocol):
    """Reads a file chunk by chunk. The same file always comes in the same chunks: a job goes on after a whole chunk."""

    def chunks(self) -> Iterator[Chunk]:
        """All rows in order."""
        ...

    def progress(self) -> float:
        """Share of the file read so far, from 0 to 1."""
        ...


class Writer(Protocol):
    """Turns chunks into the bytes of a file like the one that was read, with columns added."""

    def header(self) -> bytes:
        """What stands before the first row."""
        ...

    def encode(self, rows: Any, answers: Answers) -> Iterator[bytes]:  # noqa: ANN401  each format's own rows
        """Output rows, to be appended to those before, in pieces of about `PIECE_BYTES`."""
        ...


def in_pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines joined into pieces of about `PIECE_BYTES`, for a write a line would be slow."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)


@dataclass(frozen=True)
class Columns:
    """Which column holds the text, and which the job adds."""

    text: str
    added: pa.Schema
    others: tuple[str, ...] = ()
    """Further columns that must be there."""

    def check(self, names: Iterable[str], file: object) -> None:
        """Refuse a file without the text column or with one that the job would add.

        :raises UsageError: naming the file and the columns.
        """
        names = list(names)
        if names.count(self.text) != 1:
            fault = "is not in" if self.text not in names else "is there more than once in"
            # One column whose name holds such a sign: mostly a table split at another character than its own.
            joined = len(names) == 1 and any(sign in names[0] for sign in "^~|;:\t,")
            choose = (
                "It was read as one column: name the character between columns with --delimiter."
                if joined
                else "Choose one with --text-column."
            )
            raise UsageError(f"Column '{self.text}' {fault} {file}. Its columns: {', '.join(names)}. {choose}")
        for name in self.others:
            if name not in names:
                raise UsageError(f"Column '{name}' is not in {file}. Its columns: {', '.join(names)}.")
        clash = [name for name in self.added.names if name in names]
        if clash:
            raise UsageError(
                f"{file} already has a column of a name that scoring adds: {', '.join(clash)}. Put a prefix "
                "before what is added, such as --prefix tocsin_, or rename or drop it."
            )


def text_problem(value: object) -> str | None:
    """Why a value cannot be scored, or none."""
    if value is None:
        return "text is null"
    if not isinstance(value, str):
        return f"text is not a string but {type(value).__name__}"
    if not value.strip():
        return "text is empty"
    if len(value) > MAX_TEXT:
        return f"text is too long: it has {len(value):,} characters, the limit is {MAX_TEXT:,}"
    return None
