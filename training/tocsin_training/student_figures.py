"""What ``students`` measured, in tables and a picture: what int8 costs, and which students no other beats."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tocsin_training import plots
from tocsin_training.config import Settings
from tocsin_training.experiment import FIGURES, difference, differences, spread, variant_sha256
from tocsin_training.report import Grid

FP32 = "fp32"
DYNAMIC = "dynamic"
_AS_FAST = 0.95


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
