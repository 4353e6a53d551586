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
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch

from tocsin_training.base import BaseModel
from tocsin_training.config import Settings
from tocsin_training.finetune import EventTrainer, build_trainer
from tocsin_training.run import Run

if TYPE_CHECKING:
    from tocsin_training._datasets import DatasetDict

_log = logging.getLogger(__name__)
_QUANTILES = (1 / 6, 3 / 6, 5 / 6)


@dataclass(frozen=True)
class Estimate:
    """Of one fine-tuning; a search takes it once for every trial."""

    steps: int
    minutes: float
    memory_bytes: int
    """Greatest resident memory of this process."""
    memory_free_bytes: int
    """What the machine could give it, what it has already included."""
    parameters: int
    trained_parameters: int

    @property
    def fits(self) -> bool:
        """Whether the memory is there."""
        return self.memory_bytes <= self.memory_free_bytes

    def __str__(self) -> str:
        return (
            f"about {self.minutes:.1f} minutes for {self.steps:,} steps, "
            f"{self.memory_bytes / 1e9:.1f} GB of memory (free: {self.memory_free_bytes / 1e9:.1f} GB), "
            f"{self.parameters / 1e6:.1f} million parameters"
        )


def estimate(prepared: DatasetDict, base: BaseModel, settings: Settings, run: Run) -> Estimate:
    """Time some steps and multiply."""
    trainer = build_trainer(prepared, base, settings, run.checkpoints)
    options, records = settings.finetune, len(prepared["train"])
    steps = math.ceil(math.ceil(records / options.batch_size) * options.epochs)
    model = trainer.accelerator.prepare(trainer.model)
    optimizer = trainer.create_optimizer()
    order = np.argsort(prepared["train"]["length"], kind="stable")
    # The longest first: it warms everything up, and it is what memory must suffice for.
    _step(trainer, model, optimizer, order[-options.batch_size :])
    seconds = [_step(trainer, model, optimizer, batch) for batch in batches(order, options.batch_size)]
    evaluation = _evaluation_seconds(trainer, options.batch_size, len(prepared["validation"]))
    evaluations = steps / options.evaluate_every if options.evaluate_every else options.epochs
    own = psutil.Process().memory_info().rss
    return Estimate(
        steps=steps,
        minutes=(steps * float(np.mean(seconds)) + evaluations * evaluation) / 60,
        memory_bytes=peak_memory(),
        memory_free_bytes=psutil.virtual_memory().available + own,
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        trained_parameters=sum(each.numel() for each in trainer.model.parameters() if each.requires_grad),
    )


def batches(order: np.ndarray[Any, np.dtype[np.intp]], size: int) -> list[np.ndarray[Any, np.dtype[np.intp]]]:
    """Three batches of neighbours in length, as the sampler that groups by length makes them.

    :param order: positions of the records from the shortest to the longest.
    """
    starts = (round(quantile * max(len(order) - size, 0)) for quantile in _QUANTILES)
    return [order[start : start + size] for start in starts]


def _step(
    trainer: EventTrainer,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: Any,  # noqa: ANN401
) -> float:
    begun = time.perf_counter()
    batch = trainer.data_collator([trainer.train_dataset[int(row)] for row in rows])
    trainer.training_step(model, batch)
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - begun


def _evaluation_seconds(trainer: EventTrainer, batch_size: int, records: int) -> float:
    """Of one pass over the validation split, from one batch of it."""
    few = trainer.eval_dataset.select(range(min(batch_size, records)))
    begun = time.perf_counter()
    trainer.evaluation_loop(trainer.get_eval_dataloader(few), description="estimate", prediction_loss_only=True)
    return (time.perf_counter() - begun) * records / len(few)


def peak_memory() -> int:
    """Greatest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def main(run: Run, base: BaseModel) -> None:
    """Measure, write it down and say it; too little memory is a warning, for the system may have swap."""
    from tocsin_training._datasets import load_from_disk

    settings = run.settings()
    found = estimate(load_from_disk(run.prepared), base, settings, run)
    run.record("estimate", asdict(found))
    trials = settings.search.trials
    _log.info("fine-tuning: %s%s", found, f"; {trials} trials of a search come before it" if trials else "")
    if not found.fits:
        _log.warning("that is more memory than is free: a smaller finetune.batch_size or model.max_tokens needs less")
