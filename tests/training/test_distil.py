from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from rich.console import Console

from tocsin_training import distil
from tocsin_training.base import WEIGHTS
from tocsin_training.config import Settings, to_toml
from tocsin_training.corpus import SPLITS, learned_records
from tocsin_training.distil import mean_of, read_teacher, train_teachers, write_teacher
from tocsin_training.errors import BaseModelError
from tocsin_training.model import EventModel
from tocsin_training.run import Run

TEXTS = ["A storm over the hill.", "Apples and wheat at the market, and nothing else was said there."]


def test_teachers_answer_together_by_the_mean_of_their_logits(save_model: Callable[..., Path], tmp_path: Path) -> None:
    models = [save_model(tmp_path / str(seed), seed) for seed in range(3)]
    alone = [mean_of([model], 3, max_tokens=32)(TEXTS) for model in models]
    together = mean_of(models, 3, max_tokens=32)(TEXTS)
    assert together.shape == (2, 3)
    assert np.allclose(together, np.mean(alone, axis=0), atol=1e-5)
    assert not np.allclose(alone[0], alone[1])


def test_a_teacher_of_other_labels_or_none_at_all_is_refused(save_model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="answers with 3 labels; the taxonomy has 4"):
        mean_of([save_model(tmp_path / "three", 0)], 4, max_tokens=32)(TEXTS)
    with pytest.raises(BaseModelError, match="none: no fine-tuned model"):
        mean_of([tmp_path / "none"], 4, max_tokens=32)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["distil", *map(str, arguments)])
    distil.main()


def test_the_command_writes_what_several_teachers_answer_together(
    trained_run: Run, save_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, out = save_model(tmp_path / "other", 1, labels=4), tmp_path / "teacher.parquet"
    run_main(monkeypatch, trained_run.config, trained_run.config, out, "--model", trained_run.model, other)
    settings = trained_run.settings()
    learned = learned_records(settings.data, settings.augment)
    ids, texts = ([value for split in SPLITS for value in learned[split][column]] for column in ("id", "text"))
    expected = mean_of([trained_run.model, other], 4, max_tokens=32)(texts)
    assert np.allclose(read_teacher(out, ids, texts, 4), expected, atol=1e-2)


def test_one_teacher_is_trained_for_each_seed(
    settings: Settings, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def pretend(stage: str, recipe: Settings, name: str, console: Console, *, without: Collection[str]) -> Run:
        seeds.append(recipe.finetune.seed)
        return Run(tmp_path / str(recipe.finetune.seed))

    monkeypatch.setattr(distil, "run_until", pretend)
    assert train_teachers(settings, [3, 5], console) == [tmp_path / "3" / "model", tmp_path / "5" / "model"]
    assert seeds == [3, 5]


def test_a_teacher_that_goes_on_is_the_mean_of_before_and_after(
    trained_run: Run, settings: Settings, console: Console, tmp_path: Path
) -> None:
    """It starts from the trained weights, so that one short epoch leaves it better than an epoch from nothing."""
    start = settings.model.model_copy(update={"start": trained_run.model})
    short = settings.finetune.model_copy(update={"epochs": 1, "learning_rate": 1e-4})
    more = settings.data.model_copy(update={"new_batches": ("two",), "replay_share": 0.25})
    recipe = settings.model_copy(update={"runs": tmp_path, "model": start, "finetune": short, "data": more})
    (mean,) = train_teachers(recipe, [1], console)
    run = Run(mean.parent)
    assert 160 < run.figures()["prepare"]["records"]["train"] < 160 + 80
    assert run.figures()["finetune"]["macro_f1"] > trained_run.figures()["finetune"]["macro_f1"] - 0.05
    before, after, found = (EventModel.load(each).head.weight for each in (trained_run.model, run.model, mean))
    assert not np.allclose(before.detach(), after.detach(), atol=1e-7)
    assert np.allclose(found.detach(), ((before + after) / 2).detach(), atol=1e-6)

    trained = (run.model / WEIGHTS).stat().st_mtime_ns
    assert train_teachers(recipe, [1], console) == [mean], "a call that was stopped after the training"
    assert (run.model / WEIGHTS).stat().st_mtime_ns == trained


def test_answers_that_could_not_be_written_leave_the_former_ones(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(table: object, file: BinaryIO, **_: object) -> None:
        file.write(b"half")
        raise OSError("no space left")

    out = tmp_path / "teacher.parquet"
    out.write_bytes(b"former")
    monkeypatch.setattr("pyarrow.parquet.write_table", stopped)
    with pytest.raises(OSError, match="no space left"):
        write_teacher(trained_run.settings(), [trained_run.model], out, max_tokens=32)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("teacher.parquet", b"former")]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["none.toml", "{recipe}", "out.parquet"], "none.toml: there is no such recipe"),
        (["{recipe}", "none.toml", "out.parquet"], "none.toml: there is no such recipe"),
        (["{recipe}", "{recipe}", "none/out.parquet"], "none/out.parquet: cannot be written"),
        (["{recipe}", "{recipe}", "out.parquet", "--model", "none"], "none: no fine-tuned model"),
        (["{recipe}", "{recipe}", "out.parquet", "--start", "none"], "none: no fine-tuned model"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_before_anything_is_trained(
    arguments: list[str], complaint: str, settings: Settings, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(settings.model_copy(update={"runs": tmp_path / "runs"})))
    command = [each.format(recipe=recipe) for each in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "tocsin_training.distil", *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert complaint in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
