"""Which of an encoder's vectors stand for a text: the mean of all tokens' or the first token's.

The first token, which belongs to no word, sees all others, and its vector learns to hold what the head asks for (Devlin
et al. 2019, https://arxiv.org/abs/1810.04805). Nobody then reads the others' vectors out of the last layer: only their
keys and values are needed there, which saves five sixths of a layer, in training and in answering. Answers are the same
as if all had been computed. Of several events in a text that one vector tells less well than the mean
(docs/experiments.md), so it is for taxonomies with one label a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertAttention, BertLayer

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedModel

Pooling = Literal["mean", "first"]


class FirstTokenLayer(BertLayer):
    """A layer of BERT that returns the first token's vector only, of shape (batch, 1, hidden).

    Parameters keep their names, so that what is saved is an ordinary encoder.
    """

    def __init__(self, config: BertConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        # A query of one token and keys of all: attention across, from the text to itself.
        self.attention = BertAttention(config, layer_idx=layer_idx, is_cross_attention=True)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:  # noqa: ANN401
        """From vectors of shape (batch, tokens, hidden) and a mask that is added to attention's scores."""
        attended, _weights = self.attention(
            hidden_states[:, :1],
            encoder_hidden_states=hidden_states,
            encoder_attention_mask=None if attention_mask is None else attention_mask[:, :, :1],
        )
        result: Tensor = self.feed_forward_chunk(attended)
        return result


def set_pooling(encoder: PreTrainedModel, pooling: Pooling) -> None:
    """Note in an encoder's configuration how its vectors are pooled, and spare BERT what that leaves unread.

    Encoders of other kinds compute all vectors either way.
    """
    encoder.config.pooling = pooling
    if pooling == "first" and isinstance(encoder, BertModel):
        layers = encoder.encoder.layer
        spared = FirstTokenLayer(encoder.config, len(layers) - 1)
        spared.load_state_dict(layers[-1].state_dict())
        layers[-1] = spared


def pooled(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector a text, of shape (batch, hidden), from those of its tokens, (batch, tokens, hidden)."""
    if pooling == "first":
        return hidden[:, 0]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)
