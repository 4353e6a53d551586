"""What the corpus's size bought: the recipe run on parts of it, with several seeds, as a table and a picture.

    python -m tocsin_training.learning_curve training/train.toml datasets/learning_curve.json

Without the teacher, which has seen the whole corpus and would lend the small parts what they lack. Runs that the file
already has are not repeated; see ``experiment``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from tocsin_training import plots
from tocsin_training.config import Settings, load_settings
from tocsin_training.experiment import FIGURES, measure_missing, run_for_people, table, with_benchmark, with_seed


def part(settings: Settings, share: float, records: int, seed: int) -> Settings:
    """The recipe on a share of the training split, evenly spread over its files, and without a teacher.

    :param records: in the whole training split.
    """
    return with_seed(
        settings.model_copy(
            update={
                "data": settings.data.model_copy(update={"train_records": round(share * records)}),
                "finetune": settings.finetune.model_copy(update={"teacher_logits": None}),
            }
        ),
        seed,
    )


def main() -> None:
    """Measure what is missing of the curve, print it and draw it beside the file."""
    from tocsin_training.corpus import load_corpus

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--benchmark", type=Path, help="CASE 2021 task 2 file")
    arguments = parser.parse_args()
    settings = with_benchmark(load_settings(arguments.recipe), arguments.benchmark)
    records = len(load_corpus(settings.data.corpus)["train"])
    # Seed by seed, so that a curve that was stopped has all its shares for some seeds.
    plan = [
        (f"{share:.0%}", part(settings, share, records, seed)) for seed in arguments.seeds for share in arguments.shares
    ]
    outcomes = measure_missing(arguments.out, plan, Console(stderr=True))
    outcomes.sort(key=lambda outcome: outcome.records)
    Console().print(table(outcomes, "learning curve: mean ± standard deviation"))
    plots.learning_curve(
        {name: [(outcome.records, getattr(outcome, key)) for outcome in outcomes] for key, name in FIGURES.items()},
        arguments.out.with_suffix(".png"),
    )


if __name__ == "__main__":
    run_for_people(main)
