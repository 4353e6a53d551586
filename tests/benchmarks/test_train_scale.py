"""What is made of the figures of training on many rows, and that the table gets into its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from train_scale import FULL, Stage, as_table, learning_row, learning_seconds, projected, stage_row

from tocsin_training.config import FinetuneSettings, load_settings
from tocsin_training.schedule import Schedule

RECIPE = Path(__file__).parents[2] / "training" / "train.toml"
PREPARE: dict[str, Any] = {"records": {"train": 8_000, "validation": 1_000, "test": 1_000}, "augmented": 2_800}
ESTIMATE: dict[str, Any] = {
    "texts_per_second": 100.0,
    "validation_texts_per_second": 500.0,
    "memory_bytes": 2_000_000_000,
    "gpu_memory_bytes": None,
    "device": "CPU, 2 threads, fp32",
}


def test_texts_made_of_others_are_learned_from_too() -> None:
    assert projected(10_000, PREPARE) == (648_000, 60_000)


def test_learning_takes_its_steps_and_its_evaluations() -> None:
    schedule = Schedule.of(FinetuneSettings(epochs=2, batch_size=10), 1_000)
    assert learning_seconds(schedule, 500, ESTIMATE) == pytest.approx(2 * 1_000 / 100 + 2 * 500 / 500)


def test_memory_that_does_not_grow_is_not_projected_to_grow_and_memory_that_does_is() -> None:
    part, same, more = (Stage(rows, 2.0, size) for rows, size in ((1_000, 10**9), (4_000, 10**9), (4_000, 10**9 + 300)))
    assert stage_row("prepare", part, same)[1:] == ("2,000 rows/s", "1.0 GB", "5.0 minutes", "1.0 GB")
    grown = Stage(4_000, 2.0, 10**9 + 3_000 * 10_000)
    assert stage_row("prepare", part, grown)[-1] == "7.0 GB"
    assert stage_row("prepare", part, more)[-1] == "1.0 GB"


def test_the_shipped_recipe_reads_so_many_rows_once() -> None:
    row = learning_row("fine-tune", 10_000, load_settings(RECIPE).finetune, PREPARE, ESTIMATE)
    assert "1 epoch of 648,000 texts (5 would be more steps than finetune.most_steps)" in row[3]
    assert row[3].startswith("2.2 hours")


def test_a_table_without_a_gpu_says_so() -> None:
    row = ("a", "b", "1.0 GB", "c", "d")
    assert "no GPU" in as_table([row], 1_000)
    assert "no GPU" not in as_table([("a", "b", "1.0 GB, 2.0 GB on the GPU", "c", "d")], 1_000)
    assert f"{FULL:,} rows" in as_table([row], 1_000)
