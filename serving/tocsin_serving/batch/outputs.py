"""Which files a job reads and writes, and writing them so that they appear complete or not at all."""

from __future__ import annotations

import base64
import codecs
import glob
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tocsin import InputError, TocsinError, UsageError
from tocsin_serving.batch.chunks import Reject

SUFFIXES = (".csv", ".jsonl", ".parquet")
REJECTS_SUFFIX = ".rejects.jsonl"
_PARQUET_MAGIC = b"PAR1"
# First bytes of what people rename by mistake.
_OTHER_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "a zip file or an Excel workbook",
    b"%PDF": "a PDF",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    _PARQUET_MAGIC: "Parquet",
}


@dataclass(frozen=True)
class FilePair:
    """One file to read and the one to write."""

    source: Path
    target: Path

    @property
    def rejects(self) -> Path:
        """Where rows that cannot be scored go."""
        return self.target.with_name(self.target.name + REJECTS_SUFFIX)


def plan(source: str | Path, target: str | Path) -> list[FilePair]:
    """Pair the files of a path, folder or glob with those to write.

    A file goes to a file of the same kind. The files of a folder or glob go into a folder, under the names they had.

    :raises UsageError: the two do not go together.
    :raises InputError: there is nothing to read.
    """
    path, target = Path(source), Path(target)
    if path.is_dir():
        if target.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"OUTPUT must not lie in the folder that is read: {target}")
        return _plan_many(path, sorted(path.rglob("*")), target)
    if not path.exists() and glob.has_magic(str(source)):
        return _plan_many(_fixed_part(path), _globbed(str(source)), target)
    if not path.exists():
        raise InputError(f"{source}: no such file or folder")
    _check_suffix(path)
    if target.suffix.lower() != path.suffix.lower():
        raise UsageError(f"OUTPUT must be of the same kind as INPUT: {target} should end in {path.suffix}")
    if target.exists() and target.samefile(path):
        raise UsageError(f"OUTPUT is the same file as INPUT: {target}")
    return [FilePair(path, target)]


def _plan_many(root: Path, found: Sequence[Path], target: Path) -> list[FilePair]:
    sources = [path for path in found if path.is_file() and _is_input(path)]
    if not sources:
        raise InputError(f"No {', '.join(SUFFIXES)} file in {root}")
    if target.suffix.lower() in SUFFIXES or target.is_file():
        raise UsageError(f"INPUT names several files, so OUTPUT must be a folder: {target}")
    if target.resolve() == root.resolve():
        raise UsageError(f"OUTPUT must be another folder than the one that is read: {target}")
    return [FilePair(path, target / path.relative_to(root)) for path in sources]


def _globbed(pattern: str) -> list[Path]:
    # Path.glob takes no absolute pattern.
    return sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207


def _fixed_part(pattern: Path) -> Path:
    """The folder a glob starts from."""
    parts = pattern.parts[:-1]
    magic = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:magic])


def _is_input(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.endswith(REJECTS_SUFFIX) and path.name[0] != "."


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: its name must end in {', '.join(SUFFIXES)}")


def check_content(path: Path) -> None:
    """Refuse a file that is not what its name says.

    :raises InputError: it is something else, cannot be read or is empty.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not start:
        raise InputError(f"{path} is empty")
    kind = path.suffix.lower()
    actual = next((name for magic, name in _OTHER_MAGIC.items() if start.startswith(magic)), None)
    if kind == ".parquet" and actual != "Parquet":
        raise InputError(f"{path} is not Parquet{f' but {actual}' if actual else ''}")
    if kind != ".parquet" and actual is not None:
        raise InputError(f"{path} is not {kind[1:].upper()} but {actual}")
    if kind == ".csv" and start.lstrip(b"\xef\xbb\xbf \r\n")[:1] in (b"{", b"["):
        raise InputError(f"{path} is not CSV: it looks like JSON")
    if kind == ".csv" and _is_binary(start):
        raise InputError(f"{path} is not CSV: its bytes are no text")


def _is_binary(start: bytes) -> bool:
    """Whether a file starts like no text; a stray NUL further down in a text is no reason."""
    first_line = start.splitlines()[0]
    if b"\0" in first_line:
        return True
    try:
        # Not final: the last character may be cut off.
        codecs.getincrementaldecoder("utf-8")().decode(first_line)
    except UnicodeDecodeError:
        return b"\0" in start
    return False


def check_writable(pair: FilePair, *, overwrite: bool) -> None:
    """Refuse an output that exists or a folder that takes none, before any work is done.

    :raises UsageError: the output exists.
    :raises TocsinError: the folder does not exist or is not writable.
    """
    if pair.target.is_dir():
        raise UsageError(f"OUTPUT is a folder: {pair.target}. Give a file name.")
    if not overwrite:
        for path in (pair.target, pair.rejects):
            if path.exists():
                raise UsageError(f"{path} exists; --overwrite replaces it.")
    try:
        pair.target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(pair.target, keep=False):
            pass
    except OSError as error:
        raise TocsinError(f"Cannot write into {pair.target.parent}: {error.strerror}") from error


@contextmanager
def atomic(path: Path, *, keep: bool = True) -> Iterator[BinaryIO]:
    """A file under a temporary name, which gets its own name when the block ends well and vanishes otherwise.

    :param keep: false to only try whether the file could be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep:
            temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reject_line(source: Path, reject: Reject) -> bytes:
    """A line of the rejects file; raw bytes that are no UTF-8 are kept as base64."""
    raw: dict[str, str] = (
        {"raw": reject.raw} if isinstance(reject.raw, str) else {"raw_base64": base64.b64encode(reject.raw).decode()}
    )
    record = {"file": str(source), "row": reject.row, "reason": reject.reason, **raw}
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()
