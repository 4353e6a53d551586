from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tocsin_training.config import FinetuneSettings
from tocsin_training.loss import (
    distillation_loss,
    event_loss,
    event_type_logits,
    event_type_loss,
    record_weights,
    smoothed,
    softmax_loss,
    softmax_targets,
    with_no_event,
)

SETTINGS = FinetuneSettings()


def test_softmax_targets_share_one_among_labels_or_give_it_to_no_event() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert softmax_targets(targets).tolist() == [[0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]]


def test_the_main_label_gets_its_share_and_the_others_the_rest() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    shares = softmax_targets(targets, torch.tensor([2, 1, 0]), 0.75)
    torch.testing.assert_close(
        shares,
        torch.tensor([[0.125, 0.0, 0.75, 0.125, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]),
    )


def test_what_a_teacher_gives_to_a_record_s_labels_is_shared_out_by_their_order() -> None:
    settings = SETTINGS.model_copy(update={"main_share": 0.75, "distillation_share": 1.0, "binary_weight": 0.0})
    targets, teacher = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[3.0, 4.0, 1.0]])
    logits = torch.zeros(1, 3, requires_grad=True)
    for _ in range(2000):
        event_loss(logits, targets, settings, teacher, main=torch.tensor([0])).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert logits.grad is not None
            logits -= logits.grad
            logits.grad.zero_()
    found, taught = with_no_event(logits).softmax(dim=-1)[0], with_no_event(teacher).softmax(dim=-1)[0]
    together = taught[0] + taught[1]
    torch.testing.assert_close(found, torch.stack([0.75 * together, 0.25 * together, *taught[2:]]), rtol=0.0, atol=2e-3)


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
    distillation_loss(student, teacher, SETTINGS.model_copy(update={"distillation_temperature": 2.0})).mean().backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6


def test_huge_logits_give_a_finite_loss() -> None:
    logits = torch.tensor([[1e4, -1e4]])
    assert torch.isfinite(event_loss(logits, torch.tensor([[0.0, 1.0]]), SETTINGS))
    assert torch.isfinite(softmax_loss(logits, torch.tensor([[0.0, 0.0, 1.0]]))).all()


def test_an_event_type_is_as_likely_as_its_labels_together() -> None:
    logits, parents = torch.tensor([[0.3, -1.2, 2.0, 0.7]]), torch.tensor([1, 0, 1, 2])
    of_labels = with_no_event(logits).softmax(dim=-1)[0]
    of_types = with_no_event(event_type_logits(logits, parents)).softmax(dim=-1)[0]
    expected = [of_labels[1], of_labels[0] + of_labels[2], of_labels[3], of_labels[4]]
    assert of_types.tolist() == pytest.approx([float(value) for value in expected], rel=1e-6)


def test_within_a_type_the_event_type_term_does_not_care_and_across_types_it_does() -> None:
    parents = torch.tensor([0, 0, 1])
    shares = softmax_targets(torch.tensor([[1.0, 0.0, 0.0]]))
    right, sibling, stranger = (torch.eye(3)[[place]] * 5 for place in range(3))
    losses = [event_type_loss(logits, shares, parents).mean().item() for logits in (right, sibling, stranger)]
    assert losses[0] == pytest.approx(losses[1])
    assert losses[2] > losses[0] + 4


def test_the_event_type_term_shares_a_text_without_event_and_one_of_two_types_rightly() -> None:
    """It is least where the types' probabilities are the shares of their labels."""
    parents = torch.tensor([0, 0, 1])
    for targets, least in (([[1.0, 0.0, 1.0]], math.log(2)), ([[1.0, 1.0, 0.0]], 0.0), ([[0.0, 0.0, 0.0]], 0.0)):
        logits = torch.zeros(1, 3, requires_grad=True)
        for _ in range(500):
            loss = event_type_loss(logits, softmax_targets(torch.tensor(targets)), parents).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                assert logits.grad is not None
                logits -= logits.grad
                logits.grad.zero_()
        assert loss.item() == pytest.approx(least, abs=1e-2)


def test_the_event_type_term_is_off_by_default_and_needs_the_types_when_it_is_on() -> None:
    logits, targets = torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    plain = event_loss(logits, targets, SETTINGS)
    assert event_loss(logits, targets, SETTINGS, parents=torch.tensor([0, 1])) == plain
    on = SETTINGS.model_copy(update={"event_type_weight": 0.5})
    assert event_loss(logits, targets, on, parents=torch.tensor([0, 1])) > plain
    with pytest.raises(ValueError, match="event type"):
        event_loss(logits, targets, on)


def test_smoothing_keeps_shares_shares_and_the_answer_the_answer() -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0]])
    binary, shares = smoothed(targets, softmax_targets(targets), 0.2)
    assert binary.tolist() == [pytest.approx([0.9, 0.1, 0.1])]
    assert shares.tolist() == [pytest.approx([0.85, 0.05, 0.05, 0.05])]


def test_smoothing_makes_too_sure_an_answer_cost_more_than_a_moderate_one() -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0]])
    moderate, sure = torch.tensor([[3.0, -3.0, -3.0]]), torch.tensor([[30.0, -30.0, -30.0]])
    smooth = SETTINGS.model_copy(update={"label_smoothing": 0.1})
    assert event_loss(sure, targets, SETTINGS) < event_loss(moderate, targets, SETTINGS)
    assert event_loss(sure, targets, smooth) > event_loss(moderate, targets, smooth)


def test_a_teacher_s_answers_are_not_smoothed() -> None:
    logits, targets, teacher = torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, -2.0]])
    taught = SETTINGS.model_copy(update={"distillation_share": 1.0})
    smooth = taught.model_copy(update={"label_smoothing": 0.3})
    assert event_loss(logits, targets, smooth, teacher) == event_loss(logits, targets, taught, teacher)


def test_a_record_without_teacher_is_learned_from_its_labels_alone() -> None:
    logits, targets = torch.randn(4, 3), torch.eye(4, 3)
    teacher = torch.randn(4, 3)
    teacher[1] = float("nan")
    teacher[3] = float("nan")
    both = event_loss(logits, targets, SETTINGS, teacher)
    taught = event_loss(logits[[0, 2]], targets[[0, 2]], SETTINGS, teacher[[0, 2]])
    alone = event_loss(logits[[1, 3]], targets[[1, 3]], SETTINGS)
    assert both.item() == pytest.approx((taught.item() + alone.item()) / 2, rel=1e-5)


def test_a_teacher_who_read_nothing_changes_nothing() -> None:
    logits, targets = torch.randn(4, 3, requires_grad=True), torch.eye(4, 3)
    loss = event_loss(logits, targets, SETTINGS, torch.full((4, 3), float("nan")))
    assert loss.item() == pytest.approx(event_loss(logits, targets, SETTINGS).item(), rel=1e-6)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_balance_gives_labels_equal_weight_at_one_and_records_at_zero() -> None:
    """Eight records of one label, three of another, one without event."""
    targets = np.zeros((12, 2), dtype=np.float32)
    targets[:8, 0] = targets[8:11, 1] = 1
    assert record_weights(targets, 0.0).tolist() == [1.0] * 12
    weights = record_weights(targets, 1.0)
    assert weights[:8].sum() == pytest.approx(weights[8:11].sum()) == pytest.approx(weights[11])
    assert weights.mean() == pytest.approx(1)


def test_no_record_counts_more_than_ten_times_another() -> None:
    targets = np.zeros((1001, 2), dtype=np.float32)
    targets[:1000, 0] = targets[1000, 1] = 1
    weights = record_weights(targets, 1.0)
    assert weights[1000] / weights[0] == pytest.approx(10)


def test_weights_scale_the_losses_of_their_records() -> None:
    logits, targets = torch.randn(2, 3), torch.eye(2, 3)
    first, second = (event_loss(logits[[row]], targets[[row]], SETTINGS).item() for row in (0, 1))
    weighted = event_loss(logits, targets, SETTINGS, weights=torch.tensor([1.5, 0.5]))
    assert weighted.item() == pytest.approx((1.5 * first + 0.5 * second) / 2, rel=1e-5)
