from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from tocsin_training.config import Settings
from tocsin_training.errors import ConfigError
from tocsin_training.model import EventModel
from tocsin_training.parallel import is_first, processes_together, side_by_side
from tocsin_training.pipeline import train


def place(offset: int) -> tuple[int, int, bool]:
    """Where a process stands; at module level, so that new processes can import it."""
    return int(os.environ["RANK"]) + offset, processes_together(), is_first()


def refuse(message: str) -> None:
    raise ConfigError(message)


def interrupt_parent() -> None:
    os.kill(os.getppid(), signal.SIGINT)
    signal.pause()


def test_the_first_process_answers_and_knows_what_it_is() -> None:
    assert (processes_together(), is_first()) == (1, True)
    assert side_by_side(2, place, 10) == (10, 2, True)


def test_a_message_for_people_comes_home_as_it_is() -> None:
    with pytest.raises(ConfigError, match="the batch is too small"):
        side_by_side(2, refuse, "the batch is too small")


def test_an_interrupt_ends_the_others_and_the_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(2, interrupt_parent)
    assert signal.getsignal(signal.SIGTERM) is before


def test_two_processes_train_one_model_together(
    settings: Settings, tmp_path: Path, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    two = settings.finetune.model_copy(update={"processes": 2, "threads": 1, "epochs": 4})
    with caplog.at_level(logging.INFO, logger="tocsin_training"):
        run = train(settings.model_copy(update={"runs": tmp_path, "finetune": two}), "two", console, until="finetune")
    figures = run.figures()["finetune"]
    assert figures["processes"] == 2
    epochs = [entry for entry in figures["history"] if "eval_macro_f1" in entry]
    assert epochs[-1]["eval_loss"] < epochs[0]["eval_loss"], "it has learned"
    assert figures["steps"] == epochs[-1]["step"], "a step is a batch of the recipe, whoever reads its parts"
    assert EventModel.load(run.model).head.out_features > 1
    assert not run.checkpoints.exists()
    assert "epoch 4.0" in run.log.read_text(), "the first process keeps the log"


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    finetune = {"batch_size": 32, "processes": 3}
    with pytest.raises(ValueError, match="batch_size 32 cannot be shared out to 3 processes"):
        Settings.model_validate(
            {"name": "x", "data": {"corpus": "c", "taxonomy": "t"}, "runs": "r", "finetune": finetune}
        )
