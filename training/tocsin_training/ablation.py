"""What parts of the recipe are worth: the recipe without each, several seeds each, against the recipe as it is.

    python -m tocsin_training.ablation training/train.toml ablation.json --benchmark FILE
    python -m tocsin_training.ablation training/teacher.toml teacher-ablation.json --benchmark FILE

The parts stand in ``training/ablations.toml``, each a named table of settings to put over the recipe's; another file
may be given. What changes nothing of a recipe, as its augmentation where there is none, is skipped. Runs that the
output already has are not repeated; see ``experiment``. Hours on two cores: every row of the table is as many trainings
as there are seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from tocsin_training.experiment import (
    AS_IT_IS,
    distinct,
    load_variants,
    measure_missing,
    plan,
    read_variants,
    run_for_people,
    table,
)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ablations", type=Path, help="by default ablations.toml beside the recipe")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--benchmark", type=Path, help="CASE 2021 task 2 file")
    arguments = parser.parse_args()
    ablations = read_variants(arguments.ablations or arguments.recipe.with_name("ablations.toml"))
    variants = load_variants(arguments.recipe, ablations, only=arguments.only, benchmark=arguments.benchmark)
    console = Console(stderr=True)
    outcomes = measure_missing(arguments.out, plan(distinct(variants, console), arguments.seeds), console)
    Console().print(table(outcomes, "ablations: mean ± standard deviation over seeds", against=AS_IT_IS))


if __name__ == "__main__":
    run_for_people(main)
