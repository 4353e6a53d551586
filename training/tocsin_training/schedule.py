"""How long a recipe trains on so many texts: its epochs, or more of them where those would be too few steps.

Epochs suit the number of texts they were chosen for. A few hundred texts make an epoch of a few steps, four of those
leave the head, which starts from nothing, about where it was, and the warm-up is over before it has begun. What small
data want is the steps of larger data and not their epochs (Mosbach et al. 2021, https://arxiv.org/abs/2006.04884; Zhang
et al. 2021, https://arxiv.org/abs/2006.05987). A recipe says both: its epochs, and the steps it must not stay below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tocsin_training.config import FinetuneSettings

MOST_EVALUATIONS = 20
"""Of a training that is made longer; each costs a checkpoint, and on few texts the best of many would be luck."""


@dataclass(frozen=True)
class Schedule:
    """The epochs of one training, and when it is evaluated."""

    texts: int
    """Learned from in an epoch, those made by augmentation included."""
    batch_size: int
    epochs: float
    recipe_epochs: float
    evaluate_every: int | None
    """Steps; none: once an epoch."""

    @classmethod
    def of(cls, options: FinetuneSettings, texts: int) -> Schedule:
        """The schedule of a recipe for so many texts."""
        plain = cls(texts, options.batch_size, options.epochs, options.epochs, options.evaluate_every)
        if plain.steps >= options.least_steps:
            return plain
        epochs = math.ceil(options.least_steps / plain.steps_an_epoch)
        apart = math.ceil(epochs / MOST_EVALUATIONS)
        return cls(
            texts,
            options.batch_size,
            # Whole intervals: the last step is evaluated, too.
            apart * math.ceil(epochs / apart),
            options.epochs,
            options.evaluate_every or apart * plain.steps_an_epoch,
        )

    @property
    def steps_an_epoch(self) -> int:
        """Batches that all texts make."""
        return math.ceil(self.texts / self.batch_size)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return math.ceil(self.steps_an_epoch * self.epochs)

    @property
    def texts_a_step(self) -> float:
        """On average: the last batch of an epoch is seldom full."""
        return self.texts / self.steps_an_epoch

    @property
    def evaluations(self) -> float:
        """So often validation is read."""
        return self.steps / self.evaluate_every if self.evaluate_every else self.epochs

    def __str__(self) -> str:
        told = f"{self.epochs:g} epochs of {self.texts:,} texts"
        if self.epochs > self.recipe_epochs:
            told += f" ({self.recipe_epochs:g} would be fewer steps than finetune.least_steps)"
        return told
