"""How long fine-tuning will take and how much memory: measured on a few of its own steps, before the many.

The steps are real ones, of the recipe's model on batches of short, middling and long texts; the model is then thrown
away. What is not in it: other work on the machine, and a processor that slows down when it gets hot.
"""

from __future__ import annotations

import logging
import math
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from tocsin_training.base import BaseModel
from tocsin_training.config import Settings
from tocsin_training.device import announce, describe, uses_gpu, wait_for_gpu
from tocsin_training.finetune import EpochProgress, EventTrainer, StepTimer, build_trainer
from tocsin_training.parallel import processes_together, side_by_side
from tocsin_training.run import Run
from tocsin_training.schedule import Schedule

if TYPE_CHECKING:
    from tocsin_training._datasets import Dataset, DatasetDict

_log = logging.getLogger(__name__)
Rows = NDArray[np.intp]
_QUANTILES = (1 / 6, 3 / 6, 5 / 6)


@dataclass(frozen=True)
class Estimate:
    """Of one fine-tuning; a search takes it once for every trial."""

    steps: int
    schedule: str
    """Epochs and texts in words, and why more epochs than the recipe's."""
    minutes: float
    texts_per_second: float
    """Learned from, evaluations not counted."""
    memory_bytes: int
    """Greatest resident memory of this process, times the processes that learn together."""
    memory_free_bytes: int
    """What the machine could give it, what it has already included."""
    gpu_memory_bytes: int | None
    """Greatest sum of what lay on one GPU; none: a CPU learns."""
    gpu_memory_free_bytes: int | None
    """What that GPU could give it, what it has already included."""
    device: str
    validation_texts_per_second: float
    parameters: int
    trained_parameters: int

    @property
    def fits(self) -> bool:
        """Whether the memory is there."""
        return self.memory_bytes <= self.memory_free_bytes and self.fits_gpu

    @property
    def fits_gpu(self) -> bool:
        """Whether the GPU's is; where a CPU learns, it is."""
        return (self.gpu_memory_bytes or 0) <= (self.gpu_memory_free_bytes or 0)

    def __str__(self) -> str:
        gpu = ""
        if self.gpu_memory_bytes is not None and self.gpu_memory_free_bytes is not None:
            found, free = self.gpu_memory_bytes / 1e9, self.gpu_memory_free_bytes / 1e9
            gpu = f"{found:.1f} GB on the GPU (free: {free:.1f} GB), "
        return (
            f"about {self.minutes:.1f} minutes for {self.steps:,} steps at {self.texts_per_second:.0f} texts a second, "
            f"{self.schedule}; "
            f"{self.memory_bytes / 1e9:.1f} GB of memory (free: {self.memory_free_bytes / 1e9:.1f} GB), {gpu}"
            f"{self.parameters / 1e6:.1f} million parameters"
        )


def estimate(prepared: DatasetDict, base: BaseModel, settings: Settings) -> Estimate:
    """Time some steps and multiply."""
    options, validation = settings.finetune, prepared["validation"]
    schedule = Schedule.of(options, len(prepared["train"]))
    on_gpu = uses_gpu(options)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    timer = StepTimer()
    # Never the run's own checkpoints: of a training that was stopped they are all there is.
    with TemporaryDirectory() as scratch:
        trainer = _short_trainer(prepared, base, settings, Path(scratch))
        trainer.add_callback(timer)
        trainer.train()
    few = cast("Dataset", trainer.eval_dataset).select(range(min(4 * options.batch_size, len(validation))))
    begun = time.perf_counter()
    trainer.evaluate(few)
    wait_for_gpu()
    read = len(few) / (time.perf_counter() - begun)
    evaluation = len(validation) / read
    # The first step warms everything up.
    a_step = float(np.mean(timer.seconds[1:]))
    return Estimate(
        steps=schedule.steps,
        schedule=str(schedule),
        minutes=(schedule.steps * a_step + schedule.evaluations * evaluation) / 60,
        texts_per_second=schedule.texts_a_step / a_step,
        memory_bytes=peak_memory() * processes_together(),
        memory_free_bytes=psutil.virtual_memory().available + psutil.Process().memory_info().rss,
        gpu_memory_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
        gpu_memory_free_bytes=free_gpu_memory() if on_gpu else None,
        device=describe(options),
        validation_texts_per_second=read,
        parameters=sum(parameter.numel() for parameter in trainer.event_model.parameters()),
        trained_parameters=sum(each.numel() for each in trainer.event_model.parameters() if each.requires_grad),
    )


def _short_trainer(prepared: DatasetDict, base: BaseModel, settings: Settings, scratch: Path) -> EventTrainer:
    """The recipe's Trainer for four steps: the longest texts, which memory must suffice for, then a fair sample."""
    quiet = settings.finetune.model_copy(update={"report_to": (), "patience": None})
    trainer = build_trainer(prepared, base, settings.model_copy(update={"finetune": quiet}), scratch)
    trainer.remove_callback(EpochProgress)
    size = quiet.batch_size
    order = np.argsort(prepared["train"]["length"], kind="stable")
    rows = np.concatenate([order[-size:], *batches(order, size)])
    trainer.train_dataset = cast("Dataset", trainer.train_dataset).select(rows)
    trainer.args.max_steps = math.ceil(len(rows) / size)
    trainer.args.train_sampling_strategy = "sequential"
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False
    return trainer


def batches(order: Rows, size: int) -> list[Rows]:
    """Three batches of neighbours in length, as the sampler that groups by length makes them.

    :param order: positions of the records from the shortest to the longest.
    """
    starts = (round(quantile * max(len(order) - size, 0)) for quantile in _QUANTILES)
    return [order[start : start + size] for start in starts]


def peak_memory() -> int:
    """Greatest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def free_gpu_memory() -> int:
    """Bytes that the GPU has left for this process, with those that it keeps by it for what comes next."""
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved()


def estimate_run(run: Run, base: BaseModel) -> Estimate:
    """``estimate`` on what a run has prepared."""
    from tocsin_training._datasets import load_from_disk

    return estimate(load_from_disk(run.prepared), base, run.settings())


def main(run: Run, base: BaseModel) -> None:
    """Measure, write it down and say it; too little memory is a warning, for the system may have swap."""
    settings = run.settings()
    announce(settings.finetune)
    found = side_by_side(settings.finetune.processes, estimate_run, run, base)
    run.record("estimate", asdict(found))
    trials = settings.search.trials
    _log.info("fine-tuning: %s%s", found, f"; {trials} trials of a search come before it" if trials else "")
    if not found.fits:
        _log.warning("that is more memory than is free: a smaller finetune.batch_size or model.max_tokens needs less")
