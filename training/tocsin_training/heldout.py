"""Labelled text that no model was trained on: a corpus's test split, or a file of one's own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.taxonomy import Taxonomy
from tocsin_training.config import DataSettings
from tocsin_training.corpus import label_matrix, load_split
from tocsin_training.importing.checks import NO_FAULTS
from tocsin_training.importing.layouts import NO_REASON
from tocsin_training.importing.names import UNKNOWN_NAME, NameFinder
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.reading import understood
from tocsin_training.importing.store import text_key
from tocsin_training.importing.tables import Problem, open_table


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
    records = load_split(data, "test")
    truth = label_matrix(list(records["labels"]), taxonomy)
    return HeldOut(f"test split of {data.corpus.name}", list(records["text"]), truth, list(records["reason"]))


def read_file(path: Path, taxonomy: Taxonomy, options: ImportOptions | None = None) -> HeldOut:
    """Any file that `tocsin train --data` reads, in any layout and by the same rules; a label goes by any of its names.

    A text in several rows is one, with all their labels. Rows that nobody has coded, or whose coding may be several
    labels, are left out, and so are faulty ones up to the share that ``options`` allows; the name counts them.

    :raises TocsinError: the file cannot be used; the message names the line at fault.
    """
    options = options or ImportOptions()
    read, left_out, rows = _read_rows(path, options)
    finder = NameFinder(taxonomy, options.names)
    texts: list[_Text] = []
    labels: list[list[str]] = []
    for text in read:
        found = finder.labels(text.names)
        if isinstance(found, Problem):
            left_out.append(_LeftOut(text.names[finder.name_at_fault(text.names, found)], found, text.rows))
        else:
            texts.append(text)
            labels.append(list(found))
    _refuse_many(path, left_out, rows, options)
    if not texts:
        raise InputError(f"{path}: holds no text with labels")
    truth = label_matrix(labels, taxonomy)
    reasons = [None if own else text.reason or NO_REASON for text, own in zip(texts, labels, strict=True)]
    return HeldOut(_named(path, left_out), [text.text for text in texts], truth, reasons)


@dataclass
class _Text:
    text: str
    reason: str
    rows: int = 0
    names: dict[str, int] = field(default_factory=dict)
    """Each with the line where it was met first."""


@dataclass(frozen=True)
class _LeftOut:
    line: int
    problem: Problem
    rows: int = 1

    @property
    def faulty(self) -> bool:
        return self.problem.kind not in NO_FAULTS


def _read_rows(path: Path, options: ImportOptions) -> tuple[list[_Text], list[_LeftOut], int]:
    """The file's texts, what could not be read, and the number of rows."""
    read, left_out, rows = dict[bytes, _Text](), list[_LeftOut](), 0
    with open_table(path, options) as table:
        for found in understood(table, options)[1]:
            rows += 1
            if isinstance(found.what, Problem):
                left_out.append(_LeftOut(found.line, found.what))
                continue
            draft = found.what
            text = read.setdefault(text_key(draft.text), _Text(draft.text, draft.reason))
            text.rows += 1
            for name in draft.names:
                text.names.setdefault(name, found.line)
    return list(read.values()), left_out, rows


def _refuse_many(path: Path, left_out: list[_LeftOut], rows: int, options: ImportOptions) -> None:
    faulty = [each for each in left_out if each.faulty]
    count = sum(each.rows for each in faulty)
    if count <= options.bad_rows * rows:
        return
    first = min(faulty, key=lambda each: each.line)
    remedy = "; a --names file can give it one" if first.problem.kind == UNKNOWN_NAME else ""
    share = f"{count:,} of {rows:,} rows cannot be used (--bad-rows allows {options.bad_rows:.0%})"
    raise InputError(f"{path}:{first.line}: {first.problem.reason}{remedy}; {share}")


def _named(path: Path, left_out: list[_LeftOut]) -> str:
    """What the file is called, with the rows that were left out of it by kind."""
    kinds = Counter[str]()
    for each in left_out:
        kinds[each.problem.kind] += each.rows
    said = ", ".join(f"{kind} {rows:,}" for kind, rows in kinds.most_common())
    return f"{path.name} (rows left out: {said})" if said else path.name
