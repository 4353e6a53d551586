from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tocsin_training.base import resolve_base
from tocsin_training.config import FinetuneSettings, Settings
from tocsin_training.errors import BaseModelError
from tocsin_training.finetune import make_model, rate_groups
from tocsin_training.model import EventModel, load_encoder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EventModel:
    scratch: Path = tmp_path_factory.mktemp("base")
    return EventModel(encoder=load_encoder(resolve_base("tiny", scratch=scratch).path), labels=3)


def rates(model: EventModel, **settings: float) -> dict[str, float]:
    """The learning rate of every trained parameter, by name."""
    groups = rate_groups(model, 1.0, FinetuneSettings.model_validate(settings))
    by_parameter = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(by_parameter), "a parameter is in one group only"
    return {name: by_parameter[id(each)] for name, each in model.named_parameters() if each.requires_grad}


def test_the_encoder_learns_at_one_rate_and_the_head_faster(model: EventModel) -> None:
    found = rates(model, head_learning_rate_multiple=10)
    assert {rate for name, rate in found.items() if name.startswith("encoder.")} == {1.0}
    assert {rate for name, rate in found.items() if name.startswith("head.")} == {10.0}


def test_with_layer_decay_lower_layers_learn_more_slowly_and_embeddings_slowest(model: EventModel) -> None:
    found = rates(model, layer_decay=0.5, head_learning_rate_multiple=10)
    for name, rate in found.items():
        if "layer.1." in name:
            assert rate == 1.0
        elif "layer.0." in name:
            assert rate == 0.5
        elif "embeddings" in name:
            assert rate == 0.25
    assert found["head.weight"] == 10.0


def test_frozen_parameters_are_in_no_group(model: EventModel) -> None:
    word_embeddings = model.encoder.get_input_embeddings().weight
    word_embeddings.requires_grad_(False)
    try:
        groups = rate_groups(model, 1.0, FinetuneSettings())
        assert all(parameter is not word_embeddings for group in groups for parameter in group["params"])
    finally:
        word_embeddings.requires_grad_(True)


def test_dropout_inside_the_encoder_is_the_recipes(settings: Settings, tmp_path: Path) -> None:
    base = resolve_base("tiny", scratch=tmp_path)

    def shares(**model: float) -> set[float]:
        recipe = settings.model_copy(update={"model": settings.model.model_copy(update=model)})
        encoder = make_model(base, recipe, labels=3).encoder
        return {part.p for part in encoder.modules() if isinstance(part, torch.nn.Dropout)}

    assert shares() == {0.1}, "the encoder's own"
    assert shares(encoder_dropout=0.0) == {0.0}


def test_a_model_goes_on_with_the_weights_it_had_and_only_if_it_is_built_alike(
    settings: Settings, tmp_path: Path
) -> None:
    base = resolve_base("tiny", scratch=tmp_path / "base")
    before = make_model(base, settings, labels=3)
    before.save(tmp_path / "old")
    other_seed = settings.finetune.model_copy(update={"seed": settings.finetune.seed + 1})
    start = settings.model.model_copy(update={"start": tmp_path / "old"})
    recipe = settings.model_copy(update={"finetune": other_seed, "model": start})
    after = make_model(base, recipe, labels=3)
    assert torch.equal(after.head.weight, before.head.weight)
    with pytest.raises(BaseModelError, match=r"old: is not built as this recipe's model.*head.bias \(3,\) and \(4,\)"):
        make_model(base, recipe, labels=4)
