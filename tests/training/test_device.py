"""What computes, told without a GPU: PyTorch's answers are put in its mouth."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tocsin_training import device, estimate, finetune
from tocsin_training.config import FinetuneSettings, Settings
from tocsin_training.errors import ConfigError
from tocsin_training.schedule import Schedule

Gpus = Callable[..., None]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """Have PyTorch see so many GPUs, of which bf16 is multiplied or not."""

    def there(count: int, *, bf16: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Thunder 9")
        # Emulated everywhere, and slower than fp32: that must not count.
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation
        )

    return there


def options(**values: object) -> FinetuneSettings:
    return FinetuneSettings.model_validate(values)


def test_a_gpu_is_used_where_there_is_one_unless_the_recipe_says_cpu(gpus: Gpus) -> None:
    assert not device.uses_gpu(options())
    gpus(1)
    assert device.uses_gpu(options())
    assert not device.uses_gpu(options(device="cpu"))


def test_bf16_goes_by_what_will_compute(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu in (False, True):
        monkeypatch.setattr(device, "multiplies_bf16", lambda cpu=cpu: cpu)
        for gpu in (False, True):
            gpus(1, bf16=gpu)
            assert device.uses_bf16(options()) is gpu
            assert device.uses_bf16(options(device="cpu")) is cpu
        gpus(0)
        assert device.uses_bf16(options()) is cpu
        assert device.uses_bf16(options(bf16="on")) and not device.uses_bf16(options(bf16="off"))


def test_attention_is_the_plain_kind_on_a_cpu_and_the_fastest_on_a_gpu(gpus: Gpus) -> None:
    assert device.attention(options()) == "eager"
    gpus(1)
    assert device.attention(options()) is None
    assert device.attention(options(device="cpu")) == "eager"


def test_the_trainer_is_told_what_computes_and_takes_one_gpu(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Mock(return_value=Mock(_n_gpu=3))
    monkeypatch.setattr(finetune, "TrainingArguments", made)

    def told(**values: object) -> tuple[dict[str, Any], int]:
        chosen = options(**values)
        arguments = finetune.training_arguments(chosen, Schedule.of(chosen, 100), Mock())
        return dict(made.call_args.kwargs), arguments._n_gpu

    gpus(3)
    said, taken = told()
    assert (said["use_cpu"], said["bf16"], said["ddp_backend"], taken) == (False, True, None, 1)
    said, _ = told(device="cpu", bf16="off")
    assert (said["use_cpu"], said["bf16"]) == (True, False)
    gpus(0)
    assert told()[0]["use_cpu"] is True


def test_an_idle_gpu_is_told(gpus: Gpus, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tocsin_training")
    device.announce(options(bf16="off"))
    assert "fine-tuning on CPU, 2 threads, fp32" in caplog.text and "idle" not in caplog.text
    gpus(2)
    device.announce(options(device="cpu"))
    assert "a GPU stands idle (Thunder 9)" in caplog.text and "--device auto" in caplog.text
    device.announce(options())
    assert "fine-tuning on Thunder 9, bf16" in caplog.text
    assert "1 of 2 GPUs stand idle: finetune.processes = 2" in caplog.text


def test_more_processes_than_gpus_are_refused_before_they_start(gpus: Gpus) -> None:
    gpus(1)
    with pytest.raises(ConfigError, match="2 processes take a GPU each, and there are 1"):
        device.announce(options(processes=2))
    device.announce(options(processes=2, device="cpu"))


def test_a_clock_waits_for_the_gpu_and_leaves_one_alone_that_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = Mock()
    monkeypatch.setattr(torch.cuda, "synchronize", waited)
    device.wait_for_gpu()
    waited.assert_not_called()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    timer = finetune.StepTimer()
    timer.on_step_begin()
    timer.on_step_end()
    assert waited.call_count == 2


def test_memory_of_the_gpu_is_estimated_with_what_is_free_on_it(
    gpus: Gpus, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(1)
    answers = {"reset_peak_memory_stats": None, "max_memory_allocated": 6 * 10**9, "memory_reserved": 10**9}
    for name, value in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (4 * 10**9, 16 * 10**9))

    def short(*_: object) -> Mock:
        trainer = Mock()
        trainer.add_callback.side_effect = lambda timer: timer.seconds.extend([1.0, 0.5, 0.5])
        trainer.eval_dataset.select.return_value = range(64)
        trainer.event_model.parameters.side_effect = lambda: iter(())
        return trainer

    monkeypatch.setattr(estimate, "_short_trainer", short)
    prepared: Any = {"train": range(320), "validation": range(100)}
    on_gpu = settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"device": "auto"})})
    found = estimate.estimate(prepared, Mock(), on_gpu)
    assert (found.gpu_memory_bytes, found.gpu_memory_free_bytes) == (6 * 10**9, 5 * 10**9)
    assert not found.fits_gpu and not found.fits
    assert "6.0 GB on the GPU (free: 5.0 GB)" in str(found)
    found = estimate.estimate(prepared, Mock(), settings)
    assert found.gpu_memory_bytes is None and found.fits_gpu
    assert "GPU" not in str(found)
