"""A smaller base: an encoder's lower layers, narrower feed-forward layers, and the vocabulary of the training texts.

The lower layers of a pretrained encoder are the general ones and serve best when some must go (Sajjad et al. 2023,
https://arxiv.org/abs/2004.03844). Of a feed-forward layer those units are kept whose weights are largest (Han et al.
2015, https://arxiv.org/abs/1506.02626, who cut single weights; a whole unit makes the product smaller). Words whose
token is dropped are still read: WordPiece spells them with shorter pieces, and every piece of one character is kept for
that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tocsin_training.base import BaseModel
from tocsin_training.errors import BaseModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_TOKENIZER = "tokenizer.json"
_TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")


def trim_base(
    base: BaseModel,
    out: Path,
    *,
    layers: int | None = None,
    feed_forward: int | None = None,
    texts: Iterable[str] | None = None,
) -> BaseModel:
    """Write the trimmed encoder and its tokenizer to ``out``.

    :param layers: how many layers to keep, counted from the input; none keeps all.
    :param feed_forward: how many units to keep of each layer's feed-forward part; none keeps all.
    :param texts: whose tokens to keep; none keeps the whole vocabulary.
    :return: the trimmed base, under the name and hash of the weights it was cut from.
    :raises BaseModelError: the encoder has fewer layers or units, is built in another way, or its tokenizer is no
        WordPiece.
    """
    from tocsin_training.model import load_encoder, load_tokenizer

    encoder, tokenizer = load_encoder(base.path), load_tokenizer(base.path)
    out.mkdir(parents=True, exist_ok=True)
    if layers is not None:
        _keep_layers(encoder, layers, base.name)
    if feed_forward is not None:
        _keep_units(encoder, feed_forward, base.name)
    tokenizer.save_pretrained(out)
    if texts is not None:
        kept = _used_tokens(tokenizer, texts)
        _keep_embeddings(encoder, kept)
        _rewrite_tokenizer(out, {old: new for new, old in enumerate(kept)})
    encoder.save_pretrained(out)
    return BaseModel(name=base.name, path=str(out), sha256=base.sha256)


def _keep_layers(encoder: PreTrainedModel, layers: int, name: str) -> None:
    stack = _layers(encoder, name, "layers")
    if layers > len(stack):
        raise BaseModelError(f"{name}: has {len(stack)} layers; model.layers asks for {layers}")
    del stack[layers:]
    encoder.config.num_hidden_layers = layers


def _layers(encoder: PreTrainedModel, name: str, setting: str) -> torch.nn.ModuleList:
    """The stack of layers of BERT and its kin.

    :param setting: of a recipe's ``[model]``, that wants to change them.
    """
    stack = getattr(getattr(encoder, "encoder", None), "layer", None)
    if not isinstance(stack, torch.nn.ModuleList):
        raise BaseModelError(
            f"{name}: cannot take {setting} from a {type(encoder).__name__}; leave model.{setting} out"
        )
    return stack


def _keep_units(encoder: PreTrainedModel, units: int, name: str) -> None:
    """Keep the units whose weights, inwards times outwards, are largest, in their order."""
    layers: Iterable[Any] = _layers(encoder, name, "feed_forward")
    for layer in layers:
        inwards, outwards = layer.intermediate.dense, layer.output.dense
        if units > (there := inwards.out_features):
            raise BaseModelError(
                f"{name}: its feed-forward layers have {there} units; model.feed_forward asks for {units}"
            )
        magnitude = inwards.weight.norm(dim=1) * outwards.weight.norm(dim=0)
        kept = magnitude.topk(units).indices.sort().values
        layer.intermediate.dense = _linear(inwards.weight[kept], inwards.bias[kept])
        layer.output.dense = _linear(outwards.weight[:, kept], outwards.bias)
    encoder.config.intermediate_size = units


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Linear:
    built = torch.nn.Linear(weight.shape[1], weight.shape[0])
    built.load_state_dict({"weight": weight, "bias": bias})
    return built


def _used_tokens(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> list[int]:
    """Ids to keep, in their order: special tokens, pieces of one character, and every token of the texts."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    model = backend["model"]
    if model["type"] != "WordPiece":
        raise BaseModelError(f'its tokenizer is a {model["type"]}, not a WordPiece; use model.vocabulary = "full"')
    prefix = model["continuing_subword_prefix"]
    kept = {token["id"] for token in backend["added_tokens"]}
    kept |= {index for piece, index in model["vocab"].items() if len(piece.removeprefix(prefix)) == 1}
    kept.update(*tokenizer(list(texts), truncation=False)["input_ids"])
    return sorted(kept)


def _keep_embeddings(encoder: PreTrainedModel, kept: list[int]) -> None:
    words = encoder.get_input_embeddings()
    if not isinstance(words, torch.nn.Embedding):
        raise BaseModelError(f'cannot trim the vocabulary of a {type(encoder).__name__}; use model.vocabulary = "full"')
    new = {old: index for index, old in enumerate(kept)}
    padding = None if words.padding_idx is None else new[words.padding_idx]
    encoder.set_input_embeddings(
        torch.nn.Embedding(len(kept), words.embedding_dim, padding_idx=padding, _weight=words.weight.detach()[kept])
    )
    encoder.config.vocab_size = len(kept)
    for name in _TOKEN_IDS:
        if (old := getattr(encoder.config, name, None)) is not None:
            setattr(encoder.config, name, new.get(old))


def _rewrite_tokenizer(folder: Path, new_id: Mapping[int, int]) -> None:
    path = folder / _TOKENIZER
    backend: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    backend["model"]["vocab"] = {
        piece: new_id[index] for piece, index in backend["model"]["vocab"].items() if index in new_id
    }
    for token in backend["added_tokens"]:
        token["id"] = new_id[token["id"]]
    backend["post_processor"] = _renumber(backend["post_processor"], new_id)
    path.write_text(json.dumps(backend, ensure_ascii=False), encoding="utf-8")


def _renumber(part: Any, new_id: Mapping[int, int]) -> Any:  # noqa: ANN401
    """A post-processor with its ids of special tokens replaced: ``["</s>", 2]`` pairs, or lists under ``ids``."""
    match part:
        case [str(piece), int(index)]:
            return [piece, new_id[index]]
        case dict():
            return {
                key: [new_id[index] for index in value] if key == "ids" else _renumber(value, new_id)
                for key, value in part.items()
            }
        case list():
            return [_renumber(item, new_id) for item in part]
    return part
