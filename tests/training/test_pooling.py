from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tocsin.encoder import open_session
from tocsin_training.base import BaseModel, make_tiny
from tocsin_training.export import export_graph, fuse_graph
from tocsin_training.model import EventModel, load_encoder, load_tokenizer
from tocsin_training.pooling import FirstTokenLayer, pooled

TEXTS = ["Shells fell.", "Shells fell on the market before dawn, and residents fled the town for the hills."]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def batch(tiny: BaseModel) -> dict[str, Tensor]:
    return dict(load_tokenizer(tiny.path)(TEXTS, padding=True, return_tensors="pt"))


def first_token_model(tiny: BaseModel, attention: str | None = "eager") -> EventModel:
    torch.manual_seed(0)
    encoder = load_encoder(tiny.path, attention=attention)
    return EventModel(encoder=encoder, labels=3, pooling="first").train(False)


def last_layer(model: EventModel) -> nn.Module:
    return model.encoder.get_submodule(f"encoder.layer.{model.encoder.config.num_hidden_layers - 1}")


def whole_encoders_logits(tiny: BaseModel, model: EventModel, batch: dict[str, Tensor]) -> Tensor:
    """What the head says to the first token's vector where every token's was computed."""
    encoder = load_encoder(tiny.path, attention="eager").train(False)
    hidden = encoder(**batch).last_hidden_state
    assert hidden.shape[:2] == batch["input_ids"].shape
    logits: Tensor = model.head(hidden[:, 0])
    return logits


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.inference_mode()
def test_a_last_layer_for_the_first_token_alone_answers_as_a_whole_one(
    tiny: BaseModel, batch: dict[str, Tensor], attention: str
) -> None:
    model = first_token_model(tiny, attention)
    assert isinstance(last_layer(model), FirstTokenLayer)
    hidden = model.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    assert hidden.shape[:2] == (len(TEXTS), 1), "only the first token's vector is computed"
    found = model(batch["input_ids"], batch["attention_mask"])
    torch.testing.assert_close(found, whole_encoders_logits(tiny, model, batch), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_copy_computes_with_its_own_weights(tiny: BaseModel, batch: dict[str, Tensor]) -> None:
    model = first_token_model(tiny)
    copy = deepcopy(model)
    before = copy(batch["input_ids"], batch["attention_mask"])
    for parameter in last_layer(model).parameters():
        parameter.zero_()
    torch.testing.assert_close(copy(batch["input_ids"], batch["attention_mask"]), before)


@torch.inference_mode()
def test_a_saved_model_is_read_with_its_pooling_and_is_an_ordinary_encoder(
    tiny: BaseModel, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = first_token_model(tiny)
    model.save(tmp_path)
    again = EventModel.load(tmp_path)
    assert again.pooling == "first"
    ids = batch["input_ids"], batch["attention_mask"]
    torch.testing.assert_close(again(*ids), model(*ids))
    ordinary = load_encoder(str(tmp_path), attention="eager").train(False)
    torch.testing.assert_close(model.head(ordinary(**batch).last_hidden_state[:, 0]), model(*ids), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_its_graph_answers_as_it_does(tiny: BaseModel, batch: dict[str, Tensor], tmp_path: Path) -> None:
    model, size = first_token_model(tiny), load_encoder(tiny.path).config
    exported, fused = tmp_path / "exported.onnx", tmp_path / "fused.onnx"
    export_graph(model, load_tokenizer(tiny.path), exported)
    shape = {"heads": size.num_attention_heads, "hidden": size.hidden_size, "vocabulary": size.vocab_size}
    assert fuse_graph(exported, fused, **shape)
    names = ("input_ids", "attention_mask")
    (found,) = open_session(fused).run(["logits"], {name: batch[name].numpy() for name in names})
    expected = model(*(batch[name] for name in names))
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=0)


def test_the_mean_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pooled(hidden, torch.tensor([[1, 1, 0]]), "mean").item() == 2
    assert pooled(hidden, torch.tensor([[1, 1, 0]]), "first").item() == 1
