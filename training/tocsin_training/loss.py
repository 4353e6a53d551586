"""What the model is trained to do: name every event a text reports, and let none of them beat "no event" without cause.

Two terms, and a third on request. Binary cross-entropy makes each label's logit an answer of its own, for texts with
several events. Softmax cross-entropy over the logits *and a fixed zero that stands for "no event"* makes labels compete
with each other and with nothing; its target is shared by the record's labels, or is the zero when there are none. A
corpus names the most important event first; ``main_share`` gives that one more than its even part, so that the highest
answer is the main event and not any of those reported. The zero as the line between given and not given is kin to the
threshold class of adaptive thresholding (Zhou et al. 2021, ATLOP, https://arxiv.org/abs/2010.11304), fixed here so that
it needs no output of its own.

A third term, off by default, asks for the event type. Its logit is the log of the sum of its labels' exponentials, so
that in the softmax its probability is the sum of theirs: type and labels cannot disagree, and no output is added. It
makes a mistake within a type cost less than one across types.
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


def softmax_targets(targets: Tensor, main: Tensor | None = None, main_share: float | None = None) -> Tensor:
    """Spread each record's probability over its labels, or put it on "no event": (batch, labels + 1), rows sum to 1.

    :param main: position of each record's most important label, shape (batch,); where it has no label, any.
    :param main_share: of the probability, for that label where there are others; none: all labels have the same.
    """
    none = (targets.sum(dim=-1, keepdim=True) == 0).to(targets.dtype)
    shares = torch.cat([targets, none], dim=-1)
    shares = shares / shares.sum(dim=-1, keepdim=True)
    if main is None or main_share is None:
        return shares
    first = F.one_hot(main, targets.shape[-1] + 1).to(targets.dtype)
    others = with_no_event(targets) - first
    led = main_share * first + (1 - main_share) * others / others.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.where(targets.sum(dim=-1, keepdim=True) > 1, led, shares)


def binary_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of each record, summed over labels: (batch,)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=-1)


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of [logits, 0] against shares of shape (batch, labels + 1), of each record: (batch,)."""
    return -(F.log_softmax(with_no_event(logits), dim=-1) * targets).sum(dim=-1)


def event_type_logits(logits: Tensor, parents: Tensor) -> Tensor:
    """Logit of each event type, (batch, labels) -> (batch, event types): the logsumexp of its labels'.

    :param parents: position of each label's event type, shape (labels,); every type from 0 up has a label.
    """
    columns = [logits[:, parents == parent].logsumexp(dim=-1) for parent in range(int(parents.max()) + 1)]
    return torch.stack(columns, dim=-1)


def event_type_loss(logits: Tensor, shares: Tensor, parents: Tensor) -> Tensor:
    """Cross-entropy of event types and "no event" of each record, each type's share being the sum of its labels'.

    :param shares: of labels and of no event, shape (batch, labels + 1), rows sum to 1.
    """
    types = int(parents.max()) + 1
    of_types = shares.new_zeros(len(shares), types + 1).index_add_(1, parents, shares[:, :-1])
    of_types[:, -1] = shares[:, -1]
    return softmax_loss(event_type_logits(logits, parents), of_types)


def smoothed(targets: Tensor, shares: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """Both terms' targets moved towards not knowing: a half for each label, an even share for each answer.

    Szegedy et al. 2016, https://arxiv.org/abs/1512.00567.
    """
    return targets * (1 - amount) + amount / 2, shares * (1 - amount) + amount / shares.shape[-1]


def event_loss(
    logits: Tensor,
    targets: Tensor,
    settings: FinetuneSettings,
    teacher: Tensor | None = None,
    parents: Tensor | None = None,
    weights: Tensor | None = None,
    main: Tensor | None = None,
) -> Tensor:
    """The loss of a batch, a mixture of learning from labels and from a teacher where there is one.

    :param logits: and ``targets`` and ``teacher`` (the teacher's logits) have the shape (batch, labels). A record that
        the teacher has not read has NaN for its logits, and is learned from its labels alone.
    :param parents: position of each label's event type; needed only where ``event_type_weight`` is not zero.
    :param weights: how much each record counts, shape (batch,); none: all alike.
    :param main: as ``softmax_targets`` takes it; none: no label of a record comes before the others.
    """
    shared_out = softmax_targets(targets, main, settings.main_share)
    binary, shares = smoothed(targets, shared_out, settings.label_smoothing)
    losses = _all_terms(logits, binary, shares, settings, parents)
    if teacher is not None:
        known = ~teacher.isnan().any(dim=-1)
        share = settings.distillation_share * known
        # Where there is no teacher the share is 0, and its loss may be anything that is a number.
        led = None if main is None else shared_out
        taught = distillation_loss(logits, teacher.nan_to_num(0.0), settings, parents, led)
        losses = (1 - share) * losses + share * taught
    return (losses if weights is None else losses * weights).mean()


def distillation_loss(
    logits: Tensor,
    teacher: Tensor,
    settings: FinetuneSettings,
    parents: Tensor | None = None,
    led: Tensor | None = None,
) -> Tensor:
    """All terms against a teacher's softened answers (Hinton et al. 2015), of each record: (batch,).

    The square keeps gradients in scale.

    :param led: the record's own ``softmax_targets``; what the teacher gives to its labels together is shared out as
        they are, for a teacher may not know which comes first. None: as the teacher has it.
    """
    temperature = settings.distillation_temperature
    soft = teacher / temperature
    shares = with_no_event(soft).softmax(dim=-1)
    if led is not None:
        shares = torch.where(led > 0, led * (shares * (led > 0)).sum(dim=-1, keepdim=True), shares)
    return _all_terms(logits / temperature, soft.sigmoid(), shares, settings, parents) * temperature**2


def record_weights(targets: NDArray[np.floating[Any]] | NDArray[np.bool_], balance: float) -> NDArray[np.float32]:
    """How much each record counts so that rare labels are learned too; the weights' mean is 1.

    A record's weight is (1 / share of its rarest label) ** balance, no event being a label like the others (Cui et al.
    2019 reweight by frequency likewise). No weight is more than ten times the smallest: a handful of records must
    not drown the rest.

    :param targets: shape (records, labels).
    :param balance: 0: all alike; 1: every label counts alike.
    """
    held = targets > 0
    rarest = np.full(len(held), np.inf)
    # Label by label: numbers for all of them at once would be many for many records.
    for label in (*held.T, ~held.any(axis=1)):
        rarest[label] = np.minimum(rarest[label], label.sum())
    raw = rarest**-balance
    capped = np.minimum(raw, _MOST_WEIGHT * raw.min())
    weights: NDArray[np.float32] = (capped / capped.mean()).astype(np.float32)
    return weights


def _all_terms(
    logits: Tensor, targets: Tensor, shares: Tensor, settings: FinetuneSettings, parents: Tensor | None
) -> Tensor:
    loss = settings.binary_weight * binary_loss(logits, targets) + settings.softmax_weight * softmax_loss(
        logits, shares
    )
    if not settings.event_type_weight:
        return loss
    if parents is None:
        raise ValueError("event_type_weight is set, but not which label belongs to which event type")
    return loss + settings.event_type_weight * event_type_loss(logits, shares, parents)
