"""How long a recipe trains on so many texts: its epochs, more of them where those are few steps, fewer where many.

Epochs suit the number of texts they were chosen for. A few hundred texts make an epoch of a few steps, four of those
leave the head, which starts from nothing, about where it was, and the warm-up is over before it has begun. What small
data want is the steps of larger data and not their epochs (Mosbach et al. 2021, https://arxiv.org/abs/2006.04884; Zhang
et al. 2021, https://arxiv.org/abs/2006.05987). A recipe says both: its epochs, and the steps it must not stay below.

At the other end an epoch of several hundred thousand texts takes hours, and its texts say again and again what most of
them say. Where there is more text than can be read, new text teaches at least as much as text read twice (Komatsuzaki
2019, https://arxiv.org/abs/1906.06669), so from ``most_steps`` on a recipe reads its texts fewer times, but each once.
Such epochs are also too long to lose: they are evaluated, and a checkpoint is kept, every ``evaluate_within`` steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tocsin_training.config import FinetuneSettings

MOST_EVALUATIONS = 10
"""Of a training that is made longer: a checkpoint takes longer than the few steps between, and on few texts the best of
many would be luck."""


@dataclass(frozen=True)
class Schedule:
    """The epochs of one training, and when it is evaluated."""

    texts: int
    """Learned from in an epoch, those made by augmentation included."""
    batch_size: int
    epochs: float
    evaluate_every: int | None
    """Steps; none: once an epoch."""
    patience: int | None
    """Evaluations without a better one after which it stops; none: it goes on to its end."""
    because: str = ""
    """Why not the recipe's epochs, in words."""

    @classmethod
    def of(cls, options: FinetuneSettings, texts: int) -> Schedule:
        """The schedule of a recipe for so many texts."""
        plain = cls(texts, options.batch_size, options.epochs, options.evaluate_every, options.patience)
        return plain._longer(options) if plain.steps < options.least_steps else plain._for_many(options)

    def _longer(self, options: FinetuneSettings) -> Schedule:
        """As many epochs as make the least number of steps; none of these is saved by stopping early."""
        epochs = math.ceil(options.least_steps / self.steps_an_epoch)
        apart = math.ceil(epochs / MOST_EVALUATIONS)
        return replace(
            self,
            # Whole intervals: the last step is evaluated, too.
            epochs=apart * math.ceil(epochs / apart),
            evaluate_every=options.evaluate_every or apart * self.steps_an_epoch,
            patience=None,
            because=f"{self.epochs:g} would be fewer steps than finetune.least_steps",
        )

    def _for_many(self, options: FinetuneSettings) -> Schedule:
        """No more than the most steps but one epoch, in intervals of which none is too long."""
        steps, apart, because = self.steps, self.evaluate_every, ""
        if options.most_steps is not None and (most := max(options.most_steps, self.steps_an_epoch)) < steps:
            steps, because = most, f"{self.epochs:g} would be more steps than finetune.most_steps"
        if apart is None and options.evaluate_within is not None and options.evaluate_within < self.steps_an_epoch:
            intervals = math.ceil(steps / options.evaluate_within)
            apart = math.ceil(steps / intervals)
            # Whole intervals here, too.
            steps = apart * intervals
        epochs = self.epochs if steps == self.steps else _epochs(steps, self.steps_an_epoch)
        return replace(self, epochs=epochs, evaluate_every=apart, because=because)

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
        epochs = round(self.epochs, 2)
        told = f"{epochs:g} epoch{'' if epochs == 1 else 's'} of {self.texts:,} texts"
        return f"{told} ({self.because})" if self.because else told


def _epochs(steps: int, steps_an_epoch: int) -> float:
    """The epochs of which just so many steps come, where they are multiplied and rounded up again."""
    epochs = steps / steps_an_epoch
    return epochs if math.ceil(steps_an_epoch * epochs) == steps else math.nextafter(epochs, 0)
