"""The release's architecture for transformers: an encoder, one vector of its tokens', one linear layer.

It is no class of transformers' own, so `pytorch_release` puts this file beside the weights, as models of the hub do,
and whoever loads them says `trust_remote_code`. It runs in other people's environments: torch and transformers,
nothing of ours.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class EventsForSequenceClassification(PreTrainedModel):
    """A logit a label; above zero says that the label is more likely than no event."""

    # The encoder has transformers' fused attention; unless this class says so too, it is given the plain kind.
    _supports_sdpa = True

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: object) -> SequenceClassifierOutput:
        """Logits of shape (batch, labels) from token ids and mask of shape (batch, sequence)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if getattr(self.config, "pooling", "mean") == "first":
            return SequenceClassifierOutput(logits=self.head(hidden[:, 0]))
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return SequenceClassifierOutput(logits=self.head((hidden * mask).sum(dim=1) / mask.sum(dim=1)))
