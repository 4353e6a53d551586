"""A table of figures that is printed to people and written into model cards from the same rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Sheet:
    """Heads and rows of text."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def table(self) -> Table:
        """For a terminal."""
        built = Table(*self.heads, title=self.title)
        for row in self.rows:
            built.add_row(*row)
        return built

    def markdown(self) -> str:
        """For a model card, its title above it."""
        return f"{self.title.capitalize()}:\n\n{markdown(self.heads, self.rows)}"


def markdown(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def percent(share: float) -> str:
    """A share for people."""
    return f"{share:.1%}"


def percent_interval(low: float, high: float) -> str:
    """The interval of a share for people."""
    return f"{low:.1%} - {high:.1%}"
