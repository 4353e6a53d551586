"""What each part of the recipe is worth: the recipe without it, several seeds each, against the recipe as it is.

    python -m tocsin_training.ablation training/train.toml ablation.json --benchmark FILE

The parts stand in ``training/ablations.toml``, each a named table of settings to put over the recipe's; another file
may be given. Runs that the output already has are not repeated; see ``experiment``. Hours on two cores: every row of
the table is as many trainings as there are seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tocsin.toml import read_toml
from tocsin_training.config import Settings, load_settings
from tocsin_training.errors import ConfigError
from tocsin_training.experiment import measure_missing, run_for_people, table, with_benchmark, with_seed

AS_IT_IS = "the recipe"


def read_ablations(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> section -> settings to put over a recipe's.

    :raises ConfigError: the file is missing, not TOML, or holds something else than tables of tables.
    """
    found = read_toml(path, "the list of ablations", error=ConfigError)
    for name, sections in found.items():
        if not isinstance(sections, dict) or not all(isinstance(values, dict) for values in sections.values()):
            raise ConfigError(f'{path}: {name!r} must hold sections of a recipe, as in ["{name}".finetune]')
        if name == AS_IT_IS:
            raise ConfigError(f"{path}: {name!r} is what the others are held against; give it another name")
    return found


def plan_ablations(
    recipe: Path, ablations: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], *, benchmark: Path | None = None
) -> list[tuple[str, Settings]]:
    """Every variant with every seed, seed by seed, so that what is there when it is stopped can be compared.

    :raises ConfigError: a variant sets what no recipe has; the message names both.
    """
    variants = {AS_IT_IS: load_settings(recipe)}
    for name, overrides in ablations.items():
        try:
            variants[name] = load_settings(recipe, overrides=overrides)
        except ConfigError as error:
            raise ConfigError(f"ablation {name!r}: {error}") from error
    return [
        (name, with_seed(with_benchmark(settings, benchmark), seed))
        for seed in seeds
        for name, settings in variants.items()
    ]


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
    ablations = read_ablations(arguments.ablations or arguments.recipe.with_name("ablations.toml"))
    if unknown := sorted(set(arguments.only or ()) - ablations.keys()):
        parser.error(f"no ablation {', '.join(unknown)}; there are: {', '.join(ablations)}")
    wanted = {name: ablations[name] for name in arguments.only or ablations}
    plan = plan_ablations(arguments.recipe, wanted, arguments.seeds, benchmark=arguments.benchmark)
    outcomes = measure_missing(arguments.out, plan, Console(stderr=True))
    Console().print(table(outcomes, "ablations: mean ± standard deviation over seeds", against=AS_IT_IS))


if __name__ == "__main__":
    run_for_people(main)
