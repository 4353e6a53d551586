"""What the corpus's size bought: the recipe run on parts of it, with several seeds, as a table and a picture.

    python -m tocsin_training.learning_curve training/train.toml datasets/learning_curve.json

Without the teacher, which has seen the whole corpus and would lend the small parts what they lack. A run ends with
fine-tuning: nothing is exported, calibrated or packed, the PyTorch model is measured as it is, and labels are given
above a logit of zero. Every share is run with the first seed before any is run with the second, so that a whole curve
is there early.

    python -m tocsin_training.learning_curve training/train.toml own-rows.json --rows 250 500 1000 2000 4000

asks instead what so many labelled rows of their own buy somebody who gives them to `tocsin train --data`: see
``own_rows``, which also says why this curve lies below the other. ``--mix`` is that command's.

It can be made over several nights: points that the file already has are not measured again, and a run that was stopped
goes on from its last checkpoint. ``--seeds`` without a number measures nothing and draws what the file has. What makes
it bearable: ``--device auto`` takes a GPU where there is one; ``--no-augmentation`` and ``--epochs`` cost less and make
another curve, so each point says how it was made, and only like points stand together: a file may hold several curves,
and none is lost when another is measured. The picture is of the one asked for, which is then the file's last. `tocsin
corpus card` puts the tables and the picture into the corpus's card.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tocsin_training import own_rows, plots
from tocsin_training.benchmark import with_benchmark
from tocsin_training.config import AugmentSettings, Settings, load_settings
from tocsin_training.experiment import (
    FIGURES,
    read_measured,
    run_for_people,
    spread,
    try_out,
    variant_sha256,
    with_seed,
)
from tocsin_training.importing.options import NO_MIX, ImportOptions
from tocsin_training.report import Grid
from tocsin_training.run import write_json

FILE = "learning_curve.json"
"""Beside the card, the points; a picture of the same name lies with it."""


Made = tuple[str, str | None, float | None, bool | None, str | None]
"""Hashes of corpus and recipe, epochs, whether more was learned than the records, ``mix`` where rows are counted."""
_OF_RELEASES = {"false_alarms": "eventless texts labelled", "sent_to_review": "sent to review"}


@dataclass(frozen=True)
class Point:
    """One run."""

    share: float
    """Of the training records."""
    seed: int
    records: int
    """Learned from."""
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
    """Of fine-tuning; where rows are counted, of all stages."""
    rows: int | None = None
    """Of the table that the records were given as; none: they were taken as they are."""
    mix: str | None = None
    """Beside such a table, `none` or the share of the project's records."""
    false_alarms: float | None = None
    sent_to_review: float | None = None

    @property
    def made(self) -> Made:
        """What it was learned from and how; points of one curve have this in common."""
        return self.corpus_sha256, self.recipe_sha256, self.epochs, self.augmented, self.mix

    @property
    def size(self) -> float:
        """What differs along the curve: rows, or the share."""
        return self.share if self.rows is None else self.rows


def measure(settings: Settings, share: float, seed: int, console: Console) -> Point:
    """Fine-tune on a share of the training split, evenly spread over its files, and measure."""
    records = round(share * _records(settings))
    figures, minutes = try_out(_part(settings, records, seed), f"curve-{share}-{seed}", console)
    return _point(settings, share, seed, records=records, minutes=minutes, **figures)


def measure_rows(settings: Settings, rows: int, seed: int, console: Console, *, mix: str = NO_MIX) -> Point:
    """Train on a table of so many rows as its owner would, and measure the release."""
    share = rows / _records(settings)
    return _point(
        settings, share, seed, rows=rows, mix=mix, **own_rows.try_rows(settings, rows, seed, console, mix=mix)
    )


def _records(settings: Settings) -> int:
    """Of the whole training split."""
    from tocsin_training.corpus import load_corpus

    return len(load_corpus(settings.data.corpus)["train"])


def _point(settings: Settings, share: float, seed: int, **figures: Any) -> Point:  # noqa: ANN401
    """What was measured, with what tells its curve from others."""
    from tocsin_training.corpus import corpus_sha256

    return Point(
        share=share,
        seed=seed,
        corpus_sha256=corpus_sha256(settings.data.corpus),
        recipe_sha256=curve_sha256(settings),
        epochs=settings.finetune.epochs,
        augmented=settings.augment.makes_texts,
        **figures,
    )


def curve_sha256(settings: Settings) -> str:
    """Hash of the recipe without what differs from point to point or says only where it is run and measured."""
    return variant_sha256(_part(settings, None, 0))


def _part(settings: Settings, records: int | None, seed: int) -> Settings:
    untaught = settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"train_records": records}),
            "finetune": settings.finetune.model_copy(update={"teacher_logits": None}),
        }
    )
    return with_seed(untaught, seed)


def grid(points: Sequence[Point]) -> Grid:
    """Mean and spread over the seeds for each size."""
    of_rows = points[0].rows is not None
    figures = FIGURES | (_OF_RELEASES if of_rows else {})
    rows = []
    for size in sorted({point.size for point in points}):
        alike = [point for point in points if point.size == size]
        cells = [spread([getattr(point, key) for point in alike]) for key in figures]
        # Of tables of one length now more and now fewer repeat each other, and are held out together.
        learned = f"{statistics.mean(point.records for point in alike):,.0f}"
        rows.append((f"{size:,.0f}" if of_rows else f"{size:.0%}", learned, str(len(alike)), *cells))
    heads = ("labelled rows" if of_rows else "share", "records", "seeds", *figures.values())
    return Grid("learning curve: mean ± standard deviation", heads, rows)


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


def _missing(points: Sequence[Point], sizes: Sequence[float], seeds: Sequence[int]) -> list[tuple[float, int]]:
    """What is still to be measured, in the order in which it will be."""
    known = {(point.size, point.seed) for point in points}
    return [(size, seed) for seed in seeds for size in sizes if (size, seed) not in known]


def minutes_left(points: Sequence[Point], missing: Sequence[tuple[float, int]]) -> float | None:
    """How long the missing runs will take; None before the first.

    Going by runs of the same size, and where there was none, by the time that a share or a row took so far.
    """
    timed = [(point.size, point.minutes) for point in points if point.minutes is not None]
    if not timed:
        return None
    each = sum(minutes for _, minutes in timed) / sum(size for size, _ in timed)

    def forecast(size: float) -> float:
        alike = [minutes for other, minutes in timed if other == size]
        return statistics.mean(alike) if alike else each * size

    return sum(forecast(size) for size, _ in missing)


def draw(points: Sequence[Point], path: Path) -> None:
    """The curve as a PNG file."""
    of_rows = points[0].rows is not None
    figures = {
        name: [(point.records if point.rows is None else point.rows, getattr(point, key)) for point in points]
        for key, name in FIGURES.items()
    }
    plots.learning_curve(figures, path, sizes="labelled rows of one's own" if of_rows else "training records")


def _settings(arguments: argparse.Namespace) -> Settings:
    """The recipe with what the command line changes of it."""
    settings = with_benchmark(load_settings(arguments.recipe), arguments.benchmark)
    finetune = {
        "device": arguments.device or settings.finetune.device,
        "epochs": arguments.epochs or settings.finetune.epochs,
        # Whoever asks for few epochs means them.
        "least_steps": 0 if arguments.epochs else settings.finetune.least_steps,
        "most_steps": None if arguments.epochs else settings.finetune.most_steps,
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
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0], help="of the training records")
    sizes.add_argument("--rows", type=int, nargs="+", help="instead: of a table that is trained on as one's own data")
    parser.add_argument("--mix", type=_mix, help="with --rows: share of the project's records beside it, or `none`")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="none: only draw")
    parser.add_argument("--benchmark", type=Path, help="CASE 2021 task 2 file")
    parser.add_argument("--device", choices=("cpu", "auto"), help="instead of the recipe's")
    parser.add_argument("--epochs", type=float, help="instead of the recipe's")
    parser.add_argument("--no-augmentation", action="store_true", help="learn the records alone")
    arguments = parser.parse_args()
    if arguments.mix is not None and arguments.rows is None:
        parser.error("--mix goes with --rows")
    return arguments


def _mix(value: str) -> str:
    """What `--mix` of `tocsin train --data` takes."""
    try:
        return ImportOptions(mix=value).mix
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is neither `none` nor a share between 0 and 1") from error


def _write(path: Path, points: Sequence[Point]) -> None:
    write_json(path, [asdict(point) for point in points])


def main() -> None:
    """Measure what is missing of the curve, print it and draw it beside the file."""
    from tocsin_training.corpus import corpus_sha256

    arguments = _arguments()
    settings, console = _settings(arguments), Console(stderr=True)
    now = corpus_sha256(settings.data.corpus)
    mix = (arguments.mix or NO_MIX) if arguments.rows else None
    how: Made = now, curve_sha256(settings), settings.finetune.epochs, settings.augment.makes_texts, mix
    # A point of another state of the corpus, or of another recipe, is not on this curve; it cost hours all the same.
    measured = read_points(arguments.out)
    others = [point for point in measured if point.made != how]
    points = [point for point in measured if point.made == how]
    missing = _missing(points, arguments.rows or arguments.shares, arguments.seeds)
    for number, (size, seed) in enumerate(missing):
        left = minutes_left(points, missing[number:])
        forecast = "" if left is None else f", about {left:.0f} minutes"
        now_at = f"{size:.0%} of the records" if mix is None else f"{size:,.0f} rows"
        console.print(f"{len(missing) - number} runs to go{forecast}; now {now_at}, seed {seed}")
        if mix is None:
            points.append(measure(settings, size, seed, console))
        else:
            points.append(measure_rows(settings, int(size), seed, console, mix=mix))
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
