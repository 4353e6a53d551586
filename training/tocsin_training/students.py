"""Which student to ship, and in which int8: accuracy against speed and size, as a table and a picture.

    python -m tocsin_training.students training/train.toml students.json --benchmark FILE

The students stand in ``training/students.toml``, each a named table of settings to put over the recipe's; another file
may be given. Each is fine-tuned with every seed and exported as a release is. Its fp32 graph and each int8 one asked
for (``--int8``) is then calibrated by its own answers to the validation split, as a release, and read by the library:
what is measured is what users would get. int8's cost is therefore paired: the same weights, the same texts.

Speed is texts a second of one thread's CPU time, in rounds that all graphs of a training and the release held against
(``--against``, by default the shipped one) take in turns, the best round counted. The machine is another from night to
night, so what is compared and drawn is the ratio to that release.

It can be made over several nights: what the file already has is not measured again, a run that was stopped goes on from
its last checkpoint, and ``--seeds`` without a number measures nothing and draws what the file has. ``--epochs`` and
``--train-records`` make every student cheaper; each row says what it was made with, and only like rows stand together.
``--keep`` keeps the runs, so that another int8 of the same weights takes no training.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tocsin.classifier import EventClassifier
from tocsin.release import LAYOUT, read_manifest, write_manifest
from tocsin_training.config import Settings
from tocsin_training.experiment import (
    distinct,
    load_variants,
    plan,
    read_measured,
    read_variants,
    run_for_people,
    run_until,
    variant_sha256,
)
from tocsin_training.run import Run, write_json
from tocsin_training.student_figures import DYNAMIC, FP32, Student, draw, entries, grid, int8_grid

if TYPE_CHECKING:
    from tocsin_training._datasets import Dataset
    from tocsin_training.benchmark import Benchmark
    from tocsin_training.static_int8 import Ranges

STATIC: Mapping[str, Ranges] = {"static-minmax": "minmax", "static-percentile": "percentile"}
_CALIBRATION_TEXTS = 128
_TIMED_TEXTS = 128
_TIMED_ROUNDS = 5
_TABLE_WIDTH = 190


def measure(
    settings: Settings,
    variant: str,
    graphs: Sequence[str],
    against: EventClassifier,
    console: Console,
    *,
    keep: bool = False,
) -> list[Student]:
    """Fine-tune as a recipe says, export, and measure each of the graphs asked for.

    :param graphs: ``FP32``, ``DYNAMIC`` or any of ``STATIC``.
    :param against: the release that speed is held against.
    :param keep: keep the run; otherwise it is thrown away.
    """
    run = run_until("export", settings, "student", console)
    with TemporaryDirectory(dir=run.folder) as scratch:
        found = _measure_graphs(run, variant, {graph: Path(scratch) / graph for graph in graphs}, against)
    if not keep:
        shutil.rmtree(run.folder)
    return found


def _measure_graphs(run: Run, variant: str, folders: Mapping[str, Path], against: EventClassifier) -> list[Student]:
    from tocsin_training.benchmark import read_benchmark
    from tocsin_training.corpus import corpus_sha256, limit, load_corpus

    settings = run.settings()
    corpus = limit(load_corpus(settings.data.corpus), settings.data)
    case = None if settings.data.benchmark is None else read_benchmark(settings.data.benchmark)
    for graph, folder in folders.items():
        _make_release(run, graph, folder, corpus["train"])
        _calibrate(folder, corpus["validation"], settings)
    classifiers = {graph: EventClassifier.load(folder) for graph, folder in folders.items()}
    timed = _evenly(corpus["test"]["text"], _TIMED_TEXTS)
    reference, *speeds = _speeds([against, *classifiers.values()], timed)
    return [
        Student(
            variant=variant,
            graph=graph,
            seed=settings.finetune.seed,
            recipe_sha256=variant_sha256(settings),
            corpus_sha256=corpus_sha256(settings.data.corpus),
            records=len(corpus["train"]),
            epochs=settings.finetune.epochs,
            minutes=run.figures()["minutes"]["finetune"],
            parameters=_parameters(run),
            megabytes=classifier.release.model_path.stat().st_size / 1e6,
            **_accuracy(classifier, corpus["test"], case),
            texts_per_second=speed,
            speed=speed / reference,
            reference=against.version,
        )
        for (graph, classifier), speed in zip(classifiers.items(), speeds, strict=True)
    ]


def _make_release(run: Run, graph: str, folder: Path, train: Dataset) -> None:
    """A release folder with one of a run's graphs, not calibrated yet."""
    shutil.copytree(run.release if graph == DYNAMIC else run.reference, folder)
    if graph in STATIC:
        # Only here: the rest of the command does without what it imports.
        from tocsin_training.static_int8 import quantize_statically

        texts = _evenly(train["text"], _CALIBRATION_TEXTS)
        quantize_statically(run.reference, folder / LAYOUT.model, texts, ranges=STATIC[graph])
        write_manifest(folder, read_manifest(folder).model_copy(update={"quantization": "int8-static"}))


def _calibrate(folder: Path, validation: Dataset, settings: Settings) -> None:
    from tocsin_training.calibrate import calibrate

    classifier = EventClassifier.load(folder, threads=settings.evaluate.threads)
    readings = classifier.read(validation["text"])
    calibration, _ = calibrate(classifier, readings, list(validation["labels"]), settings.calibrate)
    calibration.save(folder / LAYOUT.calibration)
    write_manifest(folder, read_manifest(folder))


def _evenly(texts: Sequence[str], count: int) -> list[str]:
    """So many of the texts, evenly spread over the corpus' files; all where there are fewer."""
    there = len(texts)
    return [texts[row * there // count] for row in range(count)] if count < there else list(texts)


def _speeds(classifiers: Sequence[EventClassifier], texts: Sequence[str]) -> list[float]:
    from tocsin_training.compare import measure_speeds

    return measure_speeds(classifiers, texts, rounds=_TIMED_ROUNDS, clock=time.process_time)


def _parameters(run: Run) -> int:
    from tocsin_training.model import EventModel

    return sum(parameter.numel() for parameter in EventModel.load(run.model).parameters())


def _accuracy(classifier: EventClassifier, test: Dataset, case: Benchmark | None) -> dict[str, Any]:
    """A release's F1 on the test split and on the benchmark, under ``FIGURES``' keys."""
    from tocsin_training.benchmark import forced_f1
    from tocsin_training.corpus import label_matrix
    from tocsin_training.metrics import f1_figures

    truth = label_matrix(list(test["labels"]), classifier.taxonomy)
    figures = f1_figures(truth, classifier.score_batch(list(test["text"])).given)
    forced = None
    if case is not None:
        forced = forced_f1(classifier.score_batch(case.texts).probabilities, classifier.taxonomy, case.truth)
    return {
        "macro_f1": figures["macro_f1"],
        "weighted_f1": figures["weighted_f1"],
        "case_weighted_f1": forced,
    }


def missing_graphs(rows: Sequence[Student], variant: str, settings: Settings, graphs: Sequence[str]) -> list[str]:
    """Those of a training that are still to be measured.

    Rows that were made without the benchmark are no answer to someone who has it.
    """
    from tocsin_training.corpus import corpus_sha256

    made = (variant, variant_sha256(settings), corpus_sha256(settings.data.corpus))
    had = {
        row.graph
        for row in rows
        if (row.made, row.seed) == (made, settings.finetune.seed)
        and (settings.data.benchmark is None or row.case_weighted_f1 is not None)
    }
    return [graph for graph in graphs if graph not in had]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path, help="a JSON file; a picture of the same name is drawn beside it")
    parser.add_argument("--students", type=Path, help="by default students.toml beside the recipe")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these of them, and the recipe as it is")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1], help="none: only draw")
    parser.add_argument("--int8", choices=(DYNAMIC, *STATIC), nargs="+", default=[DYNAMIC], help="graphs beside fp32")
    parser.add_argument("--benchmark", type=Path, help="CASE 2021 task 2 file")
    parser.add_argument("--against", help="the release that speed is held against; the shipped one if not given")
    parser.add_argument("--epochs", type=float, help="instead of each student's own")
    parser.add_argument("--train-records", type=int, help="instead of the recipe's")
    parser.add_argument("--device", choices=("cpu", "auto"), help="to fine-tune on, instead of the recipe's")
    parser.add_argument("--keep", action="store_true", help="keep the runs")
    return parser.parse_args()


def _variants(arguments: argparse.Namespace) -> dict[str, Settings]:
    over_all = {
        "finetune": {"epochs": arguments.epochs, "device": arguments.device},
        "data": {"train_records": arguments.train_records},
    }
    return load_variants(
        arguments.recipe,
        read_variants(arguments.students or arguments.recipe.with_name("students.toml")),
        only=arguments.only,
        over_all={
            section: {key: value for key, value in values.items() if value is not None}
            for section, values in over_all.items()
        },
        benchmark=arguments.benchmark,
    )


def main() -> None:
    """Measure what is missing of the students, print the table and draw it beside the file."""
    arguments = _arguments()
    console, graphs = Console(stderr=True), [FP32, *arguments.int8]
    variants = distinct(_variants(arguments), console)
    rows = read_measured(arguments.out, Student, "students")
    planned = [
        (variant, settings, missing)
        for variant, settings in plan(variants, arguments.seeds)
        if (missing := missing_graphs(rows, variant, settings, graphs))
    ]
    against = EventClassifier.load(arguments.against)
    for number, (variant, settings, missing) in enumerate(planned):
        seed = settings.finetune.seed
        console.print(f"{len(planned) - number} trainings to go; now {variant}, seed {seed}", markup=False)
        new = measure(settings, variant, missing, against, console, keep=arguments.keep)
        again = {(row.made, row.seed, row.graph) for row in new}
        rows = [row for row in rows if (row.made, row.seed, row.graph) not in again] + new
        write_json(arguments.out, [asdict(row) for row in rows])
    measured = entries(rows, variants, graphs)
    if not measured:
        raise SystemExit(f"{arguments.out}: holds none of these students; give --seeds to measure some")
    # In fewer columns rich would cut the figures off; a terminal breaks the lines, a file keeps them whole.
    wide = Console(width=max(Console().width, _TABLE_WIDTH))
    wide.print(int8_grid(measured))
    wide.print(grid(measured))
    draw(measured, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    run_for_people(main)
