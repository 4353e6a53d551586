"""What a release's manifest says of its origin: the data, the code and the recipe."""

from __future__ import annotations

import subprocess
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.lineage import CodeLineage, DataFile, DataLineage, Lineage, StartLineage
from tocsin.release import sha256
from tocsin.taxonomy import Taxonomy
from tocsin.toml import read_toml
from tocsin_training.base import WEIGHTS
from tocsin_training.config import DataSettings, Settings
from tocsin_training.corpus import IMPORTED, SPLITS, limit, load_corpus
from tocsin_training.errors import ConfigError
from tocsin_training.importing.report import FileReport, ImportReport
from tocsin_training.run import Run

if TYPE_CHECKING:
    from tocsin_training._datasets import Dataset


def lineage(settings: Settings, corpus_sha256: str) -> Lineage:
    """Where a release trained with these settings comes from."""
    start = settings.model.start
    return Lineage(
        data=describe_data(settings.data, corpus_sha256),
        started_from=None if start is None else describe_start(start),
        code=describe_code(),
        settings=shareable(settings),
    )


def describe_data(data: DataSettings, corpus_sha256: str) -> DataLineage:
    """Counts, labels and time of the records that were used."""
    corpus = limit(load_corpus(data.corpus), data)
    train = corpus["train"]
    counts = Counter(label for labels in train["labels"] for label in set(labels))
    imported = ImportReport.of(data.corpus)
    # Beside imported texts, the decades of records that were mixed in would say nothing of the user's data.
    # Arrow's JSON reader takes days for points in time and writes them with midnight.
    times = sorted(time[:10] for time in train["decade" if imported is None else "date"] if time)
    return DataLineage(
        name=data.corpus.name if imported is None else ", ".join(file.name for file in imported.files),
        description=data.description,
        files=() if imported is None else tuple(map(_data_file, imported.files)),
        options=None if imported is None else imported.options,
        rows_used=None if imported is None else imported.rows - sum(imported.dropped.values()),
        rows_dropped=None if imported is None else imported.dropped,
        mixed=0 if imported is None else imported.mixed.get("train", 0),
        sha256=corpus_sha256,
        records={split: len(corpus[split]) for split in SPLITS},
        labels={name: counts[name] for name in Taxonomy.load(data.taxonomy).names},
        without_event=sum(not labels for labels in train["labels"]),
        first=times[0] if times else None,
        last=times[-1] if times else None,
        undated=None if imported is None else _undated(train),
        licence=data.licence,
    )


def _undated(train: Dataset) -> int:
    """Imported records of which nobody knows when they were written; those that were mixed in have no dates."""
    return sum(batch == IMPORTED and not day for batch, day in zip(train["batch"], train["date"], strict=True))


def _data_file(file: FileReport) -> DataFile:
    return DataFile(name=file.name, layout=file.layout, rows=file.rows, sha256=file.sha256)


def describe_start(model: Path) -> StartLineage:
    """A model that is gone on from, and what its last training read, where it still lies in the folder of its run."""
    run = Run(model.parent)
    prepared = run.figures().get("prepare", {})
    # Not as settings: it may be of a time when there were others.
    recipe = read_toml(run.config, "the recipe", error=ConfigError) if run.config.is_file() else {}
    return StartLineage(
        sha256=sha256(model / WEIGHTS),
        corpus_sha256=prepared.get("corpus_sha256"),
        records=prepared.get("records"),
        licence=recipe.get("data", {}).get("licence"),
    )


def describe_code() -> CodeLineage:
    """The package's version and, in a checkout with git at hand, its commit."""
    commit = _git("rev-parse", "HEAD")
    changes = None if commit is None else _git("status", "--porcelain", "--untracked-files=no")
    return CodeLineage(version=version("tocsin"), commit=commit, modified=None if changes is None else bool(changes))


def _git(*arguments: str) -> str | None:
    """What git says of the checkout that this file lies in; none where there is neither."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def shareable(settings: Settings, *, exclude_defaults: bool = False) -> dict[str, Any]:
    """The recipe as plain data, folders cut off: a release travels, and paths tell of the machine it was made on."""

    def cut(value: object) -> object:
        if isinstance(value, dict):
            return {key: cut(inner) for key, inner in value.items()}
        if isinstance(value, Path):
            return value.name
        return list(value) if isinstance(value, tuple) else value

    recipe = settings.model_dump(exclude_defaults=exclude_defaults)
    base = Path(settings.model.base)
    if base.is_absolute():
        recipe["model"]["base"] = base.name
    return {key: cut(value) for key, value in recipe.items() if key != "runs"}
