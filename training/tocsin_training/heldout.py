"""Labelled text that no model was trained on: a corpus's test split, or a file of one's own."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError, TaxonomyError
from tocsin.taxonomy import Taxonomy
from tocsin_training.config import DataSettings
from tocsin_training.corpus import label_matrix, limit, load_corpus

_NO_REASON = "not stated"


@dataclass(frozen=True)
class HeldOut:
    """Texts with their true labels."""

    name: str
    texts: list[str]
    truth: NDArray[np.bool_]
    """Shape (texts, labels), columns in the order of the taxonomy it was read with."""
    reasons: list[str | None]
    """Why a text has no event; none where it has one."""

    def __len__(self) -> int:
        return len(self.texts)


def read_corpus(data: DataSettings, taxonomy: Taxonomy) -> HeldOut:
    """The test split of a corpus.

    :raises CorpusError: it cannot be read.
    :raises TaxonomyError: a record has a label that is not in the taxonomy.
    """
    records = limit(load_corpus(data.corpus), data)["test"]
    truth = label_matrix(list(records["labels"]), taxonomy) > 0
    return HeldOut(f"test split of {data.corpus.name}", list(records["text"]), truth, list(records["reason"]))


def read_file(path: Path, taxonomy: Taxonomy) -> HeldOut:
    """A .jsonl or .csv file with ``text`` and ``labels``; a label goes by any of its names.

    ``labels`` is a list, or text with ``;`` between labels, and empty where there is no event; JSON Lines may give a
    ``reason`` as the corpus does.

    :raises InputError: naming the line at fault.
    """
    readers = {".jsonl": _jsonl, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: a corpus folder, or a file whose name ends in {' or '.join(readers)}, is needed")
    try:
        rows = [_row(path, number, row, taxonomy) for number, row in readers[path.suffix.lower()](path)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not rows:
        raise InputError(f"{path}: holds no text")
    texts, labels, reasons = zip(*rows, strict=True)
    return HeldOut(path.name, list(texts), label_matrix(list(labels), taxonomy) > 0, list(reasons))


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}:{number}: not a JSON object: {error}") from error


def _csv(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        for row in rows:
            yield rows.line_num, row


def _row(path: Path, number: int, row: Any, taxonomy: Taxonomy) -> tuple[str, list[str], str | None]:  # noqa: ANN401
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{path}:{number}: has no text in the field or column `text`")
    if "labels" not in row:
        raise InputError(f"{path}:{number}: has no field or column `labels`; leave it empty where there is no event")
    try:
        labels = [taxonomy.find(name).label for name in _names(row["labels"])]
    except TaxonomyError as error:
        raise InputError(f"{path}:{number}: {error}") from error
    return text, labels, None if labels else str(row.get("reason") or _NO_REASON)


def _names(given: object) -> Sequence[str]:
    if isinstance(given, list):
        return [str(name) for name in given]
    return [name.strip() for name in str(given or "").split(";") if name.strip()]
