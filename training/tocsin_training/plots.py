"""Pictures of a run, as PNG files, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from tocsin_training.arrays import Floats

_DPI = 120

Standing = Literal["front", "beaten", "out"]
"""Beaten by none; beaten by another; not to be had, and drawn for comparison only."""


def training_curves(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss by step and validation F1 by epoch, from the Trainer's log."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for key, name in (("loss", "training"), ("eval_loss", "validation")):
        _line(losses, history, key, name)
    losses.set(title="loss", xlabel="epoch")
    for key, name in (("eval_macro_f1", "macro F1"), ("eval_weighted_f1", "weighted F1")):
        _line(scores, history, key, name)
    scores.set(title="validation (logit above zero)", xlabel="epoch", ylim=(0, 1))
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def _line(axes: Axes, history: Sequence[dict[str, Any]], key: str, name: str) -> None:
    points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
    axes.plot([x for x, _ in points], [y for _, y in points], marker="." if len(points) < 20 else "", label=name)


def confusion_matrix(counts: NDArray[np.integer[Any]], names: Sequence[str], path: Path) -> None:
    """Answers (columns) against truth (rows); colour is the share of the row, figures are counts.

    :param counts: shape (answers, answers).
    """
    size = max(6.0, 0.42 * len(names) + 3)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="first answer", ylabel="truth")
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    _save(figure, path)


@dataclass(frozen=True)
class Reliability:
    """Whether one kind of answer comes true as often as it says."""

    name: str
    bins: Sequence[tuple[float, float, float, float, int]]
    """Mean stated probability, share right, low and high end of its interval, number of answers."""
    error: float
    """Calibration error, of the bins as they were before any were pooled."""


def reliability_diagram(panels: Sequence[Reliability], path: Path) -> None:
    """How often answers of a stated probability hold, with intervals; the dotted line is honesty."""
    figure = Figure(figsize=(4.6 * len(panels), 5.5), layout="constrained")
    drawn = figure.subplots(2, len(panels), height_ratios=(4, 1), sharex=True, sharey="row", squeeze=False)
    for (shares, counts), panel in zip(drawn.T, panels, strict=True):
        stated = np.array([bin_[0] for bin_ in panel.bins])
        held = np.array([bin_[1:4] for bin_ in panel.bins]).reshape(-1, 3)
        shares.plot([0, 1], [0, 1], linestyle=":", color="grey")
        shares.errorbar(stated, held[:, 0], yerr=np.abs(held[:, 1:].T - held[:, 0]), marker="o", capsize=3)
        shares.set(xlim=(0, 1), ylim=(0, 1.02), title=f"{panel.name}: ECE {panel.error:.3f}")
        shares.grid(alpha=0.3)
        counts.bar(stated, [bin_[4] for bin_ in panel.bins], width=0.03)
        # By powers of ten: nearly all answers are sure, and the bins of the others would be flat.
        counts.set(xlabel="stated probability", yscale="log", ylim=(0.8, None))
        counts.grid(alpha=0.3, axis="y")
    drawn[0, 0].set_ylabel("share that holds")
    drawn[1, 0].set_ylabel("answers")
    _save(figure, path)


def learning_curve(
    figures: Mapping[str, Sequence[tuple[int, float | None]]], path: Path, *, sizes: str = "training records"
) -> None:
    """Every run as a dot, their mean as a line, over the number of training records.

    :param figures: name of a figure -> (records, value) of each run; values that were not measured are left out.
    :param sizes: what is counted instead of records.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, runs in figures.items():
        known = [(records, value) for records, value in runs if value is not None]
        if not known:
            continue
        places = sorted({records for records, _ in known})
        means = [np.mean([value for records, value in known if records == place]) for place in places]
        (line,) = axes.plot(places, means, label=name)
        sizes_of_runs, values = zip(*known, strict=True)
        axes.scatter(sizes_of_runs, values, s=12, color=line.get_color())
    axes.set_xscale("log", base=2)
    axes.set(xlabel=sizes, ylabel="F1", title="mean of the seeds, and each run")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def shares(panels: Mapping[str, Sequence[tuple[str, float, float, float]]], path: Path) -> None:
    """Bars from zero with their intervals, one panel for each title, all on one scale.

    :param panels: title -> name, share, and the low and high end of its interval.
    """
    heights = [len(rows) + 1.5 for rows in panels.values()]
    figure = Figure(figsize=(7, 0.27 * sum(heights) + 0.6), layout="constrained")
    stacked = figure.subplots(len(panels), 1, height_ratios=heights, sharex=True, squeeze=False)
    for axes, (title, rows) in zip(stacked[:, 0], panels.items(), strict=True):
        values = np.array([row[1:] for row in rows])
        errors = np.abs(values[:, 1:].T - values[:, 0])
        axes.barh([row[0] for row in rows], values[:, 0], xerr=errors, color="#2c7fb8", ecolor="#555555", capsize=2)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=9, loc="left")
        axes.grid(alpha=0.3, axis="x")
    stacked[-1, 0].xaxis.set_major_formatter(PercentFormatter(xmax=1))
    stacked[-1, 0].set_xlim(left=0)
    _save(figure, path)


def risk_coverage(curve: tuple[Floats, Floats], point: tuple[float, float], promised: float | None, path: Path) -> None:
    """The picture of ``risk_coverage_figure`` as a PNG file."""
    _save(risk_coverage_figure(curve, point, promised), path)


def risk_coverage_figure(curve: tuple[Floats, Floats], point: tuple[float, float], promised: float | None) -> Figure:
    """Share of wrong answers among those kept, over the share kept, surest first; the dot is the release's setting.

    :param curve: shares kept, and shares wrong among them.
    :param point: share kept and share wrong at the setting.
    :param promised: share wrong that the release promises not to exceed.
    """
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*curve, label="line drawn elsewhere")
    axes.plot(*point, marker="o", linestyle="", color="black", label="not sent to review")
    if promised is not None:
        axes.axhline(promised, linestyle=":", color="grey", label="promised at most")
    axes.set(xlabel="share of texts kept, surest first", ylabel="share wrong among them", xlim=(0, 1.02))
    axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        # As many decimals as tell its ticks apart.
        axis.set_major_formatter(PercentFormatter(xmax=1))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


@dataclass(frozen=True)
class Option:
    """Something that can be chosen."""

    name: str
    price: float
    """Or gain: where it stands from left to right."""
    value: float
    deviation: float
    """Of the value; 0 where it was measured once."""
    standing: Standing


@dataclass(frozen=True)
class TradeOff:
    """What there is to choose from, by two figures."""

    x_name: str
    y_name: str
    options: Sequence[Option]


def trade_offs(panels: Sequence[Sequence[TradeOff]], path: Path) -> None:
    """Options as dots with their names, those that none beats joined by a line.

    :param panels: row by row, all rows of one length.
    """
    rows, columns = len(panels), len(panels[0])
    figure = Figure(figsize=(7.5 * columns, 5.5 * rows + 0.4), layout="constrained", dpi=_DPI)
    FigureCanvasAgg(figure)
    drawn = figure.subplots(rows, columns, squeeze=False)
    pairs = list(zip(drawn.flat, [panel for row in panels for panel in row], strict=True))
    for axes, panel in pairs:
        _trade_off(axes, panel)
    figure.legend(*drawn[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    # Names can keep out of each other's way only once the axes have their final place.
    figure.draw_without_rendering()
    for axes, panel in pairs:
        _name_options(axes, [option for option in panel.options if option.standing != "out"])
    _save(figure, path)


def _trade_off(axes: Axes, panel: TradeOff) -> None:
    looks: dict[Standing, dict[str, Any]] = {
        "out": {"color": "#bbbbbb", "linestyle": "", "markerfacecolor": "none", "label": "out of the running"},
        "beaten": {"color": "#2c7fb8", "linestyle": "", "label": "beaten by another"},
        "front": {"color": "#c0392b", "linestyle": "-", "label": "beaten by none (Pareto front)"},
    }
    for standing, look in looks.items():
        options = sorted((o for o in panel.options if o.standing == standing), key=lambda o: (o.price, o.value))
        axes.errorbar(
            [option.price for option in options],
            [option.value for option in options],
            yerr=[0.0 if standing == "out" else option.deviation for option in options],
            marker="o",
            markersize=5,
            linewidth=1,
            elinewidth=0.8,
            **look,
        )
    axes.set(xlabel=panel.x_name, ylabel=panel.y_name)
    axes.margins(x=0.12, y=0.12)
    axes.grid(alpha=0.3)


def _name_options(axes: Axes, options: Sequence[Option]) -> None:
    """Write each option's name beside its dot, as near its height as leaves room for the others' names and dots."""
    # In points: the letters, from line to line, and a letter's width on average.
    size, line, letter = 8.0, 10.0, 4.4
    to_points = 72 / _DPI
    dots = {option.name: axes.transData.transform((option.price, option.value)) * to_points for option in options}
    frame = axes.get_window_extent()
    (left, right), (bottom, top) = frame.intervalx * to_points, frame.intervaly * to_points
    taken = [(x - 4, y, 8.0) for x, y in dots.values()]
    for option in sorted(options, key=lambda option: -option.value):
        x, y = dots[option.name]
        width = letter * len(option.name)
        places = [
            (start, y + rise, width)
            for rise in sorted((step * line / 2 for step in range(-40, 41)), key=abs)
            for start in (x + 8, x - 8 - width)
            if left < start and start + width < right and bottom + line < y + rise < top - line
        ]
        place = next((place for place in places if _is_free(place, taken, line)), (x + 8, y, width))
        taken.append(place)
        text = axes.annotate(
            option.name,
            (option.price, option.value),
            (place[0] - x, place[1] - y),
            textcoords="offset points",
            fontsize=size,
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#888888", "shrinkA": 0, "shrinkB": 2},
        )
        # Its place goes by where the axes are; they must not move again to make room for it.
        text.set_in_layout(False)


def _is_free(place: tuple[float, float, float], taken: Sequence[tuple[float, float, float]], line: float) -> bool:
    """Whether a line of text meets none of the others; each is its start, its height and its width."""
    start, height, width = place
    return not any(
        abs(height - other_height) < line and start < other + other_width and other < start + width
        for other, other_height, other_width in taken
    )


def reliability_of_several(bins: Mapping[str, Sequence[tuple[float, float, int]]]) -> bytes:
    """Reliability diagrams of several models in one picture, as PNG.

    :param bins: model -> mean stated probability, share right, number of labels given.
    """
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    for marker, (name, rows) in zip("os^v", bins.items(), strict=False):
        axes.plot([row[0] for row in rows], [row[1] for row in rows], marker=marker, label=name)
    axes.set(xlabel="stated probability", ylabel="share that holds", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure)


def changes(rows: Sequence[tuple[str, float, bool]], title: str) -> bytes:
    """Bars to the left and right of zero, one for each name, as PNG.

    :param rows: name, change, and whether the bar is to stand out.
    """
    figure = Figure(figsize=(7, 0.24 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    colours = ["#c0392b" if loud else "#2c7fb8" if change >= 0 else "#e6a57e" for _, change, loud in rows]
    axes.barh([name for name, _, _ in rows], [change for _, change, _ in rows], color=colours)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set(title=title)
    axes.grid(alpha=0.3, axis="x")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    stream = BytesIO()
    figure.savefig(stream, dpi=_DPI, format="png")
    return stream.getvalue()


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A canvas of its own instead of pyplot's global state: no display, and safe beside anyone else's figures.
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI)
