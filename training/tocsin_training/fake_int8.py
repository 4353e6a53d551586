"""Quantization-aware fine-tuning: the encoder learns with the rounding that int8 will do to it.

As in the shipped graph: of each linear layer the weights in 8 bits with a scale for each output, the inputs in 8 bits
with a scale for each text, found as it comes. Gradients pass through the rounding as though it were not there (Jacob et
al. 2018, https://arxiv.org/abs/1712.05877). The table of words is int8 in the graph, too, and is not rounded here: it
is frozen, or learns as it is.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

_STEPS = 255


def learn_with_int8(encoder: nn.Module) -> None:
    """Make an encoder's linear layers round as int8 does, from now on and only while training.

    Parameters keep their names, so that what is saved is an ordinary encoder.
    """
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(layer: nn.Linear, inputs: Tensor) -> Tensor:
    if not layer.training:
        return functional.linear(inputs, layer.weight, layer.bias)
    return functional.linear(rounded_activations(inputs), rounded_weights(layer.weight), layer.bias)


def rounded_activations(values: Tensor) -> Tensor:
    """Each text's values on 256 steps from its least to its greatest, zero among them.

    :param values: shape (texts, tokens, channels); padding counts as its text's own.
    """
    # bf16 has no more steps than int8 itself.
    exact = values.detach().float()
    within = tuple(range(1, exact.dim()))
    low, high = exact.amin(dim=within, keepdim=True).clamp_max(0), exact.amax(dim=within, keepdim=True).clamp_min(0)
    scale = ((high - low) / _STEPS).clamp_min(torch.finfo(torch.float32).tiny)
    zero = (-low / scale).round()
    steps = ((exact / scale).round() + zero).clamp(0, _STEPS)
    return _straight_through(values, (steps - zero) * scale)


def rounded_weights(weights: Tensor) -> Tensor:
    """Each output's weights on 255 steps around zero; shape (outputs, inputs)."""
    exact = weights.detach()
    scale = (exact.abs().amax(dim=1, keepdim=True) / (_STEPS // 2)).clamp_min(torch.finfo(torch.float32).tiny)
    return _straight_through(weights, (exact / scale).round() * scale)


def _straight_through(values: Tensor, instead: Tensor) -> Tensor:
    """Other values with the gradient of the first."""
    return values + (instead.to(values.dtype) - values.detach())
