"""What a job found, as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from tocsin_serving.batch.records import Counts
from tocsin_serving.batch.tally import Tally

_LANGUAGES_SHOWN = 5

Line = tuple[str, int | None, str]


def summary_table(files: Sequence[Counts], title: str | None = None) -> Table:
    """Events by type, texts not read, share to review, languages, truncations and rejects over files."""
    table = Table("", "rows", "share", title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, count, share in _lines(files):
        table.add_row(Text(name), "" if count is None else f"{count:,}", share)
    return table


def _lines(files: Sequence[Counts]) -> Iterator[Line]:
    tally = sum((file.tally for file in files), Tally())
    read = sum(file.rows_read for file in files)
    rejected = sum(file.rows_rejected for file in files)
    yield "read", read, ""
    if rejected:
        yield "rejected", rejected, _share(rejected, read)
        yield from _by_count(sum((file.reject_reasons for file in files), Counter()), read)
    # A text is a row, or a sentence of one.
    of = tally.scored
    yield "texts scored", of, ""
    yield "with an event", tally.with_event, _share(tally.with_event, of)
    yield from _by_count(tally.event_types, of)
    yield "without event", tally.without_event, _share(tally.without_event, of)
    if tally.unread:
        yield "not read, for their language", tally.unread, _share(tally.unread, of)
    yield "to review", tally.to_review, _share(tally.to_review, of)
    yield "longer than the window", tally.truncated, _share(tally.truncated, of)
    yield "languages", None, ""
    yield from _languages(tally.languages, of)


def _by_count(counts: Counter[str], of: int) -> Iterable[Line]:
    return [(f"  {name}", count, _share(count, of)) for name, count in counts.most_common()]


def _languages(languages: Counter[str], of: int) -> Iterator[Line]:
    """The commonest, and all others together behind them, however many they are."""
    shown = Counter(dict(languages.most_common(_LANGUAGES_SHOWN)))
    yield from _by_count(shown, of)
    if others := languages.total() - shown.total():
        yield "  others", others, _share(others, of)


def _share(count: int, of: int) -> str:
    return f"{count / of:.1%}" if of else ""
