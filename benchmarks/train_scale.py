"""Training on as many rows as ACLED has: what preparing and learning take, and what 600,000 rows would.

    python benchmarks/train_scale.py [--rows 40000] [--save]

Rows are made up in ACLED's layout (prepare.py) and go the way of `tocsin train --data`, each part in a process of its
own: import, preparing, preparing a second time, and the estimate before training, which times steps of the real model,
with either preset and on a GPU, too, where there is one. No model is trained: what these texts say is nothing, and how
fast they are read does not hang on it. The larger encoder has random weights, for the same reason.

The projection multiplies. Memory is measured on a quarter of the rows, too, and what the others add is what more would
add; it is without pages of files, which the system takes back when it needs them. `--save` writes the table, with date
and machine, into docs/retraining.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pages import DOCS, publish
from prepare import write_export
from speed import CORES, ROOT, cpu_name, own_memory, peak_memory

from tocsin.taxonomy import Taxonomy
from tocsin_training.config import FinetuneSettings, Settings, load_settings, to_toml
from tocsin_training.importing.cli import import_for, recipe_for
from tocsin_training.importing.options import ImportOptions
from tocsin_training.schedule import Schedule

PAGE = DOCS / "retraining.md"
_PROGRAM = "benchmarks/train_scale.py"
FULL = 600_000
"""Rows of ACLED as the literature has it."""
_RECIPE = ROOT / "training" / "train.toml"
_OPTIONS = ImportOptions(label_errors=False)
_PARTS = 4
_HEADS = ("what", "measured", "memory", f"{FULL:,} rows", "memory")

Row = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Stage:
    """One of the stages before learning, on some rows."""

    rows: int
    seconds: float
    memory_bytes: int

    @property
    def rows_per_second(self) -> float:  # noqa: D102 - the name says it
        return self.rows / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--save", action="store_true", help="write the table into docs/retraining.md")
    parser.add_argument("--run", nargs=2, metavar=("RECIPE", "STAGE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_stages(Path(arguments.run[0]), arguments.run[1])
        return

    def table() -> str:
        with tempfile.TemporaryDirectory() as scratch:
            return as_table(list(measured(Path(scratch), arguments.rows)), arguments.rows)

    publish(table, PAGE, _PROGRAM, save=arguments.save)


def measured(scratch: Path, rows: int) -> Iterator[Row]:
    part, _ = prepared(scratch / "part", rows // _PARTS)
    stages, recipe = prepared(scratch / "whole", rows)
    for name in stages:
        yield stage_row(name, part[name], stages[name])
    for title, settings in variants(recipe, scratch):
        found = figures(settings, scratch, "estimate")
        yield learning_row(title, rows, settings.finetune, found["prepare"], found["estimate"])


def prepared(folder: Path, rows: int) -> tuple[dict[str, Stage], Settings]:
    """Make so many rows, import and prepare them; what each stage took, and the recipe that they gave."""
    folder.mkdir()
    source, recipe = folder / "export.csv", folder / "recipe.toml"
    settings = load_settings(_RECIPE, preset="small").model_copy(update={"runs": folder / "runs"})
    recipe.write_text(to_toml(settings), encoding="utf-8")
    write_export(source, rows, Taxonomy.load(settings.data.taxonomy))
    begun = time.perf_counter()
    command = [sys.executable, "-m", "tocsin.cli.main", "data", str(source), "--config", str(recipe)]
    memory = peak_memory([*command, "--no-label-errors"], of=own_memory)
    stages = {"import": Stage(rows, time.perf_counter() - begun, memory)}
    imported, taxonomy = import_for(settings, [source], _OPTIONS, None)
    if imported.folder is None or imported.fresh:
        raise SystemExit("the import that was measured is not the one that is trained on")
    own = recipe_for(settings, imported.folder, imported.report, _OPTIONS, taxonomy)
    for name in ("prepare", "prepare again"):
        memory, found = run_apart(own, folder, "prepare")
        stages[name] = Stage(rows, 60 * found["minutes"]["prepare"], memory)
    return stages, own


def variants(recipe: Settings, scratch: Path) -> Iterator[tuple[str, Settings]]:
    """The recipe with either preset, on the CPU and, where there is one, on a GPU."""
    import torch

    for preset in ("small", "base"):
        chosen = load_settings(_RECIPE, preset=preset)
        base = chosen.model.base if preset == "small" else str(random_mpnet(scratch / "mpnet"))
        model = chosen.model.model_copy(update={"base": base})
        for device in ("cpu", "auto") if torch.cuda.is_available() else ("cpu",):
            finetune = chosen.finetune.model_copy(update={"device": device, "threads": CORES, "teacher_logits": None})
            yield f"fine-tune, `{preset}`", recipe.model_copy(update={"model": model, "finetune": finetune})


def random_mpnet(folder: Path) -> Path:
    """An encoder of MPNet-base's shape with MiniLM's tokenizer: as slow as the real one, and no gigabyte to fetch."""
    from transformers import MPNetConfig, MPNetModel

    from tocsin_training.base import minilm_folder
    from tocsin_training.model import load_tokenizer

    tokenizer = load_tokenizer(str(minilm_folder()))
    MPNetModel(MPNetConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_apart(settings: Settings, folder: Path, stage: str) -> tuple[int, dict[str, Any]]:
    """Begin a run in a process of its own; the memory that it took, and its figures."""
    recipe = folder / "own.toml"
    recipe.write_text(to_toml(settings), encoding="utf-8")
    before = set(settings.runs.glob("*/metrics.json"))
    memory = peak_memory([sys.executable, __file__, "--run", str(recipe), stage], of=own_memory)
    (metrics,) = set(settings.runs.glob("*/metrics.json")) - before
    found: dict[str, Any] = json.loads(metrics.read_text(encoding="utf-8"))
    return memory, found


def figures(settings: Settings, folder: Path, stage: str) -> dict[str, Any]:
    return run_apart(settings, folder, stage)[1]


def run_stages(recipe: Path, stage: str) -> None:
    """The stages of a new run up to one of them."""
    from rich.console import Console

    from tocsin_training.pipeline import train

    train(load_settings(recipe), "scale", Console(stderr=True), until=stage)


def stage_row(name: str, part: Stage, whole: Stage) -> Row:
    """What a stage takes, and would take for all rows."""
    added = max(0, whole.memory_bytes - part.memory_bytes) / (whole.rows - part.rows)
    memory = whole.memory_bytes + added * max(0, FULL - whole.rows)
    seconds = FULL / whole.rows_per_second
    measured = f"{whole.rows_per_second:,.0f} rows/s"
    return (name, measured, gigabytes(whole.memory_bytes), duration(seconds), gigabytes(memory))


def learning_row(
    title: str, rows: int, options: FinetuneSettings, prepare: dict[str, Any], estimate: dict[str, Any]
) -> Row:
    """What learning takes, by its own estimate, and would take for all rows."""
    texts, validation = projected(rows, prepare)
    schedule = Schedule.of(options, texts)
    seconds = learning_seconds(schedule, validation, estimate)
    memory = gigabytes(estimate["memory_bytes"])
    if estimate["gpu_memory_bytes"] is not None:
        memory += f", {gigabytes(estimate['gpu_memory_bytes'])} on the GPU"
    read = f"{estimate['texts_per_second']:,.0f} texts/s"
    return (f"{title}, {estimate['device']}", read, memory, f"{duration(seconds)}: {schedule}", memory)


def projected(rows: int, prepare: dict[str, Any]) -> tuple[int, int]:
    """Texts to learn from, those made of others included, and texts of validation, were there all rows."""
    records = prepare["records"]
    learned = records["train"] + prepare["augmented"]
    return round(learned * FULL / rows), round(records["validation"] * FULL / rows)


def learning_seconds(schedule: Schedule, validation: int, estimate: dict[str, Any]) -> float:
    """Seconds of all steps and all evaluations."""
    steps = schedule.steps * schedule.texts_a_step / estimate["texts_per_second"]
    return float(steps + schedule.evaluations * validation / estimate["validation_texts_per_second"])


def duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def as_table(rows: Sequence[Row], measured: int) -> str:
    """Markdown, with the date and the machine."""
    heads = (_HEADS[0], f"{_HEADS[1]} on {measured:,} rows", *_HEADS[2:])
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, ("---",) * len(heads), *rows)]
    gpu = any("on the GPU" in row[2] for row in rows)
    said = "" if gpu else " This machine has no GPU, so none was measured."
    return "\n".join([*lines, "", f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {CORES} cores.{said}"])


if __name__ == "__main__":
    main()
