from __future__ import annotations

import math

import pytest
import torch

from tocsin_training.config import FinetuneSettings
from tocsin_training.loss import distillation_loss, event_loss, softmax_loss, softmax_targets, with_no_event

SETTINGS = FinetuneSettings()


def test_softmax_targets_share_one_among_labels_or_give_it_to_no_event() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert softmax_targets(targets).tolist() == [[0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]]


def test_a_logit_above_zero_beats_no_event() -> None:
    shares = with_no_event(torch.tensor([[0.1, -3.0], [-0.1, -3.0]])).softmax(dim=-1)
    assert shares[0].argmax() == 0
    assert shares[1].argmax() == 2


def test_silence_costs_what_the_formula_says() -> None:
    """All logits zero: log 2 for each label, and log of the number of answers, "no event" among them."""
    loss = event_loss(torch.zeros(5, 3), torch.zeros(5, 3), SETTINGS)
    assert loss.item() == pytest.approx(
        SETTINGS.binary_weight * 3 * math.log(2) + SETTINGS.softmax_weight * math.log(4), rel=1e-6
    )


@pytest.mark.parametrize("targets", [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
def test_descent_ends_at_the_right_side_of_zero(targets: list[float]) -> None:
    truth = torch.tensor([targets])
    logits = torch.zeros(1, 3, requires_grad=True)
    for _ in range(200):
        event_loss(logits, truth, SETTINGS).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert logits.grad is not None
            logits -= 0.3 * logits.grad
            logits.grad.zero_()
    assert ((logits > 0) == (truth > 0)).all()


def test_distillation_is_least_at_the_teacher_s_own_answers() -> None:
    teacher = torch.tensor([[2.0, -1.0, 0.5]])
    student = teacher.clone().requires_grad_()
    distillation_loss(student, teacher, SETTINGS.model_copy(update={"distillation_temperature": 2.0})).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6


def test_huge_logits_give_a_finite_loss() -> None:
    logits = torch.tensor([[1e4, -1e4]])
    assert torch.isfinite(event_loss(logits, torch.tensor([[0.0, 1.0]]), SETTINGS))
    assert torch.isfinite(softmax_loss(logits, torch.tensor([[0.0, 0.0, 1.0]])))
