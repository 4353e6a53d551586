"""Where a job reads and writes: files here, objects in a store by URL, standard streams; compressed or not, by name.

The one place that knows of compression and of stores. Local files are plain `Path`s; everything with a scheme
(``s3://``, ``gs://``, ``memory://``) is a `UPath`, which is fsspec behind the methods of a path.
"""

from __future__ import annotations

import errno
import io
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from uuid import uuid4

import pyarrow as pa
from upath import UPath

from tocsin import InputError, TocsinError, UsageError
from tocsin.disk import atomic, sync
from tocsin.errors import how_to_install
from tocsin_serving.batch.dialect import TABS, USUAL, Dialect

Place = Path | UPath
"""A file or folder, here or in a store."""

STREAM = Path("-")
"""Stands for stdin as an input and for stdout as an output."""

KINDS = ("csv", "jsonl", "parquet")
_KIND_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jl": "jsonl",
    ".parquet": "parquet",
}
_CODEC_BY_SUFFIX = {".gz": "gzip", ".zst": "zstd"}
PLAIN_SUFFIXES = tuple(_KIND_BY_SUFFIX)
SUFFIXES = f"{', '.join(PLAIN_SUFFIXES)} (but for .parquet also with {' or '.join(_CODEC_BY_SUFFIX)} behind it)"
"""The names of files that tell their format, in words."""

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
# Stores in which an upload shows only once it is complete, so that it needs no temporary name.
_COMPLETE_OR_ABSENT = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}
_UPLOAD_PART_BYTES = 8 * 1024 * 1024
# S3 takes no more parts in one upload.
_UPLOAD_PARTS = 10_000
_BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True)
class FileFormat:
    """What a file holds and how it is compressed."""

    kind: str
    """One of `KINDS`."""
    codec: str | None = None
    """``gzip``, ``zstd`` or none; Parquet compresses within itself."""
    dialect: Dialect = USUAL
    """Of CSV."""

    def spoken_in(self, dialect: Dialect) -> FileFormat:
        """The same format, CSV in a dialect; its delimiter, if none is said, is what the name tells."""
        if self.kind != "csv":
            return self
        return replace(self, dialect=replace(dialect, delimiter=dialect.delimiter or self.dialect.delimiter))

    @property
    def may_break_off(self) -> bool:
        """Whether a fault can keep the rest of a file from being read; lines of JSON are read or rejected each."""
        return self.codec is not None or self.kind != "jsonl"

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.kind, self.codec, str(self.dialect))))


def format_by_name(name: str) -> FileFormat | None:
    """The format that a file's name tells, or none."""
    path = PurePosixPath(name.lower())
    codec = _CODEC_BY_SUFFIX.get(path.suffix)
    suffix = (path.with_suffix("") if codec else path).suffix
    kind = _KIND_BY_SUFFIX.get(suffix)
    # Compressed once more, Parquet could not be read at its end first.
    if kind is None or (codec and kind == "parquet"):
        return None
    return FileFormat(kind, codec, TABS if suffix == ".tsv" else USUAL)


def is_packed_parquet(name: str) -> bool:
    """Whether a name says of Parquet, which compresses within itself, that it was compressed once more."""
    path = PurePosixPath(name.lower())
    return path.suffix in _CODEC_BY_SUFFIX and path.stem.endswith(".parquet")


def place(path: str | Path | UPath) -> Place:
    """A place from what a user wrote; a `Path` exactly when it is in this machine's file system.

    :raises UsageError: the scheme is not known or its package is missing.
    """
    if isinstance(path, Path) or (isinstance(path, str) and not _SCHEME.match(path)):
        return Path(path)
    with reaching(path):
        # Without the cache of listings: whether a file exists is asked anew each time.
        remote = UPath(str(path), use_listings_cache=False)
        return Path(remote.path) if remote.protocol in ("", "file", "local") else remote


@contextmanager
def reaching(where: object) -> Iterator[None]:
    """Turn what a store's own client raises into a message: each has its own errors, and none of them is a bug here.

    :raises TocsinError: naming the place.
    """
    try:
        yield
    except (TocsinError, FileNotFoundError):
        # What is missing is called the same everywhere.
        raise
    except ImportError as error:
        raise UsageError(
            f"{where}: {error}. For s3:// {how_to_install('s3')}; for others install the package named here."
        ) from error
    except Exception as error:
        if isinstance(where, Path):
            raise
        raise TocsinError(f"{where}: {str(error) or type(error).__name__}") from error


@contextmanager
def naming_faults() -> Iterator[None]:
    """Turn what this machine's file system says of a name in a command, before any work, into a message.

    :raises UsageError: naming the file, such as one in a folder that may not be entered, or of too long a name.
    """
    try:
        yield
    except OSError as error:
        # A store's faults name no file; they are told with the store's address.
        if error.filename is None:
            raise
        raise UsageError(f"{error.filename}: {error.strerror or error}") from error


def printable(where: Place | str) -> str:
    """A name as text that can be written anywhere: bytes that are no UTF-8, which Linux allows, as ``\\xe9``."""
    return os.fsencode(str(where)).decode("utf-8", "backslashreplace")


class Input:
    """A file opened for reading: its bytes, decompressed, and how far it has been read.

    :raises InputError: it cannot be opened.
    """

    def __init__(self, where: Place, file_format: FileFormat, name: str | None = None) -> None:
        self.where = where
        self.name = name or ("stdin" if where == STREAM else printable(where))
        self.format = file_format
        try:
            with reaching(where):
                self._raw = _opened(where, seekable=file_format.kind == "parquet")
                self._size = None if where == STREAM else int(where.stat().st_size)
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {error.strerror or error}") from error
        self.stream = io.BufferedReader(_decompressed(self._raw, file_format), _BUFFER_BYTES)
        # The outermost layer closes those below; dropped unclosed it would complain.
        self._open: io.BufferedReader | io.TextIOWrapper = self.stream

    def start(self) -> bytes:
        """The first bytes, which stay to be read."""
        return self.stream.peek(4096)[:4096]

    def text(self, encoding: str, errors: str) -> io.TextIOWrapper:
        """The rest as text, line ends kept."""
        self._open = text = io.TextIOWrapper(self.stream, encoding, errors=errors, newline="")
        return text

    def progress(self) -> float:
        """Share of the bytes read so far, from 0 to 1; 0 while the end is not known."""
        if not self._size:
            return 0.0
        # Compressed, only whole buffers can be told: how far the reader is in one has no place in the file.
        place = self._raw if self.format.codec else self.stream
        return min(place.tell() / self._size, 1.0)

    def close(self) -> None:
        """Let the file go."""
        self._open.close()


@contextmanager
def readable(source: Input) -> Iterator[None]:
    """Tell a damaged file from a disk or a store in trouble, after which a job may go on.

    Arrow's own faults are plain errors without a number; the system's have one, and those of stores are of other kinds.

    :raises InputError: the content cannot be read.
    :raises TocsinError: a store is in trouble.
    """
    with reaching(source.where):
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            numbered = getattr(error, "errno", None) is not None
            if numbered or (isinstance(error, OSError) and type(error) not in (OSError, FileNotFoundError)):
                raise
            raise InputError(f"{source.name} cannot be read: {error}") from error


def _opened(where: Place, *, seekable: bool) -> BinaryIO:
    if where != STREAM:
        return where.open("rb")
    return _copied(sys.stdin.buffer) if seekable else sys.stdin.buffer


def _copied(stream: BinaryIO) -> BinaryIO:
    """A pipe as a file in which one can go back; it vanishes with its handle."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    shutil.copyfileobj(stream, copy, _BUFFER_BYTES)
    copy.seek(0)
    return copy


def _decompressed(raw: BinaryIO, file_format: FileFormat) -> Any:  # noqa: ANN401  pyarrow has no types
    # Arrow's streams read members and frames one after the other, and refuse a file that was cut off.
    return pa.CompressedInputStream(raw, file_format.codec) if file_format.codec else raw


def compress(source: Path, target: Path, codec: str) -> None:
    """Write a compressed copy: a single member or frame, for some readers stop after the first."""
    with (
        source.open("rb") as plain,
        target.open("wb") as file,
        pa.CompressedOutputStream(pa.PythonFile(file, "w"), codec) as packed,
    ):
        shutil.copyfileobj(plain, packed, _BUFFER_BYTES)


def fingerprint(where: Place) -> str | None:
    """Something cheap that changes when a file is written again: the store's tag, or size and time.

    :return: none: there is no such file.
    """
    try:
        if isinstance(where, Path):
            found = where.stat()
            return f"{found.st_size} bytes, {found.st_mtime_ns}"
        with reaching(where):
            return str(where.fs.ukey(where.path))
    except FileNotFoundError:
        return None


def deliver(source: Path, target: Place) -> None:
    """Put a finished file of this machine where it belongs, complete or not at all.

    A local target is a rename, made to survive a power cut; in a store the upload is completed at its end. A link
    stays: the file it names is replaced.

    :raises OSError: of a local file system.
    :raises TocsinError: the store refused.
    """
    if isinstance(target, Path):
        _move(source, target.resolve())
        return
    with reaching(target):
        _upload(source, target)


def _move(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # On another disk, as what belongs beside a link may be.
        with source.open("rb") as made, atomic(target) as file:
            shutil.copyfileobj(made, file, _BUFFER_BYTES)
        source.unlink()
    sync(target.parent)


def _upload(source: Path, target: UPath) -> None:
    if target.protocol in _COMPLETE_OR_ABSENT:
        target.fs.put_file(str(source), target.path, **_upload_options(source, target))
        return
    # File servers show what has been written so far.
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.fs.put_file(str(source), temporary.path)
        target.fs.mv(temporary.path, target.path)
    except Exception:
        with suppress(Exception):
            temporary.unlink()
        raise


def _upload_options(source: Path, target: UPath) -> dict[str, int]:
    """Small parts, few at once: the default of s3fs holds half a gigabyte in memory."""
    if target.protocol not in ("s3", "s3a"):
        return {}
    part = max(_UPLOAD_PART_BYTES, math.ceil(source.stat().st_size / _UPLOAD_PARTS))
    return {"chunksize": part, "max_concurrency": 2}
