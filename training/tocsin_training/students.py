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
import operator
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tocsin.classifier import EventClassifier
from tocsin.release import LAYOUT, read_manifest, write_manifest
from tocsin_training import plots
from tocsin_training.config import Settings
from tocsin_training.experiment import (
    FIGURES,
    difference,
    differences,
    load_variants,
    plan,
    read_measured,
    read_variants,
    run_for_people,
    run_until,
    spread,
    variant_sha256,
)
from tocsin_training.report import Grid
from tocsin_training.run import Run, write_json

if TYPE_CHECKING:
    from tocsin_training._datasets import Dataset
    from tocsin_training.benchmark import Benchmark
    from tocsin_training.static_int8 import Ranges

FP32 = "fp32"
DYNAMIC = "dynamic"
STATIC: Mapping[str, Ranges] = {"static-minmax": "minmax", "static-percentile": "percentile"}
_CALIBRATION_TEXTS = 128
_TIMED_TEXTS = 128
_TIMED_ROUNDS = 5
_AS_FAST = 0.95
_TABLE_WIDTH = 190


@dataclass(frozen=True)
class Student:
    """One graph of one training."""

    variant: str
    graph: str
    """``fp32``, or the kind of int8."""
    seed: int
    recipe_sha256: str
    """Of the variant, whatever its seed (``variant_sha256``)."""
    corpus_sha256: str
    records: int
    """Training records it learned from, those made by augmentation not counted."""
    epochs: float
    minutes: float
    """Of fine-tuning."""
    parameters: int
    megabytes: float
    """Of the graph."""
    macro_f1: float
    """On the test split, as the library answers."""
    weighted_f1: float
    case_weighted_f1: float | None
    """CASE 2021 with the best label forced, where its file is."""
    texts_per_second: float
    """Of one thread's CPU time."""
    speed: float
    """The same as a multiple of the reference's, measured beside it."""
    reference: str
    """Name and version of the release held against."""

    @property
    def made(self) -> tuple[str, str, str]:
        """Name of the variant, hashes of its recipe and of the corpus."""
        return self.variant, self.recipe_sha256, self.corpus_sha256


@dataclass(frozen=True)
class Entry:
    """One graph of one variant: its rows, seed by seed, beside those of the variant's fp32 graph."""

    variant: str
    graph: str
    rows: Sequence[Student]
    fp32: Sequence[Student]
    allowed_cost: float
    """Weighted F1 on the test split that int8 may cost (``verify.int8_f1_cost``)."""

    def values(self, key: str) -> list[float]:
        """A figure's values over the seeds; none where it was not measured."""
        return [value for row in self.rows if (value := getattr(row, key)) is not None]

    def mean(self, key: str) -> float:
        """A figure's mean over the seeds."""
        return statistics.mean(self.values(key))

    @property
    def holds(self) -> bool:
        """Whether it is an int8 graph that costs no more than a release may lose, on average over the seeds."""
        gains = differences(self.rows, self.fp32, "weighted_f1")
        return self.graph != FP32 and bool(gains) and -statistics.mean(gains) <= self.allowed_cost

    @property
    def name(self) -> str:
        """For people; dynamic int8 is what ships and goes without saying."""
        return self.variant if self.graph == DYNAMIC else f"{self.variant} ({self.graph})"


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

    calibration, _ = calibrate(folder, validation, settings)
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
    from tocsin_training.benchmark import score_benchmark
    from tocsin_training.corpus import label_matrix
    from tocsin_training.metrics import f1_figures

    truth = label_matrix(list(test["labels"]), classifier.taxonomy)
    figures = f1_figures(truth, classifier.score_batch(list(test["text"])).given)
    return {
        "macro_f1": figures["macro_f1"],
        "weighted_f1": figures["weighted_f1"],
        "case_weighted_f1": None if case is None else score_benchmark(classifier, case).forced_weighted_f1,
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


def entries(rows: Sequence[Student], variants: Mapping[str, Settings], graphs: Sequence[str]) -> list[Entry]:
    """The graphs of each variant over all seeds that were measured, in the order of variants and graphs."""
    from tocsin_training.corpus import corpus_sha256

    found = []
    for variant, settings in variants.items():
        made = (variant, variant_sha256(settings), corpus_sha256(settings.data.corpus))
        by_graph = {graph: [row for row in rows if row.made == made and row.graph == graph] for graph in graphs}
        found += [
            Entry(variant, graph, own, by_graph[FP32], settings.verify.int8_f1_cost)
            for graph, own in by_graph.items()
            if own
        ]
    return found


def candidates(measured: Sequence[Entry]) -> list[Entry]:
    """Of each variant the int8 that would ship: the fastest of those that cost no more than they may, if there is one.

    Among those as fast but for a twentieth, which is what speeds differ by from run to run, the most accurate.
    """
    found = []
    for variant in dict.fromkeys(entry.variant for entry in measured):
        holding = [entry for entry in measured if entry.variant == variant and entry.holds]
        fastest = max((entry.mean("speed") for entry in holding), default=0.0)
        fast = [entry for entry in holding if entry.mean("speed") >= _AS_FAST * fastest]
        found += sorted(fast, key=lambda entry: -entry.mean("weighted_f1"))[:1]
    return found


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points no other beats: none is as good in both and better in one (the Pareto front).

    :param points: two figures each, of which more is better.
    """
    return [not any(other != point and all(map(operator.ge, other, point)) for other in points) for point in points]


def on_front(found: Sequence[Entry], advantage: str, accuracy: str) -> list[bool]:
    """Which entries no other beats in accuracy and in ``speed``, where more is better, or ``megabytes``, where less."""
    sign = -1 if advantage == "megabytes" else 1
    return front([(sign * entry.mean(advantage), entry.mean(accuracy)) for entry in found])


def int8_grid(measured: Sequence[Entry]) -> Grid:
    """What each int8 graph costs and wins against the fp32 graph of the same weights, and which would ship."""
    kept = candidates(measured)
    rows = []
    for entry in measured:
        cells = [entry.variant, entry.graph, str(len(entry.rows)), f"{entry.mean('megabytes'):.1f}"]
        cells.append(f"{entry.mean('speed'):.2f}")
        for key in FIGURES:
            cells += [spread(entry.values(key)), "" if entry.graph == FP32 else difference(entry.rows, entry.fp32, key)]
        rows.append(
            [*cells, "yes" if entry in kept else "" if entry.graph == FP32 or entry.holds else "costs too much"]
        )
    figures = [head for name in FIGURES.values() for head in (name, "less fp32")]
    heads = ("student", "graph", "seeds", "MB", "speed", *figures, "would ship")
    return Grid("int8 against fp32: mean ± standard deviation over the seeds", heads, rows)


def grid(measured: Sequence[Entry]) -> Grid:
    """The students that would ship, fastest first: how they were made, and on which fronts they are."""
    kept = sorted(candidates(measured), key=lambda entry: -entry.mean("speed"))
    fronts = {name: on_front(kept, key, "weighted_f1") for key, name in (("speed", "speed"), ("megabytes", "size"))}
    rows = []
    for position, entry in enumerate(kept):
        first = entry.rows[0]
        cells = [entry.name, f"{first.records:,}", f"{first.epochs:g}", str(len(entry.rows))]
        cells += [f"{first.parameters / 1e6:.1f} M", f"{entry.mean('megabytes'):.1f}"]
        cells += [f"{entry.mean('texts_per_second'):.0f}", f"{entry.mean('speed'):.2f}"]
        cells += [spread(entry.values(key)) for key in FIGURES]
        rows.append([*cells, ", ".join(name for name, marks in fronts.items() if marks[position])])
    references = ", ".join(sorted({row.reference for entry in measured for row in entry.rows}))
    made = ("student", "records", "epochs", "seeds", "parameters", "MB", "texts/s", "speed")
    title = f"students that would ship: speed of one thread, and as a multiple of {references}"
    return Grid(title, (*made, *FIGURES.values(), "on the front of"), rows)


def draw(measured: Sequence[Entry], path: Path) -> None:
    """Accuracy against speed and against size as a PNG file: the int8 graphs, those that would ship by name.

    A row for the test split, and one for the benchmark where it was measured.
    """
    kept = candidates(measured)
    others = [entry for entry in measured if entry.graph != FP32 and entry not in kept]
    axes = {"speed": "speed of one thread, as a multiple of the release's", "megabytes": "MB of the graph"}
    accuracies = {"weighted_f1": "weighted F1, test split", "case_weighted_f1": "weighted F1, CASE 2021, forced"}
    plots.trade_offs(
        [
            [_panel(kept, others, advantage, x_name, accuracy, y_name) for advantage, x_name in axes.items()]
            for accuracy, y_name in accuracies.items()
            if all(entry.values(accuracy) for entry in (*kept, *others))
        ],
        path,
    )


def _panel(
    kept: Sequence[Entry], others: Sequence[Entry], advantage: str, x_name: str, accuracy: str, y_name: str
) -> plots.TradeOff:
    def point(entry: Entry, standing: plots.Standing) -> plots.Option:
        values = entry.values(accuracy)
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return plots.Option(entry.name, entry.mean(advantage), statistics.mean(values), deviation, standing)

    marks = on_front(kept, advantage, accuracy)
    points = [point(entry, "front" if mark else "beaten") for entry, mark in zip(kept, marks, strict=True)]
    return plots.TradeOff(x_name, y_name, [*points, *(point(entry, "out") for entry in others)])


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
    console, variants, graphs = Console(stderr=True), _variants(arguments), [FP32, *arguments.int8]
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
