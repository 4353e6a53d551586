"""The model: a pretrained encoder, one vector pooled from those of its tokens, one linear layer.

One logit per label. The logit of "no event" is fixed at zero (see ``loss``), so a logit above zero says that the
label is more likely than nothing at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from tocsin_training.base import HEAD, head_of
from tocsin_training.errors import BaseModelError
from tocsin_training.pooling import Pooling, pooled, set_pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class EventModel(nn.Module):
    """Encoder, pooling (see ``pooling``), dropout and a linear head."""

    def __init__(
        self, *, encoder: PreTrainedModel, labels: int, dropout: float = 0.0, pooling: Pooling = "mean"
    ) -> None:
        super().__init__()
        set_pooling(encoder, pooling)
        self.encoder = encoder
        self.pooling: Pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of shape (batch, labels) from token ids and mask of shape (batch, sequence)."""
        logits: Tensor = self.head(self.dropout(self.vectors(input_ids, attention_mask)))
        return logits

    def vectors(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pooled vector of each text, which the head reads: (batch, hidden)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return pooled(hidden, attention_mask, self.pooling)

    def freeze_word_embeddings(self) -> None:
        """Keep the vectors of words as they were pretrained; most of a gazetteer never occurs in the corpus."""
        self.encoder.get_input_embeddings().weight.requires_grad_(False)

    def save(self, folder: Path) -> None:
        """Write the encoder in Hugging Face's format and the head beside it."""
        self.encoder.save_pretrained(folder)
        save_file({"weight": self.head.weight.contiguous(), "bias": self.head.bias}, folder / HEAD)

    @classmethod
    def load(cls, folder: Path) -> EventModel:
        """Read a saved model, ready to answer and to be exported.

        :raises BaseModelError: the folder holds none.
        """
        try:
            head = load_file(head_of(folder))
        except (OSError, SafetensorError) as error:
            raise BaseModelError(f"{folder}: its head cannot be read: {error}") from error
        encoder = load_encoder(str(folder), attention="eager")
        # Models saved before there was a choice do not say.
        pooling: Pooling = getattr(encoder.config, "pooling", "mean")
        model = cls(encoder=encoder, labels=head["weight"].shape[0], pooling=pooling)
        model.head.load_state_dict(head)
        return model.eval()


def differences(one: EventModel, other: EventModel) -> str:
    """How two models are built otherwise, in words; empty: the weights of one fit the other."""
    if one.pooling != other.pooling:
        return f"pooling {one.pooling} and {other.pooling}"
    shapes, others = ({name: tuple(each.shape) for name, each in model.state_dict().items()} for model in (one, other))
    told = [
        f"{name} {shapes.get(name, 'missing')} and {others.get(name, 'missing')}"
        for name in sorted(shapes.keys() | others.keys())
        if shapes.get(name) != others.get(name)
    ]
    return "; ".join(told[:3]) + (f"; {len(told) - 3} more" if len(told) > 3 else "")


def load_encoder(path: str, *, attention: str | None = None) -> PreTrainedModel:
    """The pretrained encoder in a folder or under a hub id, in fp32, from safetensors only (never a pickle).

    :param attention: transformers' name of an implementation; none takes the fastest that the architecture has.

    :raises BaseModelError: there is none, or the hub cannot be reached.
    """
    try:
        encoder: PreTrainedModel = AutoModel.from_pretrained(
            path, dtype=torch.float32, attn_implementation=attention, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise BaseModelError(f"cannot load the base model {path!r}: {str(error).splitlines()[0]}") from error
    return encoder


def load_tokenizer(path: str) -> PreTrainedTokenizerFast:
    """The tokenizer that belongs to an encoder.

    :raises BaseModelError: there is none, or it has no ``tokenizer.json`` form, which a release needs.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True)
    except (OSError, ValueError) as error:
        raise BaseModelError(f"cannot load the tokenizer of {path!r}: {str(error).splitlines()[0]}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise BaseModelError(f"{path}: its tokenizer has no tokenizer.json form, which a release needs")
    return tokenizer


@torch.inference_mode()
def predict_logits(
    model: EventModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], *, max_tokens: int, batch_size: int = 32
) -> Tensor:
    """Logits of shape (texts, labels), texts cut at ``max_tokens``; padded batches of texts of like length."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    logits = torch.empty(len(texts), model.head.out_features)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        logits[rows] = model(batch["input_ids"], batch["attention_mask"]).float()
    return logits
