"""What the corpus's size bought: the recipe run on parts of it, with several seeds, as a table and a picture.

    python -m tocsin_training.learning_curve training/train.toml datasets/learning_curve.json

Without the teacher, which has seen the whole corpus and would lend the small parts what they lack. Runs that the file
already has are not repeated, so that a curve can be made over several nights. Labels are given above a logit of zero.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tocsin.taxonomy import Taxonomy
from tocsin_training import plots
from tocsin_training.config import Settings, load_settings
from tocsin_training.run import write_json


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


FIGURES = {"macro_f1": "macro F1", "weighted_f1": "weighted F1", "case_weighted_f1": "CASE, forced"}


def measure(settings: Settings, share: float, seed: int, console: Console) -> Point:
    """Fine-tune on a share of the training split, evenly spread over its files, and measure."""
    import torch

    from tocsin_training.benchmark import forced_f1, read_benchmark
    from tocsin_training.corpus import corpus_sha256, label_matrix, load_corpus
    from tocsin_training.metrics import f1_figures
    from tocsin_training.model import EventModel, load_tokenizer, predict_logits
    from tocsin_training.pipeline import train

    corpus = load_corpus(settings.data.corpus)
    records = round(share * len(corpus["train"]))
    run = train(_part(settings, records, seed), f"curve-{share}-{seed}", console, until="finetune")
    model, tokenizer = EventModel.load(run.model), load_tokenizer(str(run.model))
    torch.set_num_threads(settings.finetune.threads)

    def logits(texts: Iterable[str]) -> torch.Tensor:
        return predict_logits(model, tokenizer, list(texts), max_tokens=settings.model.max_tokens)

    taxonomy = Taxonomy.load(settings.data.taxonomy)
    truth = label_matrix(list(corpus["test"]["labels"]), taxonomy) > 0
    figures = f1_figures(truth, logits(corpus["test"]["text"]).numpy() > 0)
    case = None if settings.data.benchmark is None else read_benchmark(settings.data.benchmark)
    shutil.rmtree(run.folder)
    return Point(
        share=share,
        seed=seed,
        records=records,
        corpus_sha256=corpus_sha256(settings.data.corpus),
        macro_f1=figures["macro_f1"],
        weighted_f1=figures["weighted_f1"],
        case_weighted_f1=None if case is None else forced_f1(logits(case.texts).numpy(), taxonomy, case.truth),
    )


def _part(settings: Settings, records: int, seed: int) -> Settings:
    return settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"train_records": records}),
            "finetune": settings.finetune.model_copy(update={"seed": seed, "teacher_logits": None}),
        }
    )


def table(points: Sequence[Point]) -> Table:
    """Mean and spread over the seeds for each share."""
    built = Table("share", "records", "seeds", *FIGURES.values(), title="learning curve: mean ± standard deviation")
    for share in sorted({point.share for point in points}):
        of_share = [point for point in points if point.share == share]
        cells = [_spread([getattr(point, key) for point in of_share]) for key in FIGURES]
        built.add_row(f"{share:.0%}", f"{of_share[0].records:,}", str(len(of_share)), *cells)
    return built


def _spread(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    deviation = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.3f}{deviation}"


def read_points(path: Path) -> list[Point]:
    """Runs measured before; none when there is no file yet."""
    return [Point(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def main() -> None:
    """Measure what is missing of the curve, print it and draw it beside the file."""
    from tocsin_training.corpus import corpus_sha256

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--benchmark", type=Path, help="CASE 2021 task 2 file")
    arguments = parser.parse_args()
    settings = load_settings(arguments.recipe)
    if arguments.benchmark is not None:
        settings = settings.model_copy(
            update={"data": settings.data.model_copy(update={"benchmark": arguments.benchmark.resolve()})}
        )
    now = corpus_sha256(settings.data.corpus)
    # A point of another state of the corpus is not on this curve.
    points = [point for point in read_points(arguments.out) if point.corpus_sha256 == now]
    console = Console(stderr=True)
    for seed in arguments.seeds:
        for share in arguments.shares:
            if not any((point.share, point.seed) == (share, seed) for point in points):
                points.append(measure(settings, share, seed, console))
                write_json(arguments.out, [asdict(point) for point in points])
    Console().print(table(points))
    plots.learning_curve(
        {name: [(point.records, getattr(point, key)) for point in points] for key, name in FIGURES.items()},
        arguments.out.with_suffix(".png"),
    )


if __name__ == "__main__":
    main()
