"""A teacher's answers to a student's records, for the student to learn from (``teacher_logits`` in a recipe).

    python -m tocsin_training.distil training/teacher.toml training/train.toml datasets/teacher.parquet [--model FOLDER]

Trains the teacher, unless it is given, and writes its logits for every record that the student's recipe reads.
Records are matched by id and text, so a student can be trained without the teacher as long as the corpus keeps its
texts, and an answer never goes to another text: augmented records are numbered, whatever is in them.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tocsin_training.config import Settings, load_settings
from tocsin_training.errors import ConfigError


def write_teacher(student: Settings, model: Path, out: Path, *, max_tokens: int) -> None:
    """Write a Parquet file with the columns id, text_hash (uint64) and logits (float16) for every record.

    Students learn from those of the training split; the others say what the teacher itself is worth.
    """
    import pyarrow as pa
    import pyarrow.parquet
    import torch

    from tocsin_training.corpus import SPLITS, learned_records
    from tocsin_training.device import multiplies_bf16
    from tocsin_training.model import EventModel, load_tokenizer, predict_logits

    corpus = learned_records(student.data, student.augment)
    ids, texts = ([value for split in SPLITS for value in corpus[split][column]] for column in ("id", "text"))
    tokenizer = load_tokenizer(str(model))
    with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
        logits = predict_logits(EventModel.load(model), tokenizer, texts, max_tokens=max_tokens)
    columns = pa.table(
        {
            "id": ids,
            "text_hash": pa.array(map(text_hash, texts), pa.uint64()),
            "logits": list(logits.numpy().astype(np.float16)),
        }
    )
    # Two decimals of a logit are all a student can use: half floats, and their like bytes beside each other, keep the
    # file small.
    encodings = {"id": "DELTA_BYTE_ARRAY", "logits.list.element": "BYTE_STREAM_SPLIT"}
    pyarrow.parquet.write_table(columns, out, compression="zstd", use_dictionary=False, column_encoding=encodings)


def text_hash(text: str) -> int:
    """Eight bytes of a text's SHA-256: enough to tell the texts that ever went by one id."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def read_teacher(
    path: Path, ids: Sequence[str], texts: Sequence[str], labels: int, *, missing_allowed: bool = False
) -> NDArray[np.float32]:
    """A teacher's logits for records, in their order, shape (records, labels).

    :param texts: of each record; one that the teacher read under this id with another text is lacking, too.
    :param missing_allowed: records that the teacher has not read get NaN instead of a refusal.
    :raises ConfigError: the file cannot be read, lacks a record, or is for other labels.
    """
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["id", "text_hash", "logits"])
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot be read as a teacher's logits (id, text_hash, logits); "
            f"`make teacher` writes it anew: {error}"
        ) from error
    records = zip(table["id"].to_pylist(), table["text_hash"].to_pylist(), strict=True)
    read = {record: row for row, record in enumerate(records)}
    asked = zip(ids, map(text_hash, texts), strict=True)
    rows = np.fromiter((read.get(record, -1) for record in asked), dtype=np.int64)
    missing = np.flatnonzero(rows < 0)
    if missing.size and not missing_allowed:
        raise ConfigError(
            f"{path}: lacks {missing.size} of {rows.size} records or has read another text under their ids, "
            f"{ids[int(missing[0])]!r} the first of them. It is made for one corpus and one set of augmented "
            "records: in [finetune] of the recipe, leave teacher_logits out, or say "
            'records_without_teacher = "labels alone"; `make teacher` writes such a file anew.'
        )
    logits = table["logits"].combine_chunks()
    if (width := len(logits[0]) if len(logits) else 0) != labels:
        raise ConfigError(f"{path}: has {width} logits a record; the taxonomy has {labels} labels")
    known = logits.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, labels)
    # The last row, which those that are missing point at.
    return np.concatenate([known, np.full((1, labels), np.nan, dtype=np.float32)])[rows]


def main() -> None:
    """Train a teacher and write its logits."""
    from tocsin_training.pipeline import train

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", type=Path, help="the teacher's")
    parser.add_argument("student", type=Path, help="the recipe of the student that is to learn from it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="a teacher that is already trained: the model/ folder of its run")
    arguments = parser.parse_args()
    settings = load_settings(arguments.recipe)
    model = arguments.model or train(settings, "teacher", Console(stderr=True), until="finetune").model
    write_teacher(load_settings(arguments.student), model, arguments.out, max_tokens=settings.model.max_tokens)


if __name__ == "__main__":
    main()
