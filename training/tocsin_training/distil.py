"""A teacher's answers to a student's records, for the student to learn from (``teacher_logits`` in a recipe).

    python -m tocsin_training.distil training/teacher.toml training/train.toml datasets/teacher.parquet [--model FOLDER]

Trains the teacher, unless it is given, and writes its logits for every record that the student's recipe reads.
Records are matched by id, so a student can be trained without the teacher as long as the corpus keeps its texts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tocsin_training.config import Settings, load_settings
from tocsin_training.errors import ConfigError


def write_teacher(student: Settings, model: Path, out: Path, *, max_tokens: int) -> None:
    """Write a Parquet file with the columns id and logits (float16) for every record.

    Students learn from those of the training split; the others say what the teacher itself is worth.
    """
    import pyarrow as pa
    import pyarrow.parquet
    import torch

    from tocsin_training.corpus import SPLITS, learned_records
    from tocsin_training.finetune import multiplies_bf16
    from tocsin_training.model import EventModel, load_tokenizer, predict_logits

    corpus = learned_records(student.data, student.augment)
    ids, texts = ([value for split in SPLITS for value in corpus[split][column]] for column in ("id", "text"))
    tokenizer = load_tokenizer(str(model))
    with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
        logits = predict_logits(EventModel.load(model), tokenizer, texts, max_tokens=max_tokens)
    # Two decimals of a logit are all a student can use; half floats keep the file small.
    columns = pa.table({"id": ids, "logits": list(logits.numpy().astype(np.float16))})
    pyarrow.parquet.write_table(columns, out, compression="zstd")


def read_teacher(path: Path, ids: list[str], labels: int, *, missing_allowed: bool = False) -> NDArray[np.float32]:
    """A teacher's logits in the order of ``ids``, shape (records, labels).

    :param missing_allowed: records that the teacher has not read get NaN instead of a refusal.
    :raises ConfigError: the file cannot be read, lacks a record, or is for other labels.
    """
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["id", "logits"]).to_pydict()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a teacher's logits: {error}") from error
    by_id = dict(zip(table["id"], table["logits"], strict=True))
    if (missing := [identifier for identifier in ids if identifier not in by_id]) and not missing_allowed:
        raise ConfigError(f"{path}: lacks {len(missing)} training records, {missing[0]!r} the first of them")
    if (width := len(next(iter(by_id.values()), ()))) != labels:
        raise ConfigError(f"{path}: has {width} logits a record; the taxonomy has {labels} labels")
    unread = [float("nan")] * labels
    logits = np.array([by_id.get(identifier, unread) for identifier in ids], dtype=np.float32)
    return logits


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
