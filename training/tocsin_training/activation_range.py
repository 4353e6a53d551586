"""Activations kept within a range while training, so that int8 can tell the ordinary ones apart.

Dynamic quantization gives a whole tensor one scale. In a pretrained BERT a channel or two of single tokens reach ten
times what all others do (Kovaleva et al. 2021, https://arxiv.org/abs/2105.06990), and the scale that reaches them is
too coarse for the rest: eight bits become five (Bondarenko et al. 2021, https://arxiv.org/abs/2109.12948). A penalty on
what sticks out while fine-tuning makes the encoder do without, which costs nothing when it answers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ActivationRange:
    """Watches the inputs of an encoder's linear layers, which are what the export quantizes."""

    def __init__(self, encoder: nn.Module, *, limit: float) -> None:
        """Watch from now on.

        :param limit: magnitude up to which nothing is asked.
        """
        self._limit = limit
        self._excesses: list[Tensor] = []
        for module in encoder.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_pre_hook(self._watch)

    def _watch(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training and torch.is_grad_enabled():
            # Of each token the channel that sticks out most: where there is one, there are few.
            most = inputs[0].abs().amax(dim=-1).float()
            self._excesses.append((most - self._limit).clamp_min(0).square().mean())

    def penalty(self) -> Tensor:
        """Squared excess of the last forward pass, mean over tokens, summed over layers: a scalar. Forgets it, too."""
        excesses, self._excesses = self._excesses, []
        return torch.stack(excesses).sum()
