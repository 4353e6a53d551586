"""A comparison for people: tables on the terminal, and one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table
from rich.text import Text

from tocsin_training import plots
from tocsin_training.compare import Comparison, Figure, LabelChange

_STYLES = {"worse": "bold red", "worse, but allowed": "yellow", "better": "green"}


def tables(comparison: Comparison) -> list[Table]:
    """The verdict table, and the labels that changed."""
    built = [_figures_table(comparison), _labels_table(comparison)]
    if recorded := recorded_rows(comparison):
        table = Table("from the manifests", comparison.champion.name, comparison.challenger.name)
        for row in recorded:
            table.add_row(*row)
        built.append(table)
    return built


def verdict(comparison: Comparison) -> str:
    """The one sentence that decides."""
    if comparison.faults:
        return f"{comparison.challenger.name} is worse beyond the margins: {'; '.join(comparison.faults)}"
    return f"{comparison.challenger.name} may take the place of {comparison.champion.name}"


def caution(comparison: Comparison) -> str | None:
    """What the figures cannot tell: text that is held out from one release may have been another's training data."""
    if comparison.champion.corpus == comparison.challenger.corpus:
        return None
    return (
        "The two were trained on different states of a corpus, or on different ones: "
        "make sure that neither has learned from the text they are compared on."
    )


def _figures_table(comparison: Comparison) -> Table:
    title = f"{comparison.texts} texts, {comparison.data}; the same labels for {comparison.agreement:.1%}"
    table = Table(
        "figure",
        "champion",
        "challenger",
        "difference (95 %)",
        "p",
        "verdict",
        title=title,
        caption=caution(comparison),
    )
    for row in comparison.figures:
        cells = (row.name, number(row.champion), number(row.challenger), difference(row), chance(row.p))
        table.add_row(*cells, Text(row.verdict, style=_STYLES.get(row.verdict, "")))
    for column in table.columns[1:5]:
        column.justify = "right"
    return table


def _labels_table(comparison: Comparison) -> Table:
    table = Table(
        "label", "texts", "champion F1", "challenger F1", "lost", "gained", "p", title="by label, worst first"
    )
    for row in by_change(comparison):
        style = _STYLES["worse"] if row.worse else None
        cells = (row.name, str(row.texts), number(row.champion), number(row.challenger), str(row.lost), str(row.gained))
        table.add_row(*cells, chance(row.adjusted_p), style=style)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def by_change(comparison: Comparison) -> list[LabelChange]:
    """Labels, the greatest loss first."""
    return sorted(comparison.labels, key=lambda row: row.challenger - row.champion)


def recorded_rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    """What the manifests say, where at least one of them says it."""
    before, after = comparison.champion.recorded, comparison.challenger.recorded

    def said(side: dict[str, float], name: str) -> str:
        return number(side[name]) if name in side else "not known"

    return [(name, said(before, name), said(after, name)) for name in dict.fromkeys((*before, *after))]


def number(value: float | None) -> str:
    """Three decimals for shares, none for what is counted."""
    if value is None:
        return "not known"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) > 2 else f"{value:.3f}"


def difference(row: Figure) -> str:
    """The difference and its interval."""
    if row.difference is None:
        return ""
    sign = "+" if row.difference >= 0 else "-"
    change = f"{sign}{number(abs(row.difference))}"
    return change if row.low is None or row.high is None else f"{change} ({row.low:+.3f} to {row.high:+.3f})"


def chance(p: float | None) -> str:
    """A p value, rounded."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def html(comparison: Comparison) -> str:
    """The report: self-contained, without scripts, every text of a user escaped."""
    environment = Environment(
        loader=PackageLoader("tocsin_training"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "chance": chance, "difference": difference}
    rows = by_change(comparison)
    before, after = comparison.champion, comparison.challenger
    pictures = {
        "F1 of each label, challenger less champion": plots.changes(
            [(row.name, row.challenger - row.champion, row.worse) for row in rows], "change in F1"
        ),
        "Whether stated probabilities hold": plots.reliability_of_several(
            {f"champion {before.name}": before.reliability, f"challenger {after.name}": after.reliability}
        ),
    }
    return environment.get_template("compare.html").render(
        comparison=comparison,
        verdict=verdict(comparison),
        caution=caution(comparison),
        labels=rows,
        recorded=recorded_rows(comparison),
        pictures={name: base64.b64encode(picture).decode() for name, picture in pictures.items()},
    )


def write_html(comparison: Comparison, path: Path) -> None:
    """Write the report to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html(comparison), encoding="utf-8")
