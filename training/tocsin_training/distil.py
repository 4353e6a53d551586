"""A teacher's answers to the training records, for a student to learn from (``teacher_logits`` in a recipe).

    python -m tocsin_training.distil RUN OUT.parquet

Both runs must have been made from the same corpus and taxonomy; records are matched by id.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tocsin_training.errors import ConfigError
from tocsin_training.run import Run

if TYPE_CHECKING:
    from tocsin_training._datasets import Dataset


def teacher_logits(run: Run) -> Dataset:
    """Columns id and logits for the run's training records, by the run's own PyTorch model."""
    from tocsin_training._datasets import Dataset, load_from_disk
    from tocsin_training.model import EventModel, load_tokenizer, predict_logits

    train = load_from_disk(run.prepared)["train"]
    tokenizer = load_tokenizer(str(run.model))
    max_tokens = run.settings().model.max_tokens
    logits = predict_logits(EventModel.load(run.model), tokenizer, list(train["text"]), max_tokens=max_tokens)
    return Dataset.from_dict({"id": list(train["id"]), "logits": logits.tolist()})


def read_teacher(path: Path, ids: list[str], labels: int) -> NDArray[np.float32]:
    """A teacher's logits in the order of ``ids``, shape (records, labels).

    :raises ConfigError: the file cannot be read, lacks a record, or is for other labels.
    """
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["id", "logits"]).to_pydict()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a teacher's logits: {error}") from error
    by_id = dict(zip(table["id"], table["logits"], strict=True))
    if missing := [identifier for identifier in ids if identifier not in by_id]:
        raise ConfigError(f"{path}: lacks {len(missing)} training records, {missing[0]!r} the first of them")
    logits = np.array([by_id[identifier] for identifier in ids], dtype=np.float32)
    if logits.shape[1:] != (labels,):
        raise ConfigError(f"{path}: has {logits.shape[-1]} logits a record; the taxonomy has {labels} labels")
    return logits


def main() -> None:
    """Write a run's logits to a Parquet file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    teacher_logits(Run.open(arguments.run)).to_parquet(arguments.out)


if __name__ == "__main__":
    main()
