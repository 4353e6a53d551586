"""The hidden folder in which an output grows, and from which a killed job goes on.

Rows are appended to one plain file, whatever the output's format: CSV and JSON Lines as they are, Parquet as Arrow
streams one after the other. After each chunk the files are synced and a journal that holds their lengths is replaced;
what a killed job wrote beyond those lengths is cut off when it is taken up again. Compression, and Parquet's footer and
row groups, come at the end in one pass, so that they depend on the rows alone and not on where a job was interrupted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout
from pydantic import ValidationError

from tocsin import TocsinError, UsageError
from tocsin.disk import atomic, cache_folder
from tocsin_serving.batch.files import Place
from tocsin_serving.batch.records import Progress


class OutputTakenError(UsageError):
    """Another job writes the output: likely the same command twice, so none of its work should be done again."""


class Workspace:
    """Names of the files of an unfinished job, and its lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input = folder / "input"
        """What came through a pipe."""
        self.output = folder / "output"
        self.rejects = folder / "rejects"
        self.packed = folder / "packed"
        """The output as a compressed or Parquet file."""
        self.manifest = folder / "manifest"
        self._journal = folder / "journal"

    @classmethod
    def of(cls, target: Place, work_dir: Path | None) -> Self:
        """The folder of an output: beside it, or for one in a store in a folder of this machine."""
        if isinstance(target, Path):
            # As it really is, so that two ways to one file meet in one folder.
            resolved = target.resolve()
            return cls(resolved.with_name(f".{resolved.name}.tocsin"))
        base = work_dir or cache_folder() / "jobs"
        return cls(base / f"{target.name}.{hashlib.sha256(str(target).encode()).hexdigest()[:16]}")

    @contextmanager
    def locked(self, target: Place) -> Iterator[None]:
        """Keep other jobs away; afterwards the folder stays if there is something to go on from.

        The lock is the kernel's and dies with its process, so that a killed job blocks nobody.

        :raises OutputTakenError: another job writes this output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise OutputTakenError(f"Another job is writing {target}. Wait for it or choose another output.") from None
        try:
            yield
        finally:
            if not self._journal.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
            lock.release()

    def progress(self) -> Progress | None:
        """How far an unfinished job is; none when there is none.

        :raises TocsinError: the journal cannot be read.
        """
        try:
            return Progress.model_validate_json(self._journal.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise TocsinError(
                f"{self._journal} cannot be read; it may be of another version of tocsin. --overwrite starts anew."
            ) from error

    def save(self, progress: Progress) -> None:
        """Replace the journal, whole or not at all."""
        with atomic(self._journal) as file:
            file.write(progress.model_dump_json().encode())

    def forget(self) -> None:
        """Give an unfinished job up; its files go when the lock does."""
        self._journal.unlink(missing_ok=True)


class Spool:
    """The unfinished output and rejects, open for appending."""

    def __init__(self, workspace: Workspace, progress: Progress) -> None:
        self._workspace = workspace
        self._progress = progress
        with ExitStack() as stack:
            self._output = stack.enter_context(_cut(workspace.output, progress.output_bytes))
            self._rejects = stack.enter_context(_cut(workspace.rejects, progress.rejects_bytes))
            self._stack = stack.pop_all()

    def commit(self, output: Iterable[bytes], rejects: bytes) -> None:
        """Append a chunk and journal it; afterwards no interruption can lose it.

        :param output: in pieces, each made when the one before is written.
        :raises OSError: such as a full disk; what was journaled before stays.
        """
        self._progress.output_bytes += _append(self._output, output)
        self._progress.rejects_bytes += _append(self._rejects, [rejects])
        self._workspace.save(self._progress)

    def close(self) -> None:
        """Let the files go."""
        self._stack.close()


def _cut(path: Path, length: int) -> FileIO:
    """A file opened at a length, without what stands behind it.

    Without a buffer: one that cannot be emptied on a full disk would fail again when the file is closed.
    """
    file = FileIO(path, "r+" if path.exists() else "w+")
    if file.seek(0, os.SEEK_END) < length:
        file.close()
        raise TocsinError(f"{path} is shorter than its journal says, so the job cannot go on. --overwrite starts anew.")
    file.truncate(length)
    file.seek(length)
    return file


def _append(file: FileIO, pieces: Iterable[bytes]) -> int:
    """:return: bytes appended, all of them on disk."""
    size = 0
    for piece in pieces:
        size += len(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]
    if size:
        os.fsync(file.fileno())
    return size
