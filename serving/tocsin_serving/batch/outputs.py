"""Which files a job reads and writes, and whether it may."""

from __future__ import annotations

import base64
import codecs
import glob
import json
import os
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

from upath import UPath

from tocsin import InputError, TocsinError, UsageError
from tocsin_serving.batch.chunks import Reject
from tocsin_serving.batch.dialect import Dialect
from tocsin_serving.batch.files import (
    KINDS,
    STREAM,
    SUFFIXES,
    FileFormat,
    Input,
    Place,
    format_by_name,
    is_packed_parquet,
    naming_faults,
    place,
    printable,
    reaching,
)

_P = TypeVar("_P", Path, UPath)
REJECTS_SUFFIX = ".rejects.jsonl"
MANIFEST_SUFFIX = ".manifest.json"
_PARQUET_MAGIC = b"PAR1"
_UNPACK = {".gz": "gunzip", ".zst": "unzstd"}
_UTF16 = "UTF-16 text; save it as UTF-8"
_UTF32 = "UTF-32 text; save it as UTF-8"
# First bytes of what people rename by mistake.
_OTHER_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "a zip file or an Excel workbook",
    b"%PDF": "a PDF",
    # Before UTF-16, whose mark is the beginning of this one.
    codecs.BOM_UTF32_LE: _UTF32,
    codecs.BOM_UTF32_BE: _UTF32,
    b"\xff\xfe": _UTF16,
    b"\xfe\xff": _UTF16,
    _PARQUET_MAGIC: "Parquet",
}


@dataclass(frozen=True)
class FilePair:
    """One file to read and the one to write."""

    source: Place
    target: Place
    source_format: FileFormat
    target_format: FileFormat
    """Of the same kind, perhaps compressed otherwise."""

    @property
    def source_name(self) -> str:
        """What to call the input."""
        return "stdin" if self.source == STREAM else printable(self.source)

    @property
    def target_name(self) -> str:
        """What to call the output."""
        return "stdout" if self.target == STREAM else printable(self.target)

    @property
    def rejects(self) -> Place:
        """Where rows that cannot be scored go."""
        return self.target.with_name(self.target.name + REJECTS_SUFFIX)

    @property
    def manifest(self) -> Place:
        """Where it is told what the output was made from."""
        return self.target.with_name(self.target.name + MANIFEST_SUFFIX)


def plan(
    source: str | Path | UPath,
    target: str | Path | UPath,
    file_format: str | None = None,
    dialect: Dialect | None = None,
    left_out: Callable[[Sequence[str]], None] | None = None,
) -> list[FilePair]:
    """Pair the files of a path, folder or glob with those to write.

    A file goes to a file of the same kind. The files of a folder or glob go into a folder, under the names they had;
    hidden ones are passed over, and so is what lies in the target of a glob. Linked folders are entered.

    :param source: a path, a URL, or ``-`` for stdin.
    :param target: a path, a URL, or ``-`` for stdout.
    :param file_format: one of `KINDS`, for files whose names tell none; in a folder or glob too, where they are else
        left out.
    :param dialect: of the CSV files among them; none: a usual one, its delimiter told from the file.
    :param left_out: told the names of the files that are.
    :raises UsageError: the two do not go together, a file that is read would be replaced, or a name cannot be used.
    :raises InputError: there is nothing to read, or a folder or link below hides what there is.
    """
    if file_format not in (None, *KINDS):
        raise UsageError(f"--format must be one of {', '.join(KINDS)}, not {file_format}")
    start, end = place(source), place(target)
    with reaching(end if isinstance(start, Path) else start), naming_faults():
        pairs = _planned(start, end, file_format, left_out or _ignore)
        _keep_sources(pairs)
    return pairs if dialect is None else _in_dialect(pairs, dialect)


def _in_dialect(pairs: Sequence[FilePair], dialect: Dialect) -> list[FilePair]:
    """The same files, those of CSV read and written in a dialect.

    :raises UsageError: something is said of CSV, and none is.
    """
    if str(dialect) and all(pair.source_format.kind != "csv" for pair in pairs):
        raise UsageError(
            f"{pairs[0].source_name} is {pairs[0].source_format.kind}: --delimiter, --quote, --escape, --encoding and "
            "--no-header are for CSV; leave them out"
        )
    return [
        replace(
            pair,
            source_format=pair.source_format.spoken_in(dialect),
            # What is added needs names, whatever the input has.
            target_format=pair.target_format.spoken_in(replace(dialect, header=True)),
        )
        for pair in pairs
    ]


def _planned(
    start: Place, end: Place, file_format: str | None, left_out: Callable[[Sequence[str]], None]
) -> list[FilePair]:
    if start == STREAM:
        _refuse_special(end, "put in place")
        return [_pair(start, end, file_format)]
    _refuse_special(start, "read more than once")
    _refuse_special(end, "put in place")
    if start.is_dir():
        if _lies_in(end, start):
            raise UsageError(f"OUTPUT must not lie in the folder that is read: {end}")
        return _plan_many(start, _files_below(start), end, file_format, left_out)
    if not start.exists() and glob.has_magic(str(start)):
        return _plan_many(*_globbed(start), end, file_format, left_out)
    if not start.exists():
        raise InputError(f"{start}: no such file or folder")
    return [_pair(start, end, file_format)]


def _keep_sources(pairs: Sequence[FilePair]) -> None:
    """Refuse a job that would write over what it reads, by whatever name, or take it for rejects of an earlier one.

    :raises UsageError: naming both files.
    """
    sources = {_identity(pair.source): pair.source for pair in pairs if pair.source != STREAM}
    # Of what is not there.
    sources.pop(None, None)
    for pair in pairs:
        if pair.target == STREAM:
            continue
        for path in (pair.target, pair.rejects, pair.manifest):
            source = sources.get(_identity(path))
            if source is not None:
                raise UsageError(
                    f"{path} would be written, but {'it' if source == path else f'it is {source}, which'} is read. "
                    "Choose another OUTPUT."
                )


def check_apart(path: Path, pairs: Sequence[FilePair]) -> None:
    """Refuse to write beside a job what would replace a file that it reads or writes, by whatever name.

    :raises UsageError: naming both files.
    """
    # What is not there yet is known by where its name leads.
    known = {path.resolve(), _identity(path)} - {None}
    for where in (where for pair in pairs for where in (pair.source, pair.target, pair.rejects, pair.manifest)):
        if isinstance(where, Path) and not known.isdisjoint({where.resolve(), _identity(where)}):
            raise UsageError(f"{path} would replace {where}, which this job reads or writes. Choose another name.")


def _identity(where: Place) -> Hashable:
    """What two names of one file have in common; none for a local file that is not there."""
    if not isinstance(where, Path):
        return str(where).rstrip("/")
    try:
        found = where.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _refuse_special(where: Place, use: str) -> None:
    """Refuse pipes (process substitution, ``/dev/fd/63``) and devices under a name.

    :param use: what can be done with files only.
    :raises UsageError: naming it, and what to do.
    """
    if where == STREAM or not isinstance(where, Path) or not where.exists() or where.is_file() or where.is_dir():
        return
    kind = "a pipe" if where.is_fifo() else "neither a file nor a folder"
    raise UsageError(f"{where} is {kind}, and what it holds cannot be {use}; use - for stdin or stdout, with --format")


def _pair(source: Place, target: Place, file_format: str | None) -> FilePair:
    """One file and its output, their formats told by name or by the option."""
    read = _format(source, file_format)
    written = FileFormat(read.kind) if target == STREAM else _format(target, file_format)
    if read.kind != written.kind:
        raise UsageError(f"OUTPUT must be of the same kind as INPUT: {target} should be {read.kind}")
    if written.dialect.delimiter not in (None, read.dialect.delimiter):
        raise UsageError(f"OUTPUT has the delimiter of INPUT, and {target} is tab-separated by its name; call it .csv")
    return FilePair(source, target, read, written)


def _format(where: Place, file_format: str | None) -> FileFormat:
    found = format_by_name(where.name)
    if found is not None and file_format in (None, found.kind):
        return found
    if found is not None:
        raise UsageError(f"{where} is {found.kind} by its name; leave --format {file_format} out or rename it")
    if file_format is None:
        name = "stdin" if where == STREAM else where
        _refuse_packed_parquet(where)
        raise UsageError(f"{name}: its name must end in {SUFFIXES}, or give --format")
    return FileFormat(file_format)


def _refuse_packed_parquet(where: Place) -> None:
    if is_packed_parquet(where.name):
        ending = PurePosixPath(where.name).suffix
        raise UsageError(
            f"{where}: Parquet is compressed within itself (what is written, with zstd), so leave {ending} out of the "
            f"name. If it is read and was packed as a whole, unpack it first, with {_UNPACK[ending.lower()]}; if it is "
            "plain Parquet under such a name, --format parquet reads it."
        )


def _plan_many(
    root: Place,
    found: Sequence[tuple[Place, str]],
    target: Place,
    file_format: str | None,
    left_out: Callable[[Sequence[str]], None],
) -> list[FilePair]:
    """:param found: files with their names relative to the root."""
    # Below the root, the target holds what earlier runs of this job wrote.
    inside = target != STREAM and _lies_in(target, root)
    seen = [
        (path, name)
        for path, name in found
        if not (_is_hidden(name) or name.endswith((REJECTS_SUFFIX, MANIFEST_SUFFIX)))
        and not (inside and _lies_in(path, target))
    ]
    if file_format is None:
        for path, _ in seen:
            _refuse_packed_parquet(path)
    sources = [(path, name) for path, name in seen if file_format or format_by_name(name)]
    for path, _ in sources:
        _refuse_missing(path)
    if not sources:
        raise InputError(f"No file in {root}{' beside those in OUTPUT' if inside else ''} ends in {SUFFIXES}")
    if others := [printable(path) for path, name in seen if not (file_format or format_by_name(name))]:
        left_out(others)
    if target == STREAM or format_by_name(target.name) or target.is_file():
        raise UsageError(f"INPUT names several files, so OUTPUT must be a folder: {target}")
    if _same_file(root, target):
        raise UsageError(f"OUTPUT must be another folder than the one that is read: {target}")
    return [_pair(path, target / name, file_format) for path, name in sources]


def _ignore(names: Sequence[str]) -> None:
    """Nobody wants to know."""


def _refuse_missing(where: Place) -> None:
    """Refuse what is called like a file to be read and is none: left out, its rows would be missing without a word."""
    if not isinstance(where, Path):
        return
    if not where.exists():
        raise InputError(f"{where} is a link to a file that is not there; mend or remove it")
    _refuse_special(where, "read more than once")


def _files_below(root: Place) -> list[tuple[Place, str]]:
    if isinstance(root, Path):
        return _named(sorted(_walked(root)), root)
    return _remote(root, root.fs.find(root.path), root)


def _walked(root: Path) -> Iterator[Path]:
    """What lies below a folder and is no folder itself.

    Folders that are links are entered, save those that lead back to where they lie: their files are found without
    them. Hidden ones are not.

    :raises InputError: a folder cannot be listed.
    """
    for at, folders, files in os.walk(root, onerror=_unlisted, followlinks=True):
        folder = Path(at)
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(folder / name, root)]
        yield from (folder / name for name in files)


def _leads_back(folder: Path, root: Path) -> bool:
    """Whether a folder is a link to one that holds it, or that was passed on the way to it."""
    if not folder.is_symlink():
        return False
    real = folder.resolve()
    passed = (parent for parent in folder.parents if parent.is_relative_to(root))
    return any(parent.resolve().is_relative_to(real) for parent in passed)


def _unlisted(error: OSError) -> NoReturn:
    raise InputError(
        f"{error.filename} cannot be listed: {error.strerror or error}. Let it be read, or name what to read by a glob "
        "that leaves it out."
    ) from error


def _globbed(pattern: Place) -> tuple[Place, list[tuple[Place, str]]]:
    """The folder a glob starts from, and what it finds."""
    if isinstance(pattern, Path):
        _check_searched(pattern)
        folder = _fixed_part(pattern)
        return folder, _named(_matching(pattern), folder)
    root = _fixed_part(pattern)
    return root, _remote(pattern, pattern.fs.glob(pattern.path), root)


def _matching(pattern: Path) -> list[Path]:
    # Path.glob takes no absolute pattern.
    return sorted(map(Path, glob.glob(str(pattern), recursive=True)))  # noqa: PTH207


def _check_searched(pattern: Path) -> None:
    """List every folder that a glob looks into: it passes over those that cannot be.

    :raises InputError: a folder cannot be listed.
    """
    searched = [_fixed_part(pattern)]
    for part in takewhile(lambda part: glob.has_magic(str(part)), pattern.parents):
        searched += [path for path in _matching(part) if path.is_dir()]
    for folder in searched:
        try:
            os.scandir(folder).close()
        except FileNotFoundError:
            continue
        except OSError as error:
            _unlisted(error)


def _named(found: Iterable[Path], root: Path) -> list[tuple[Place, str]]:
    """What is no folder, with its name relative to a folder."""
    return [(path, str(path.relative_to(root))) for path in found if not path.is_dir()]


def _remote(store: UPath, keys: Sequence[str], root: UPath) -> list[tuple[Place, str]]:
    """Objects with their names relative to a folder."""
    return [
        (place(store.fs.unstrip_protocol(key)), str(PurePosixPath(key).relative_to(root.path)))
        for key in sorted(keys)
        if store.fs.isfile(key)
    ]


def _fixed_part(pattern: _P) -> _P:
    """The folder a glob starts from."""
    folder = pattern.parent
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return folder


def _same_file(one: Place, other: Place) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return one.resolve() == other.resolve() or (other.exists() and other.samefile(one))
    return str(one).rstrip("/") == str(other).rstrip("/")


def _lies_in(target: Place, folder: Place) -> bool:
    if isinstance(target, Path) and isinstance(folder, Path):
        return target != STREAM and target.resolve().is_relative_to(folder.resolve())
    return f"{target}/".startswith(str(folder).rstrip("/") + "/")


def _is_hidden(name: str) -> bool:
    """Whether a file found below a folder is hidden, as what is unfinished is.

    :param name: relative to the folder.
    """
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def check_content(source: Input) -> None:
    """Refuse a file that is not what its name says.

    :raises InputError: it is something else, cannot be read or is empty.
    """
    start = source.start()
    name, kind = source.name, source.format.kind
    if not start:
        raise InputError(f"{name} is empty")
    actual = next((name for magic, name in _OTHER_MAGIC.items() if start.startswith(magic)), None)
    if kind == "parquet" and actual != "Parquet":
        raise InputError(f"{name} is not Parquet{f' but {actual}' if actual else ''}")
    if kind == "csv" and actual != _UTF32 and source.format.dialect.encoding.startswith("utf-16"):
        return
    if kind == "csv" and actual == _UTF16:
        actual += ", or give --encoding utf-16"
    if kind != "parquet" and actual is not None:
        raise InputError(f"{name} is not {kind.upper()} but {actual}")
    # A row may start so; the name of a column does not.
    named = source.format.dialect.header
    if kind == "csv" and named and start.lstrip(codecs.BOM_UTF8 + b" \r\n")[:1] in (b"{", b"["):
        raise InputError(f"{name} is not CSV: it looks like JSON")
    if kind == "csv" and _is_binary(start):
        raise InputError(f"{name} is not CSV: its bytes are no text")


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


def check_absent(pair: FilePair, differences: Sequence[str] = ()) -> None:
    """Refuse an output that exists.

    :param differences: what keeps it from being left as it is.
    :raises UsageError: naming it and them.
    """
    reason = f" It is not what this job would write: {'; '.join(differences)}." if differences else ""
    for path in (pair.target, pair.rejects, pair.manifest):
        with reaching(path):
            if path.exists():
                raise UsageError(f"{path} exists; --overwrite replaces it.{reason}")


def check_folder(pair: FilePair, *, trial: bool = False) -> None:
    """Refuse a place that takes no files, before any work is done.

    :param trial: write nothing to find that out.
    :raises UsageError: the output is a folder.
    :raises TocsinError: the output's folder cannot be made or written into.
    """
    with reaching(pair.target):
        if pair.target.is_dir():
            raise UsageError(f"OUTPUT is a folder: {pair.target}. Give a file name.")
    if trial:
        return
    # Rejects and manifest stand beside the name that was given, and the output grows beside the file it names. Any of
    # them may be a link to another place.
    paths = [path for path in (pair.target, pair.rejects, pair.manifest) if isinstance(path, Path)]
    for folder in {path.parent.resolve() for path in paths} | {path.resolve().parent for path in paths}:
        _probe(folder)


def _probe(folder: Path) -> None:
    """Make a folder and write something into it.

    :raises TocsinError: that cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp"):
            pass
    except OSError as error:
        raise TocsinError(f"Cannot write into {folder}: {error.strerror}") from error


def reject_line(source: str, reject: Reject) -> bytes:
    """A line of the rejects file; raw bytes that are no UTF-8 are kept as base64."""
    raw: dict[str, str] = (
        {"raw": reject.raw} if isinstance(reject.raw, str) else {"raw_base64": base64.b64encode(reject.raw).decode()}
    )
    record = {"file": source, "row": reject.row, "reason": reject.reason, **raw}
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()
