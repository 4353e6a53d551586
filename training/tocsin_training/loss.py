"""What the model is trained to do: name every event a text reports, and let none of them beat "no event" without cause.

Two terms. Binary cross-entropy makes each label's logit an answer of its own, for texts with several events. Softmax
cross-entropy over the logits *and a fixed zero that stands for "no event"* makes labels compete with each other and
with nothing; its target is shared evenly by the record's labels, or is the zero when there are none. The zero as the
line between given and not given is kin to the threshold class of adaptive thresholding (Zhou et al. 2021, ATLOP,
https://arxiv.org/abs/2010.11304), fixed here so that it needs no output of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from numpy.typing import NDArray
from torch import Tensor

from tocsin_training.config import FinetuneSettings

_MOST_WEIGHT = 10.0


def with_no_event(logits: Tensor) -> Tensor:
    """Append the zero logit of "no event": (batch, labels) -> (batch, labels + 1)."""
    return torch.cat([logits, logits.new_zeros(logits.shape[0], 1)], dim=-1)


def softmax_targets(targets: Tensor) -> Tensor:
    """Spread each record's probability over its labels, or put it on "no event": (batch, labels + 1), rows sum to 1."""
    none = (targets.sum(dim=-1, keepdim=True) == 0).to(targets.dtype)
    shares = torch.cat([targets, none], dim=-1)
    return shares / shares.sum(dim=-1, keepdim=True)


def binary_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of each record, summed over labels: (batch,)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=-1)


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of [logits, 0] against shares of shape (batch, labels + 1), of each record: (batch,)."""
    return -(F.log_softmax(with_no_event(logits), dim=-1) * targets).sum(dim=-1)


def event_loss(
    logits: Tensor,
    targets: Tensor,
    settings: FinetuneSettings,
    teacher: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """The loss of a batch, a mixture of learning from labels and from a teacher where there is one.

    :param logits: and ``targets`` and ``teacher`` (the teacher's logits) have the shape (batch, labels). A record that
        the teacher has not read has NaN for its logits, and is learned from its labels alone.
    :param weights: how much each record counts, shape (batch,); none: all alike.
    """
    losses = _both_terms(logits, targets, softmax_targets(targets), settings)
    if teacher is not None:
        known = ~teacher.isnan().any(dim=-1)
        share = settings.distillation_share * known
        # Where there is no teacher the share is 0, and its loss may be anything that is a number.
        losses = (1 - share) * losses + share * distillation_loss(logits, teacher.nan_to_num(0.0), settings)
    return (losses if weights is None else losses * weights).mean()


def distillation_loss(logits: Tensor, teacher: Tensor, settings: FinetuneSettings) -> Tensor:
    """Both terms against a teacher's softened answers (Hinton et al. 2015), of each record: (batch,).

    The square keeps gradients in scale.
    """
    temperature = settings.distillation_temperature
    soft = teacher / temperature
    shares = with_no_event(soft).softmax(dim=-1)
    return _both_terms(logits / temperature, soft.sigmoid(), shares, settings) * temperature**2


def record_weights(targets: NDArray[np.floating[Any]], balance: float) -> NDArray[np.float32]:
    """How much each record counts so that rare labels are learned too; the weights' mean is 1.

    A record's weight is (1 / share of its rarest label) ** balance, no event being a label like the others (Cui et al.
    2019 reweight by frequency likewise). No weight is more than ten times the smallest: a handful of records must
    not drown the rest.

    :param targets: shape (records, labels).
    :param balance: 0: all alike; 1: every label counts alike.
    """
    none = (targets.sum(axis=1, keepdims=True) == 0).astype(np.float64)
    held = np.concatenate([targets, none], axis=1) > 0
    counts = np.maximum(held.sum(axis=0), 1)
    rarest = np.where(held, counts, np.inf).min(axis=1)
    raw = rarest**-balance
    capped = np.minimum(raw, _MOST_WEIGHT * raw.min())
    weights: NDArray[np.float32] = (capped / capped.mean()).astype(np.float32)
    return weights


def _both_terms(logits: Tensor, targets: Tensor, shares: Tensor, settings: FinetuneSettings) -> Tensor:
    binary = settings.binary_weight * binary_loss(logits, targets)
    return binary + settings.softmax_weight * softmax_loss(logits, shares)
