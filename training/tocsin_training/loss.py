"""What the model is trained to do: name every event a text reports, and let none of them beat "no event" without cause.

Two terms. Binary cross-entropy makes each label's logit an answer of its own, for texts with several events. Softmax
cross-entropy over the logits *and a fixed zero that stands for "no event"* makes labels compete with each other and
with nothing; its target is shared evenly by the record's labels, or is the zero when there are none. The zero as the
line between given and not given is kin to the threshold class of adaptive thresholding (Zhou et al. 2021, ATLOP,
https://arxiv.org/abs/2010.11304), fixed here so that it needs no output of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor

from tocsin_training.config import FinetuneSettings


def with_no_event(logits: Tensor) -> Tensor:
    """Append the zero logit of "no event": (batch, labels) -> (batch, labels + 1)."""
    return torch.cat([logits, logits.new_zeros(logits.shape[0], 1)], dim=-1)


def softmax_targets(targets: Tensor) -> Tensor:
    """Spread each record's probability over its labels, or put it on "no event": (batch, labels + 1), rows sum to 1."""
    none = (targets.sum(dim=-1, keepdim=True) == 0).to(targets.dtype)
    shares = torch.cat([targets, none], dim=-1)
    return shares / shares.sum(dim=-1, keepdim=True)


def binary_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, summed over labels, averaged over records."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=-1).mean()


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of [logits, 0] against shares of shape (batch, labels + 1), averaged over records."""
    return -(F.log_softmax(with_no_event(logits), dim=-1) * targets).sum(dim=-1).mean()


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Both terms against a teacher's softened answers (Hinton et al. 2015); the square keeps gradients in scale."""
    student, soft = logits / temperature, teacher / temperature
    both = binary_loss(student, soft.sigmoid()) + softmax_loss(student, with_no_event(soft).softmax(dim=-1))
    return both * temperature**2


def event_loss(logits: Tensor, targets: Tensor, settings: FinetuneSettings, teacher: Tensor | None = None) -> Tensor:
    """The weighted sum of the terms; all tensors have the shape (batch, labels)."""
    loss = settings.binary_weight * binary_loss(logits, targets)
    loss = loss + settings.softmax_weight * softmax_loss(logits, softmax_targets(targets))
    if teacher is not None:
        soft = distillation_loss(logits, teacher, settings.distillation_temperature)
        loss = loss + settings.distillation_weight * soft
    return loss
