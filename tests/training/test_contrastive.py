from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from tocsin_training.base import WEIGHTS, resolve_base
from tocsin_training.config import Settings
from tocsin_training.contrastive import contrastive_loss, likeness, warm_up, warmed_up
from tocsin_training.model import EventModel, load_encoder, load_tokenizer
from tocsin_training.pipeline import train
from tocsin_training.run import Run

A, B, BOTH, NONE = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]


def test_texts_are_as_like_as_their_labels_and_no_event_is_one() -> None:
    found = likeness(torch.tensor([A, B, BOTH, NONE, NONE]))
    assert found[0].tolist() == [1.0, 0.0, 0.5, 0.0, 0.0]
    assert found[3].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_the_loss_is_what_the_formula_says() -> None:
    """Two of one label at a right angle to a third of another: the log of its own part among the two others."""
    vectors = torch.tensor([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0]])
    loss = contrastive_loss(vectors, torch.tensor([A, A, B]))
    assert loss.item() == pytest.approx(-math.log(math.exp(10) / (math.exp(10) + 1)), rel=1e-3)


def test_descent_puts_like_texts_side_by_side_and_a_text_of_both_labels_between() -> None:
    torch.manual_seed(0)
    vectors, targets = torch.randn(7, 8, requires_grad=True), torch.tensor([A, A, B, B, BOTH, NONE, NONE])
    for _ in range(80):
        contrastive_loss(vectors, targets).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert vectors.grad is not None
            vectors -= vectors.grad
            vectors.grad.zero_()
    unit = torch.nn.functional.normalize(vectors.detach(), dim=-1)
    close = unit @ unit.T
    assert close[5, 6] > close[0, 1] > close[0, 4] > 0.5 and close[2, 3] > close[2, 4] > 0.5
    assert close[0, 2] < 0.3 and close[0, 5] < 0.3


@pytest.mark.parametrize("targets", [[A], [A, B], [A, NONE]])
def test_a_batch_in_which_no_two_texts_are_alike_teaches_nothing(targets: list[list[float]]) -> None:
    vectors = torch.randn(len(targets), 4, requires_grad=True)
    loss = contrastive_loss(vectors, torch.tensor(targets))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert vectors.grad is not None
    assert not vectors.grad.any()


def test_a_warm_up_draws_texts_of_like_labels_together_and_leaves_an_ordinary_encoder(
    trained_run: Run, settings: Settings, tmp_path: Path
) -> None:
    from tocsin_training._datasets import load_from_disk

    prepared, base = load_from_disk(trained_run.prepared), resolve_base("tiny", scratch=tmp_path / "base")
    recipe = with_epochs(settings, 2.0)
    losses = warm_up(prepared, base, recipe, tmp_path / "warm", tmp_path / "scratch")
    assert losses[-1] < losses[0]
    few = prepared["validation"].select(range(60))
    before, after = (
        unlike(path, list(few["text"]), torch.tensor(few["labels"])) for path in (base.path, tmp_path / "warm")
    )
    assert after < before - 0.1


def unlike(encoder: str | Path, texts: list[str], targets: Tensor) -> float:
    model = EventModel(encoder=load_encoder(str(encoder)), labels=4).eval()
    batch = load_tokenizer(str(encoder))(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return contrastive_loss(model.vectors(batch["input_ids"], batch["attention_mask"]), targets).item()


def with_epochs(settings: Settings, epochs: float) -> Settings:
    finetune = settings.finetune.model_copy(update={"contrastive_epochs": epochs, "epochs": 1})
    return settings.model_copy(update={"finetune": finetune})


def test_a_recipe_with_a_warm_up_fine_tunes_what_was_warmed_up(
    settings: Settings, console: Console, tmp_path: Path
) -> None:
    recipe = with_epochs(settings, 0.5).model_copy(update={"runs": tmp_path})
    run = train(recipe, "warm", console, until="finetune")
    assert list(run.figures()["minutes"]) == ["prepare", "estimate", "contrastive", "finetune"]
    base = resolve_base("tiny", scratch=tmp_path / "base")
    assert warmed_up(run, base).path == str(run.warmed_up)
    assert (run.warmed_up / WEIGHTS).read_bytes() != (Path(base.path) / WEIGHTS).read_bytes()
    assert run.figures()["contrastive"]["loss"]
