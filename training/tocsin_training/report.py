"""Tables that are printed for people and stand in Markdown documents, in one form for both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Grid:
    """A table of text; the first column names the rows, the others hold figures."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __rich__(self) -> Table:
        """For a terminal."""
        table = Table(self.heads[0], title=self.title)
        for head in self.heads[1:]:
            table.add_column(head, justify="right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a document; the title is left to it."""
        return markdown_table(self.heads, self.rows)

    def section(self) -> str:
        """For a document, its title above it."""
        return f"{self.title.capitalize()}:\n\n{self.markdown()}"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, one line a row, with a line break at its end."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def percent(share: float) -> str:
    """A share for people."""
    return f"{share:.1%}"


def percent_interval(low: float, high: float) -> str:
    """The interval of a share for people."""
    return f"{low:.1%} - {high:.1%}"
