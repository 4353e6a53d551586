"""Stage 1: check the corpus and turn its texts into token ids and its labels into zeros and ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.taxonomy import Taxonomy
from tocsin_training.config import AugmentSettings, DataSettings
from tocsin_training.corpus import SPLITS, corpus_sha256, label_matrix, learned_records, limit, load_corpus
from tocsin_training.errors import CorpusError
from tocsin_training.importing.report import ImportReport
from tocsin_training.model import load_tokenizer
from tocsin_training.run import Run
from tocsin_training.validate import Fault, check_corpus

if TYPE_CHECKING:
    from tocsin_training._datasets import DatasetDict

_log = logging.getLogger(__name__)
_FAULTS_SHOWN = 10


def prepare(
    data: DataSettings, *, tokenizer_path: str, max_tokens: int, augmentation: AugmentSettings | None = None
) -> DatasetDict:
    """Tokenised splits with the columns id, text, input_ids, attention_mask, length and labels.

    :raises CorpusError: the corpus breaks one of its rules; the message lists the first few.
    """
    taxonomy = Taxonomy.load(data.taxonomy)
    _check(data.corpus, taxonomy)
    tokenizer = load_tokenizer(tokenizer_path)

    def encode(rows: dict[str, list[Any]]) -> dict[str, Any]:
        tokens = tokenizer(rows["text"], truncation=True, max_length=max_tokens, return_token_type_ids=False)
        lengths = [len(ids) for ids in tokens["input_ids"]]
        # Plain lists of floats: the column's type is then inferred, and is float32 when it is read as tensors.
        labels = label_matrix(rows["labels"], taxonomy).astype(np.float32).tolist()
        return {**tokens, "length": lengths, "targets": labels}

    records = learned_records(data, augmentation or AugmentSettings())
    return records.map(encode, batched=True, remove_columns=["labels"]).rename_column("targets", "labels")


def _check(folder: Path, taxonomy: Taxonomy) -> None:
    """An imported corpus was checked when it was made; it must be what was made then."""
    if (report := ImportReport.of(folder)) is None:
        _refuse(check_corpus(folder, taxonomy), folder)
    elif report.sha256 != corpus_sha256(folder):
        raise CorpusError(f"{folder}: was changed after it was imported; delete the folder and import the files again")


def _refuse(faults: list[Fault], folder: Path) -> None:
    if faults:
        shown = "\n".join(map(str, faults[:_FAULTS_SHOWN]))
        raise CorpusError(f"{folder}: {len(faults)} faults; `tocsin corpus check` lists all. The first:\n{shown}")


def main(run: Run, tokenizer_path: str) -> None:
    """Write the prepared splits into the run."""
    settings = run.settings()
    prepared = prepare(
        settings.data,
        tokenizer_path=tokenizer_path,
        max_tokens=settings.model.max_tokens,
        augmentation=settings.augment,
    )
    prepared.save_to_disk(run.prepared)
    corpus = limit(load_corpus(settings.data.corpus), settings.data)
    records = {split: len(corpus[split]) for split in SPLITS}
    augmented = len(prepared["train"]) - records["train"]
    at_limit = sum(length >= settings.model.max_tokens for split in SPLITS for length in prepared[split]["length"])
    run.record(
        "prepare",
        {
            "corpus_sha256": corpus_sha256(settings.data.corpus),
            "labels": Taxonomy.load(settings.data.taxonomy).names,
            "records": records,
            "augmented": augmented,
            "texts_filling_the_window": at_limit,
        },
    )
    _log.info("prepared %s records and %d made of them, %d texts fill the window", records, augmented, at_limit)
