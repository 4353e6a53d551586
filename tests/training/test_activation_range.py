from __future__ import annotations

import torch
from torch import nn

from tocsin_training.activation_range import ActivationRange


def small_encoder() -> nn.Sequential:
    """Passes its input on to a second layer unchanged, so that both see the same."""
    encoder = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        encoder[0].weight.copy_(torch.eye(2))
    return encoder


def test_what_sticks_out_costs_its_square_meaned_over_tokens_and_summed_over_layers() -> None:
    encoder = small_encoder()
    watched = ActivationRange(encoder, limit=8)
    encoder(torch.tensor([[[11.0, 0.0], [-9.0, 10.0]]]))
    assert watched.penalty().item() == 2 * (9 + 4) / 2


def test_activations_within_the_limit_cost_nothing() -> None:
    encoder = small_encoder()
    watched = ActivationRange(encoder, limit=8)
    encoder(torch.tensor([[[8.0, -8.0]]]))
    assert watched.penalty().item() == 0


def test_a_batch_pays_for_itself_alone() -> None:
    encoder = small_encoder()
    watched = ActivationRange(encoder, limit=8)
    for _ in range(2):
        encoder(torch.tensor([[[9.0, 0.0]]]))
        assert watched.penalty().item() == 2


def test_nothing_is_kept_while_the_model_only_answers() -> None:
    encoder = small_encoder()
    watched = ActivationRange(encoder, limit=8)
    with torch.no_grad():
        encoder(torch.tensor([[[90.0, 0.0]]]))
    encoder.eval()(torch.tensor([[[90.0, 0.0]]]))
    encoder.train()(torch.tensor([[[9.0, 0.0]]]))
    assert watched.penalty().item() == 2


def test_learning_by_it_brings_activations_into_range() -> None:
    encoder = small_encoder()
    watched = ActivationRange(encoder, limit=8)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=1e-3)
    tokens = torch.tensor([[[5.0, 0.0]]])
    with torch.no_grad():
        encoder[0].weight.mul_(4)
    for _ in range(200):
        encoder(tokens)
        optimizer.zero_grad()
        watched.penalty().backward()
        optimizer.step()
    assert encoder[0](tokens).abs().max() < 8.1
