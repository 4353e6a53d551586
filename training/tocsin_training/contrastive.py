"""Before fine-tuning, on request: an encoder that puts texts of like labels side by side (a contrastive warm-up).

The loss is that of supervised contrastive learning (Khosla et al. 2020, https://arxiv.org/abs/2004.11362, their
``L_out``) on a text's pooled vector. For several labels a text, two texts attract as much as their labels are the same,
intersection by union; "no event" is a label here as in the softmax. The encoder is kept, the head learns afterwards as
always. Libraries of such losses take one label a text.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor

from tocsin_training.base import BaseModel
from tocsin_training.finetune import EpochProgress, EventTrainer, build_trainer
from tocsin_training.model import load_tokenizer
from tocsin_training.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin_training._datasets import DatasetDict
    from tocsin_training.config import Settings

_log = logging.getLogger(__name__)
_TEMPERATURE = 0.1
"""That of the paper's experiments."""


def likeness(targets: Tensor) -> Tensor:
    """Share of the labels of two texts that both have, of each pair: (batch, labels) -> (batch, batch)."""
    held = torch.cat([targets, (targets.sum(dim=-1, keepdim=True) == 0).to(targets.dtype)], dim=-1)
    shared, counts = held @ held.T, held.sum(dim=-1)
    return shared / (counts[:, None] + counts - shared)


def contrastive_loss(vectors: Tensor, targets: Tensor) -> Tensor:
    """How far texts of like labels are from each other, among all of a batch; zero where no two have a label in common.

    :param vectors: shape (batch, hidden); only their directions count.
    :param targets: shape (batch, labels).
    """
    unit = F.normalize(vectors, dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    attraction = likeness(targets).masked_fill(itself, 0)
    drawn = attraction.sum(dim=-1)
    if not drawn.any():
        return vectors.sum() * 0
    closeness = (unit @ unit.T / _TEMPERATURE).masked_fill(itself, -torch.inf).log_softmax(dim=-1)
    # Of a text to itself: minus infinity, times an attraction of zero.
    losses = -(attraction * closeness.masked_fill(itself, 0)).sum(dim=-1)
    return (losses[drawn > 0] / drawn[drawn > 0]).mean()


class ContrastiveTrainer(EventTrainer):
    """Trains the encoder alone."""

    def loss_of(self, model: torch.nn.Module, inputs: dict[str, Tensor | Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The contrastive loss of a batch."""
        # The Trainer has wrapped the model's own call in this, and this is another one.
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            vectors = self.event_model.vectors(inputs["input_ids"], inputs["attention_mask"])
        return contrastive_loss(vectors.float(), inputs["labels"]), {}


def warm_up(prepared: DatasetDict, base: BaseModel, settings: Settings, out: Path, scratch: Path) -> list[float]:
    """Train a base's encoder on ``prepared["train"]`` and save it with its tokenizer to ``out``.

    In one process, whatever ``processes`` says: a part of a batch has fewer pairs.

    :return: the loss, every few steps.
    """
    options = settings.finetune
    short = {"epochs": options.contrastive_epochs, "least_steps": 0, "patience": None, "report_to": ()}
    alone = {"processes": 1, "threads": options.threads * options.processes, "teacher_logits": None}
    recipe = settings.model_copy(update={"finetune": options.model_copy(update={**short, **alone})})
    trainer = build_trainer(prepared, base, recipe, scratch, kind=ContrastiveTrainer)
    trainer.remove_callback(EpochProgress)
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False
    trainer.train()
    trainer.event_model.to("cpu").encoder.save_pretrained(out)
    load_tokenizer(base.path).save_pretrained(out)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def warmed_up(run: Run, base: BaseModel) -> BaseModel:
    """The base that a run fine-tunes: the one that was warmed up, if its recipe asks for that."""
    return replace(base, path=str(run.warmed_up)) if run.settings().finetune.contrastive_epochs else base


def main(run: Run, base: BaseModel) -> None:
    """Warm up and write down how the loss fell."""
    from tocsin_training._datasets import load_from_disk

    losses = warm_up(load_from_disk(run.prepared), base, run.settings(), run.warmed_up, run.checkpoints)
    run.record("contrastive", {"loss": losses})
    if losses:
        _log.info("contrastive loss %.3f at first, %.3f at last", losses[0], losses[-1])
