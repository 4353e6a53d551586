"""What the corpus's size bought: the recipe run on parts of it, with several seeds, as a table and a picture.

    python -m tocsin_training.learning_curve training/train.toml datasets/learning_curve.json

Without the teacher, which has seen the whole corpus and would lend the small parts what they lack. A run ends with
fine-tuning: nothing is exported, calibrated or packed, the PyTorch model is measured as it is, and labels are given
above a logit of zero. Every share is run with the first seed before any is run with the second, so that a whole curve
is there early.

It can be made over several nights: points that the file already has are not measured again, and a run that was stopped
goes on from its last checkpoint. ``--seeds`` without a number measures nothing and draws what the file has. What makes
it bearable: ``--device auto`` takes a GPU where there is one; ``--no-augmentation`` and ``--epochs`` cost less and make
another curve, so each point says how it was made, and only like points stand together: a file may hold several curves,
and none is lost when another is measured. The picture is of the one asked for, which is then the file's last. `tocsin
corpus card` puts the tables and the picture into the corpus's card.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from tocsin_training import plots
from tocsin_training.config import AugmentSettings, Settings, load_settings
from tocsin_training.experiment import (
    FIGURES,
    read_measured,
    run_for_people,
    spread,
    try_out,
    variant_sha256,
    with_benchmark,
    with_seed,
)
from tocsin_training.report import Grid
from tocsin_training.run import write_json

FILE = "learning_curve.json"
"""Beside the card, the points; a picture of the same name lies with it."""


Made = tuple[str, str | None, float | None, bool | None]
"""Hashes of corpus and recipe, epochs, and whether more was learned than the records."""


@dataclass(frozen=True)
class Point:
    """One run."""

    share: float
    seed: int
    records: int
    corpus_sha256: str
    macro_f1: float
    """On the test split."""
    weighted_f1: float
    case_weighted_f1: float | None
    """CASE 2021 with the best label forced, where its file is."""
    recipe_sha256: str | None = None
    """Of what the points of a curve have in common (``curve_sha256``); older files lack it."""
    epochs: float | None = None
    augmented: bool | None = None
    minutes: float | None = None
    """Of fine-tuning."""

    @property
    def made(self) -> Made:
        """What it was learned from and how; points of one curve have this in common."""
        return self.corpus_sha256, self.recipe_sha256, self.epochs, self.augmented


def measure(settings: Settings, share: float, seed: int, console: Console) -> Point:
    """Fine-tune on a share of the training split, evenly spread over its files, and measure."""
    from tocsin_training.corpus import corpus_sha256, load_corpus

    records = round(share * len(load_corpus(settings.data.corpus)["train"]))
    part = _part(settings, records, seed)
    figures, minutes = try_out(part, f"curve-{share}-{seed}", console)
    return Point(
        share=share,
        seed=seed,
        records=records,
        corpus_sha256=corpus_sha256(settings.data.corpus),
        recipe_sha256=curve_sha256(settings),
        epochs=part.finetune.epochs,
        augmented=is_augmented(part),
        minutes=minutes,
        **figures,
    )


def curve_sha256(settings: Settings) -> str:
    """Hash of the recipe without what differs from point to point or says only where it is run and measured."""
    return variant_sha256(_part(settings, None, 0))


def is_augmented(settings: Settings) -> bool:
    """Whether more is learned than the records."""
    return settings.augment.joined_share + settings.augment.slips_share > 0


def _part(settings: Settings, records: int | None, seed: int) -> Settings:
    untaught = settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"train_records": records}),
            "finetune": settings.finetune.model_copy(update={"teacher_logits": None}),
        }
    )
    return with_seed(untaught, seed)


def grid(points: Sequence[Point]) -> Grid:
    """Mean and spread over the seeds for each share."""
    rows = []
    for share in sorted({point.share for point in points}):
        of_share = [point for point in points if point.share == share]
        cells = [spread([getattr(point, key) for point in of_share]) for key in FIGURES]
        rows.append((f"{share:.0%}", f"{of_share[0].records:,}", str(len(of_share)), *cells))
    return Grid("learning curve: mean ± standard deviation", ("share", "records", "seeds", *FIGURES.values()), rows)


def curves(points: Sequence[Point]) -> list[list[Point]]:
    """The points of each curve, curves in the order of their last points."""
    by_curve: dict[Made, list[Point]] = {}
    for point in points:
        # Taken out and put back, so that a curve stands where its last point does.
        by_curve[point.made] = [*by_curve.pop(point.made, []), point]
    return list(by_curve.values())


def read_points(path: Path) -> list[Point]:
    """Runs measured before; none when there is no file yet.

    :raises ConfigError: the file is not one of these.
    """
    return read_measured(path, Point, "points of a learning curve")


def _missing(points: Sequence[Point], shares: Sequence[float], seeds: Sequence[int]) -> list[tuple[float, int]]:
    """What is still to be measured, in the order in which it will be."""
    known = {(point.share, point.seed) for point in points}
    return [(share, seed) for seed in seeds for share in shares if (share, seed) not in known]


def minutes_left(points: Sequence[Point], missing: Sequence[tuple[float, int]]) -> float | None:
    """How long the missing runs will take, going by the time that a share took so far; None before the first."""
    timed = [point for point in points if point.minutes is not None]
    if not timed:
        return None
    a_share = sum(point.minutes or 0.0 for point in timed) / sum(point.share for point in timed)
    return a_share * sum(share for share, _ in missing)


def draw(points: Sequence[Point], path: Path) -> None:
    """The curve as a PNG file."""
    figures = {name: [(point.records, getattr(point, key)) for point in points] for key, name in FIGURES.items()}
    plots.learning_curve(figures, path)


def _settings(arguments: argparse.Namespace) -> Settings:
    """The recipe with what the command line changes of it."""
    settings = with_benchmark(load_settings(arguments.recipe), arguments.benchmark)
    finetune = {
        "device": arguments.device or settings.finetune.device,
        "epochs": arguments.epochs or settings.finetune.epochs,
    }
    return settings.model_copy(
        update={
            "finetune": settings.finetune.model_copy(update=finetune),
            "augment": AugmentSettings() if arguments.no_augmentation else settings.augment,
        }
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path, help=f"a JSON file; {FILE} beside the card is taken into it")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0], help="of the training records")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="none: only draw")
    parser.add_argument("--benchmark", type=Path, help="CASE 2021 task 2 file")
    parser.add_argument("--device", choices=("cpu", "auto"), help="instead of the recipe's")
    parser.add_argument("--epochs", type=float, help="instead of the recipe's")
    parser.add_argument("--no-augmentation", action="store_true", help="learn the records alone")
    return parser.parse_args()


def _write(path: Path, points: Sequence[Point]) -> None:
    write_json(path, [asdict(point) for point in points])


def main() -> None:
    """Measure what is missing of the curve, print it and draw it beside the file."""
    from tocsin_training.corpus import corpus_sha256

    arguments = _arguments()
    settings, console = _settings(arguments), Console(stderr=True)
    now = corpus_sha256(settings.data.corpus)
    how: Made = now, curve_sha256(settings), settings.finetune.epochs, is_augmented(settings)
    # A point of another state of the corpus, or of another recipe, is not on this curve; it cost hours all the same.
    measured = read_points(arguments.out)
    others = [point for point in measured if point.made != how]
    points = [point for point in measured if point.made == how]
    missing = _missing(points, arguments.shares, arguments.seeds)
    for number, (share, seed) in enumerate(missing):
        left = minutes_left(points, missing[number:])
        forecast = "" if left is None else f", about {left:.0f} minutes"
        console.print(f"{len(missing) - number} runs to go{forecast}; now {share:.0%} of the records, seed {seed}")
        points.append(measure(settings, share, seed, console))
        _write(arguments.out, [*others, *points])
    if not points:
        raise SystemExit(
            f"{arguments.out}: holds no run of this recipe on this state of the corpus; give --seeds to measure some"
        )
    _write(arguments.out, [*others, *points])
    Console().print(grid(points))
    draw(points, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    run_for_people(main)
