"""Labelled text that no model was trained on: a corpus's test split, or a file of one's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.taxonomy import Taxonomy
from tocsin_training.config import DataSettings
from tocsin_training.corpus import label_matrix, limit, load_corpus
from tocsin_training.importing.layouts import NOT_CODED, UNSOUND, Draft
from tocsin_training.importing.names import NameFinder
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.reading import understood
from tocsin_training.importing.store import text_key
from tocsin_training.importing.tables import Problem, open_table

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


def read_file(path: Path, taxonomy: Taxonomy, options: ImportOptions | None = None) -> HeldOut:
    """Any file that `tocsin train --data` reads, in any layout; a label goes by any of its names.

    A text in several rows is one, with all their labels. Rows that nobody has coded are left out; the name counts them.

    :raises TocsinError: the file cannot be used; the message names the line at fault.
    """
    options = options or ImportOptions()
    finder, read = NameFinder(taxonomy, options.names), dict[bytes, _Text]()
    uncoded = 0
    with open_table(path, options) as table:
        for found in understood(table, options)[1]:
            if isinstance(found.what, Problem) and found.what.kind in (NOT_CODED, UNSOUND):
                uncoded += 1
            elif isinstance(found.what, Problem):
                raise InputError(f"{path}:{found.line}: {found.what.reason}")
            else:
                text = read.setdefault(text_key(found.what.text), _Text(found.what.text, found.what.reason))
                text.labels |= _labels(found.what, finder, f"{path}:{found.line}")
    if not read:
        raise InputError(f"{path}: holds no text with labels")
    name = f"{path.name} ({uncoded:,} rows not coded)" if uncoded else path.name
    texts = list(read.values())
    truth = label_matrix([list(text.labels) for text in texts], taxonomy) > 0
    reasons = [None if text.labels else text.reason or _NO_REASON for text in texts]
    return HeldOut(name, [text.text for text in texts], truth, reasons)


@dataclass
class _Text:
    text: str
    reason: str
    labels: dict[str, None] = field(default_factory=dict)
    """In the order in which they were met."""


def _labels(draft: Draft, finder: NameFinder, place: str) -> dict[str, None]:
    labels: dict[str, None] = {}
    for name in draft.names:
        meaning = finder.find(name)
        if meaning.problem is not None:
            raise InputError(f"{place}: {meaning.problem}; a --names file can give it one")
        if meaning.label is not None:
            labels[meaning.label] = None
    return labels
