"""The mean of several trained models' weights, as one model.

    python -m tocsin_training.soup FOLDER MODEL MODEL [MODEL ...]

A MODEL is the model/ folder of a run. Models that were fine-tuned from the same start lie in one basin, and the mean of
their weights is often better than any of them, at the price of one (a "soup": Wortsman et al. 2022,
https://arxiv.org/abs/2203.05482). A teacher that goes on with new records is averaged with what it was before.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tocsin.errors import UsageError
from tocsin_training.base import head_of
from tocsin_training.errors import BaseModelError
from tocsin_training.experiment import run_for_people

if TYPE_CHECKING:
    from tocsin_training.model import EventModel


def average(models: Sequence[Path], out: Path) -> Path:
    """Write the mean of models' weights, with the tokenizer of the first.

    :return: ``out``.
    :raises UsageError: the folder holds something, or there is only one model.
    :raises BaseModelError: a model is missing, or they are not built alike.
    """
    from torch.optim.swa_utils import AveragedModel

    from tocsin_training.model import EventModel, differences, load_tokenizer

    if len(models) < 2:
        raise UsageError("one model has no mean; name two or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already; name a new folder")
    for model in models:
        head_of(model)
    first, tokenizer = EventModel.load(models[0]), load_tokenizer(str(models[0]))
    mean = AveragedModel(first)
    for model in models:
        other = EventModel.load(model)
        faults = differences(first, other)
        if not faults and load_tokenizer(str(model)).get_vocab() != tokenizer.get_vocab():
            faults = "their tokenizers have other words"
        if faults:
            raise BaseModelError(f"{models[0]} and {model} are not built alike, so their mean means nothing: {faults}")
        mean.update_parameters(other)
    cast("EventModel", mean.module).save(out)
    tokenizer.save_pretrained(out)
    return out


def main() -> None:
    """Average the weights of trained models."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path, help="folder to write; it must be new")
    parser.add_argument("models", type=Path, nargs="+", help="the model/ folders of runs")
    arguments = parser.parse_args()
    print(average(arguments.models, arguments.out))


if __name__ == "__main__":
    run_for_people(main)
