"""The corpus: records of invented news text with the events they report, one JSON object a line.

``datasets/corpus/{train,validation,test}/<batch>.jsonl``. Membership of a split is where a file lies and nothing
else, so it is the same on every machine; ``validate`` sees to it that nothing related lies in two of them.
"""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tocsin_training.augment import Chosen, Example, augment
from tocsin_training.errors import CorpusError

if TYPE_CHECKING:
    from tocsin.taxonomy import Taxonomy
    from tocsin_training._datasets import Dataset, DatasetDict, Features
    from tocsin_training.config import AugmentSettings, DataSettings

SPLITS = ("train", "validation", "test")
REGISTERS = frozenset(
    {"wire", "local", "translated", "headline", "notes", "ngo", "sitrep", "liveblog", "post", "transcript"}
)
REASONS = frozenset(
    {"planned", "threatened", "denied", "past", "statement", "analysis", "background", "diplomacy"}
    | {"attribution", "economy", "sport", "culture", "metaphor", "disaster", "accident", "crime", "drill"}
    | {"boilerplate", "politics", "foreign_language", "science_health"}
)

IMPORTED = "imported"
"""Batch of records that come from somebody's own files."""
IMPORT_REPORT = "import.json"
"""Beside the splits of a corpus; by it an imported one is told from the project's own."""
FOREIGN = "foreign_language"
"""The reason of records that are not in a language the model is trained on."""
_LEARNED = ("id", "text", "labels")


class Annotations(BaseModel):
    """The label lists each reader gave, the writer first. An empty list is a reader who saw no event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: tuple[str, ...]
    second: tuple[str, ...] | None = None
    third: tuple[str, ...] | None = None


class Record(BaseModel):
    """One text with its labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    labels: tuple[str, ...] = Field(description="taxonomy labels; empty: no event")
    # "register" would hide a method of the base class.
    text_register: str = Field(alias="register", min_length=1)
    batch: str = Field(min_length=1, description="one writer's sitting")
    annotations: Annotations
    reason: str | None = Field(None, description="why there is no event; only on records without labels")
    country: str | None = Field(None, pattern="^[A-Z]{3}$", description="ISO 3166 alpha-3; XXX: nowhere")
    decade: str | None = Field(None, pattern="^[0-9]{3}0s$")
    date: str | None = Field(None, pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="of what is reported")
    origin: str | None = Field(None, description="file:line of an imported text")
    pair: str | None = Field(None, description="contrast pair: same scene, one fact changed")
    article: str | None = Field(None, description="sentences of one article")
    ambiguous: bool = Field(False, description="careful readers disagree for good reasons")


@dataclass(frozen=True)
class Line:
    """A record and the place it was read from."""

    record: Record
    split: str
    file: Path
    number: int


def corpus_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each split, in name order.

    :raises CorpusError: a split has none.
    """
    files = {split: sorted((folder / split).glob("*.jsonl")) for split in SPLITS}
    for split, paths in files.items():
        if not paths:
            raise CorpusError(f"{folder / split}: no .jsonl file; a corpus has {', '.join(SPLITS)}, each with records")
    return files


def load_corpus(folder: Path, scratch: Path | None = None, *, splits: Sequence[str] = SPLITS) -> DatasetDict:
    """Splits as Hugging Face datasets with the columns of ``Record``; the files of others are not opened.

    :param scratch: a folder for files that the splits then lie in, which must outlive them; none: they lie in memory.
    :raises CorpusError: the folder or a file in it cannot be read.
    """
    from tocsin_training._datasets import (
        DatasetDict,
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        load_dataset,
    )

    there = corpus_files(folder)
    files = {split: list(map(str, there[split])) for split in splits}
    loud = not are_progress_bars_disabled()
    disable_progress_bars()
    # A cache that dies with the call, or with the scratch folder: a stale cache is a silent error.
    with TemporaryDirectory(prefix="tocsin-corpus-", dir=scratch) as own:
        cache, in_memory = str(scratch or own), scratch is None
        try:
            loaded = load_dataset(
                "json", data_files=files, features=_features(), cache_dir=cache, keep_in_memory=in_memory
            )
        except Exception as error:
            raise CorpusError(
                f"{folder}: cannot be read as a corpus ({_root_cause(error)}); "
                f"`tocsin corpus check {folder}` names the file and line"
            ) from error
        finally:
            if loud:
                enable_progress_bars()
    return DatasetDict({split: loaded[split] for split in splits})


def load_split(data: DataSettings, split: str) -> Dataset:
    """The records that a recipe reads of one split.

    :raises CorpusError: as with ``load_corpus`` and ``limit``.
    """
    return limit(load_corpus(data.corpus, splits=(split,)), data)[split]


def _features() -> Features:
    from tocsin_training._datasets import Features, List, Value

    text, labels = Value("string"), List(Value("string"))
    return Features(
        {
            key: text
            for key in (
                "id",
                "text",
                "register",
                "batch",
                "reason",
                "country",
                "decade",
                "date",
                "origin",
                "pair",
                "article",
            )
        }
        | {"labels": labels, "ambiguous": Value("bool")}
        | {"annotations": {"writer": labels, "second": labels, "third": labels}}
    )


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def limit(corpus: DatasetDict, data: DataSettings) -> DatasetDict:
    """Only so many records of each split there is, evenly spread over its files, if the recipe asks for that.

    And of the training split the new batches with some of the others, if it asks for those.

    :raises CorpusError: there is no such batch.
    """
    if data.new_batches and "train" in corpus:
        corpus["train"] = corpus["train"].select(_new_and_replayed(corpus["train"], data))
    for split in corpus:
        wanted, there = getattr(data, f"{split}_records"), len(corpus[split])
        if wanted is not None and wanted < there:
            corpus[split] = corpus[split].select([row * there // wanted for row in range(wanted)])
    return corpus


def _new_and_replayed(train: Dataset, data: DataSettings) -> list[int]:
    """Where the records of the new batches stand, and those of the others that are replayed.

    What was learned before is forgotten where nothing of it is read again (Robins 1995, "Catastrophic forgetting,
    rehearsal and pseudorehearsal"). Each record is drawn by itself, so that a corpus that grows replays the same ones.
    """
    new, batches = set(data.new_batches), list(train["batch"])
    if unknown := sorted(new - set(batches)):
        raise CorpusError(f"{data.corpus}: no batch {', '.join(unknown)} among its training records (data.new_batches)")

    def replayed(identifier: str) -> bool:
        return random.Random(f"{data.replay_seed} {identifier}").random() < data.replay_share

    records = enumerate(zip(batches, train["id"], strict=True))
    return [row for row, (batch, identifier) in records if batch in new or replayed(identifier)]


def learned_records(data: DataSettings, augmentation: AugmentSettings, scratch: Path | None = None) -> DatasetDict:
    """What a run reads of the corpus: id, text and labels of each split, the augmented records at the end of train.

    :param scratch: as ``load_corpus`` takes it. With it, memory does not grow with the records.
    """
    return with_augmented(limit(load_corpus(data.corpus, scratch), data), augmentation, scratch)


def with_augmented(corpus: DatasetDict, augmentation: AugmentSettings, scratch: Path | None = None) -> DatasetDict:
    """id, text and labels of each split of a corpus, the augmented records at the end of train; see above."""
    from tocsin_training._datasets import concatenate_datasets

    # Words of other languages are for telling languages apart, not for mixing.
    own = array("q", (row for row, reason in enumerate(corpus["train"]["reason"]) if reason != FOREIGN))
    corpus = corpus.select_columns(list(_LEARNED))
    train = corpus["train"]
    made = _written(augment(Chosen(_Examples(train), own), augmentation), train.features, scratch)
    if len(made):
        corpus["train"] = concatenate_datasets([train, made])
    return corpus


class _Examples(Sequence[Example]):
    """Records where they lie in Arrow's columns, each read when it is asked for."""

    def __init__(self, rows: Dataset) -> None:
        parts = rows.with_format("arrow")[:].select(_LEARNED).to_batches()
        self._parts = [part.columns for part in parts]
        self._starts = array("q", accumulate((part.num_rows for part in parts), initial=0))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._starts, index) - 1
        identifier, text, labels = (column[index - self._starts[number]].as_py() for column in self._parts[number])
        return Example(identifier, text, tuple(labels))


def _written(examples: Iterable[Example], features: Features, scratch: Path | None) -> Dataset:
    """Examples as they come, put into a file and read from there."""
    from tocsin_training._datasets import ArrowWriter, Dataset

    with TemporaryDirectory(prefix="tocsin-made-", dir=scratch) as own:
        path = (scratch or Path(own)) / "made.arrow"
        with ArrowWriter(path=str(path), features=features) as writer:
            for example in examples:
                writer.write({"id": example.id, "text": example.text, "labels": list(example.labels)})
            writer.finalize()
        return Dataset.from_file(str(path), in_memory=scratch is None)


def count_pairs(records: Iterable[Record]) -> int:
    """Contrast pairs: two records of one scene, with different labels."""
    halves: dict[str, list[frozenset[str]]] = defaultdict(list)
    for record in records:
        if record.pair is not None:
            halves[record.pair].append(frozenset(record.labels))
    return sum(len(set(labels)) > 1 for labels in halves.values())


def label_matrix(labels: list[list[str]], taxonomy: Taxonomy) -> NDArray[np.bool_]:
    """Which labels each list holds, shape (records, labels), columns in the taxonomy's order.

    :raises TaxonomyError: a label is not in the taxonomy.
    """
    matrix = np.zeros((len(labels), len(taxonomy.labels)), dtype=np.bool_)
    for row, names in enumerate(labels):
        for name in names:
            matrix[row, taxonomy.index(name)] = True
    return matrix


def corpus_sha256(folder: Path) -> str:
    """Hash of what is learned and measured: every record's split, id, text and labels, in order.

    Annotations and other remarks may be added without making it another corpus.
    """
    digest = hashlib.sha256()
    for path in _all_files(folder):
        with path.open(encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                learned = [path.parent.name, record["id"], record["text"], record["labels"]]
                digest.update(json.dumps(learned).encode() + b"\n")
    return digest.hexdigest()


def files_sha256(folder: Path) -> str:
    """Hash of all that a corpus's files hold, remarks and the report of an import included; quicker than the above."""
    digest = hashlib.sha256()
    report = folder / IMPORT_REPORT
    for path in (*_all_files(folder), *([report] if report.is_file() else [])):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _all_files(folder: Path) -> Iterator[Path]:
    for paths in corpus_files(folder).values():
        yield from paths
