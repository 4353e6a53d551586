"""A teacher's answers to a student's records, for the student to learn from (``teacher_logits`` in a recipe).

    python -m tocsin_training.distil training/teacher.toml training/train.toml datasets/teacher.parquet

Trains the teacher, unless it is given (``--model``), and writes its logits for every record that the student's recipe
reads. A training that was stopped goes on, and one that is done is not made again as long as recipe and corpus are the
same. Several teachers answer by the mean of their logits: several of ``--model``, or one training for each of
``--seeds``. ``--start MODEL`` goes on from a teacher that there is, as with the new batches of
``training/teacher-more.toml``, and the mean of the weights before and after is the teacher.

Records are matched by id and text, so a student can be trained without the teacher as long as the corpus keeps its
texts, and an answer never goes to another text: augmented records are numbered, whatever is in them.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tocsin.disk import atomic
from tocsin.errors import UsageError
from tocsin.taxonomy import Taxonomy
from tocsin_training.base import head_of
from tocsin_training.config import Settings, load_settings
from tocsin_training.errors import BaseModelError, ConfigError
from tocsin_training.experiment import run_for_people, run_until, with_seed

Answer = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to logits of shape (texts, labels)."""


def mean_of(models: Sequence[Path], labels: int, *, max_tokens: int) -> Answer:
    """How several teachers answer together: by the mean of their logits. One is in memory at a time.

    :param models: the model/ folders of runs.
    :param labels: so many each of them must have.
    :raises BaseModelError: there is no model, or it was trained for other labels; the latter when it is asked.
    """
    for model in models:
        head_of(model)

    def answer(texts: Sequence[str]) -> NDArray[np.float32]:
        logits = np.zeros((len(texts), labels), dtype=np.float32)
        for model in models:
            logits += _answers(model, texts, labels, max_tokens) / len(models)
        return logits

    return answer


def _answers(folder: Path, texts: Sequence[str], labels: int, max_tokens: int) -> NDArray[np.float32]:
    import torch

    from tocsin_training.device import multiplies_bf16
    from tocsin_training.model import EventModel, load_tokenizer, predict_logits

    model, tokenizer = EventModel.load(folder), load_tokenizer(str(folder))
    if model.head.out_features != labels:
        raise BaseModelError(f"{folder}: answers with {model.head.out_features} labels; the taxonomy has {labels}")
    with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
        logits: NDArray[np.float32] = predict_logits(model, tokenizer, list(texts), max_tokens=max_tokens).numpy()
    return logits


def write_teacher(student: Settings, models: Sequence[Path], out: Path, *, max_tokens: int) -> None:
    """Write a Parquet file with the columns id, text_hash (uint64) and logits (float16) for every record.

    Students learn from those of the training split; the others say what the teacher itself is worth.

    :param models: as ``mean_of`` takes them.
    """
    import pyarrow as pa
    import pyarrow.parquet

    from tocsin_training.corpus import SPLITS, learned_records

    corpus = learned_records(student.data, student.augment)
    ids, texts = ([value for split in SPLITS for value in corpus[split][column]] for column in ("id", "text"))
    labels = len(Taxonomy.load(student.data.taxonomy).labels)
    logits = mean_of(models, labels, max_tokens=max_tokens)(texts)
    columns = pa.table(
        {
            "id": ids,
            "text_hash": pa.array(map(text_hash, texts), pa.uint64()),
            "logits": list(logits.astype(np.float16)),
        }
    )
    # Two decimals of a logit are all a student can use: half floats, and their like bytes beside each other, keep the
    # file small.
    encodings = {"id": "DELTA_BYTE_ARRAY", "logits.list.element": "BYTE_STREAM_SPLIT"}
    with atomic(out) as file:
        pyarrow.parquet.write_table(columns, file, compression="zstd", use_dictionary=False, column_encoding=encodings)


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


def train_teachers(settings: Settings, seeds: Sequence[int], console: Console) -> list[Path]:
    """One teacher for each seed: the folder of its model or, where the recipe goes on from one, of the mean of both."""
    from tocsin_training.soup import average

    models = []
    for seed in seeds:
        run = run_until("finetune", with_seed(settings, seed), "teacher", console, without=())
        models.append(run.model)
        if settings.model.start is not None:
            mean = run.model.with_name("mean")
            # Of a call before, and perhaps half of one.
            shutil.rmtree(mean, ignore_errors=True)
            models[-1] = average([settings.model.start, run.model], mean)
        console.print(f"teacher: {models[-1]}", markup=False, soft_wrap=True)
    return models


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", type=Path, help="the teacher's")
    parser.add_argument("student", type=Path, help="the recipe of the student that is to learn from it")
    parser.add_argument("out", type=Path, help="Parquet file to write")
    there = parser.add_mutually_exclusive_group()
    there.add_argument(
        "--model",
        type=Path,
        nargs="+",
        metavar="MODEL",
        help="teachers that are already trained: the model/ folders of their runs",
    )
    there.add_argument("--seeds", type=int, nargs="+", help="train one teacher with each; by default the recipe's seed")
    parser.add_argument("--start", type=Path, metavar="MODEL", help="train a teacher further: the recipe's model.start")
    return parser.parse_args()


def main() -> None:
    """Train teachers, or take trained ones, and write what they answer."""
    arguments = _arguments()
    # All that can be wrong is found before hours of training.
    settings, student = load_settings(arguments.recipe), load_settings(arguments.student)
    if not arguments.out.parent.is_dir() or arguments.out.is_dir():
        raise UsageError(f"{arguments.out}: cannot be written; name a file in a folder that there is")
    if arguments.start is not None:
        if arguments.model:
            raise UsageError("--model is trained already and --start is to be trained; give one of them")
        head_of(arguments.start)
        model = settings.model.model_copy(update={"start": arguments.start.resolve()})
        settings = settings.model_copy(update={"model": model})
    for model in arguments.model or ():
        head_of(model)
    models = arguments.model or train_teachers(
        settings, arguments.seeds or [settings.finetune.seed], Console(stderr=True)
    )
    write_teacher(student, models, arguments.out, max_tokens=settings.model.max_tokens)


if __name__ == "__main__":
    run_for_people(main)
