from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tocsin.errors import UsageError
from tocsin_training.errors import BaseModelError
from tocsin_training.model import EventModel, load_tokenizer
from tocsin_training.soup import average, main


def test_every_weight_is_the_mean_of_the_models(save_model: Callable[..., Path], tmp_path: Path) -> None:
    models = [save_model(tmp_path / str(seed), seed) for seed in range(3)]
    mean = EventModel.load(average(models, tmp_path / "mean"))
    states = [EventModel.load(model).state_dict() for model in models]
    for name, found in mean.state_dict().items():
        expected = torch.stack([state[name].float() for state in states]).mean(dim=0)
        assert torch.allclose(found.float(), expected, atol=1e-6), name
    assert not torch.equal(mean.head.weight, states[0]["head.weight"])


def test_the_command_prints_where_a_model_lies_that_answers(
    save_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = [save_model(tmp_path / str(seed), seed) for seed in range(2)]
    monkeypatch.setattr(sys, "argv", ["soup", str(tmp_path / "mean"), *map(str, models)])
    main()
    assert capsys.readouterr().out == f"{tmp_path / 'mean'}\n"
    assert load_tokenizer(str(tmp_path / "mean")).get_vocab() == load_tokenizer(str(models[0])).get_vocab()


def test_models_that_are_not_built_alike_have_no_mean(save_model: Callable[..., Path], tmp_path: Path) -> None:
    models = [save_model(tmp_path / "three", 0), save_model(tmp_path / "four", 0, labels=4)]
    with pytest.raises(BaseModelError, match=r"not built alike.*head.bias \(3,\) and \(4,\)"):
        average(models, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_a_folder_without_model_one_model_or_a_folder_in_use_is_refused(
    save_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model", 0)
    with pytest.raises(BaseModelError, match=r"none: no fine-tuned model .*name the model/ folder of a run"):
        average([model, tmp_path / "none"], tmp_path / "mean")
    with pytest.raises(UsageError, match="two or more"):
        average([model], tmp_path / "mean")
    with pytest.raises(UsageError, match="is there already"):
        average([model, model], model)
