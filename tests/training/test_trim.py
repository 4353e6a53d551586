from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tocsin_training.base import BaseModel, make_tiny, resolve_base
from tocsin_training.errors import BaseModelError
from tocsin_training.model import load_encoder, load_tokenizer
from tocsin_training.trim import trim_base

TEXTS = ["Shells fell on the market in Kherson.", "Police dispersed a march near the ministry."]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def hidden(base: BaseModel, text: str) -> torch.Tensor:
    encoder, tokenizer = load_encoder(base.path), load_tokenizer(base.path)
    encoder.train(False)
    with torch.inference_mode():
        states: torch.Tensor = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state
    return states


def test_texts_of_the_kept_vocabulary_are_read_as_before(tiny: BaseModel, tmp_path: Path) -> None:
    trimmed = trim_base(tiny, tmp_path / "trimmed", layers=None, texts=TEXTS)
    for text in TEXTS:
        torch.testing.assert_close(hidden(trimmed, text), hidden(tiny, text))


def test_words_that_were_dropped_are_spelled_with_shorter_pieces(tiny: BaseModel, tmp_path: Path) -> None:
    trimmed = trim_base(tiny, tmp_path / "trimmed", layers=None, texts=TEXTS)
    before, after = load_tokenizer(tiny.path), load_tokenizer(trimmed.path)
    assert len(after) < len(before) // 4
    assert before.tokenize("symphony") == ["symphony"]
    pieces = after.tokenize("symphony")
    assert "".join(piece.removeprefix("##") for piece in pieces) == "symphony"
    assert after.convert_tokens_to_ids("[PAD]") == load_encoder(trimmed.path).config.pad_token_id


def test_the_lower_layers_are_kept(tiny: BaseModel, tmp_path: Path) -> None:
    trimmed = trim_base(tiny, tmp_path / "trimmed", layers=1, texts=None)
    whole, part = load_encoder(tiny.path).state_dict(), load_encoder(trimmed.path).state_dict()
    assert trimmed.name == tiny.name
    assert trimmed.sha256 == tiny.sha256
    assert 0 < len(part) < len(whole)
    for name, weight in part.items():
        torch.testing.assert_close(weight, whole[name])


def test_of_a_feed_forward_layer_the_units_with_the_largest_weights_are_kept(tmp_path: Path) -> None:
    """All but five units are made to say nothing, so that nothing may change when they go."""
    tiny = make_tiny(tmp_path / "tiny")
    encoder: Any = load_encoder(tiny.path)
    quiet = torch.arange(64) % 13 != 0
    with torch.no_grad():
        for layer in encoder.encoder.layer:
            layer.intermediate.dense.weight[quiet] *= 1e-9
            layer.intermediate.dense.bias[quiet] = 0
    encoder.save_pretrained(tiny.path)
    trimmed = trim_base(tiny, tmp_path / "trimmed", feed_forward=5)
    assert load_encoder(trimmed.path).state_dict()["encoder.layer.1.intermediate.dense.weight"].shape == (5, 32)
    torch.testing.assert_close(hidden(trimmed, TEXTS[0]), hidden(tiny, TEXTS[0]))


def test_more_units_than_there_are_is_refused(tiny: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"have 64 units; model\.feed_forward asks for 65"):
        trim_base(tiny, tmp_path / "trimmed", feed_forward=65)


def test_more_layers_than_there_are_is_refused(tiny: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="has 2 layers"):
        trim_base(tiny, tmp_path / "trimmed", layers=3, texts=None)


def test_special_tokens_keep_their_place_around_a_text(tmp_path: Path) -> None:
    base = resolve_base("minilm", scratch=tmp_path)
    trimmed = load_tokenizer(trim_base(base, tmp_path / "trimmed", layers=1, texts=TEXTS).path)
    tokens = trimmed.convert_ids_to_tokens(trimmed(TEXTS[0])["input_ids"])
    assert tokens == ["[CLS]", *load_tokenizer(base.path).tokenize(TEXTS[0]), "[SEP]"]
