"""What became of files that were imported: tables for people, JSON for machines, kept beside the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tocsin_training.corpus import IMPORT_REPORT, SPLITS
from tocsin_training.run import write_json

_LABELS_SHOWN = 40
_PROBLEMS_SHOWN = 10
_DOUBTS_SHOWN = 10


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FileReport(_Part):
    """A file and what it was taken for."""

    name: str
    layout: str
    format: str
    rows: int
    bytes: int
    sha256: str
    lacks: tuple[str, ...] = Field((), description="columns named for another file; it was read by its layout's own")
    ignored: tuple[str, ...] = Field((), description="options that were given and play no part in its layout")


class LabelCount(_Part):
    """Texts with a label, by split; all of them under `all`."""

    all: int = 0
    train: int = 0
    validation: int = 0
    test: int = 0


class Doubt(_Part):
    """A row whose labels its words do not bear out."""

    place: str = Field(description="file:line")
    text: str
    given: tuple[str, ...]
    likely: tuple[str, ...]


class UndecidedName(_Part):
    """A name that may be several labels."""

    name: str
    texts: int
    why: str


class Together(_Part):
    """Of what `--split-by` keeps in one split, that which has the most texts."""

    value: str
    texts: int
    groups: int = Field(description="so many are dealt out to the splits")


class ImportReport(_Part):
    """Every row is accounted for: rows = texts + repeated + merged + dropped."""

    files: list[FileReport]
    options: dict[str, Any] | None = Field(
        None, description="that are not at their defaults; none in reports made before they were kept"
    )
    rows: int
    texts: int = 0
    repeated: int = Field(0, description="rows whose text and labels were there already")
    merged: int = Field(0, description="rows whose text was there with other labels; its labels were put together")
    coded_twice: int = Field(0, description="texts that some coder's rows, not ACLED's, give different labels")
    coded_once: int = Field(0, description="texts of several such rows that agree")
    coded_twice_at: list[str] = Field(default_factory=list, description="the first of the former: file:line: labels")
    disputed: int = Field(0, description="texts that one row calls no event and another gives labels, which then stand")
    two_splits: int = Field(0, description="texts whose rows name several splits; they are in the last of these")
    dropped: dict[str, int] = Field(default_factory=dict, description="reason -> rows")
    html: int = 0
    openings: int = 0
    near_duplicates: int | None = Field(None, description="texts nearly the same as one before; kept in its split")
    labels: dict[str, LabelCount] = Field(default_factory=dict)
    without_event: LabelCount = LabelCount()
    splits: dict[str, int] = Field(default_factory=dict)
    split_by: str = "group of equal and nearly equal texts"
    mixed: dict[str, int] = Field(default_factory=dict, description="split -> records added from the recipe's corpus")
    together: Together | None = None
    first: str | None = None
    last: str | None = None
    undated: int = 0
    unread: int = Field(0, description="texts that have something for a date which cannot be read")
    two_days: int = Field(0, description="of these, texts whose date may be two days, such as 05/08/2024")
    unread_dates: list[str] = Field(default_factory=list, description="what stands for a date in the first of these")
    both_orders: list[str] = Field(
        default_factory=list, description="files that write 25/08/2024 as well as 08/25/2024"
    )
    languages: dict[str, float] = Field(default_factory=dict, description="ISO 639 -> share of the texts looked at")
    languages_of: int = 0
    doubts: list[Doubt] | None = None
    doubts_of: int = 0
    unknown_names: dict[str, int] = Field(default_factory=dict, description="name that is no label's -> texts")
    undecided_names: list[UndecidedName] = Field(default_factory=list, description="names that may be several labels")
    separator: str | None = Field(None, description="mark at which most of these names come apart into labels' names")
    suggestions: dict[str, str] = Field(default_factory=dict, description="such a name -> the label it may be")
    problems: list[str] = Field(default_factory=list, description="the first rows that were dropped: file:line: why")
    warnings: list[str] = Field(default_factory=list)
    refusals: list[str] = Field(default_factory=list, description="why not to train on this; none: one may")
    sha256: str | None = Field(None, description="of the corpus made of it")
    read_seconds: float = Field(0.0, description="of these seconds, those that reading the files took")
    seconds: float = 0.0

    def save(self, folder: Path) -> None:
        """Put it into a corpus folder."""
        write_json(folder / IMPORT_REPORT, self.model_dump(mode="json"))

    @classmethod
    def of(cls, folder: Path) -> ImportReport | None:
        """The report in a corpus folder; none where the corpus was not imported."""
        path = folder / IMPORT_REPORT
        return cls.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def show(report: ImportReport, console: Console, left_out: Path | None = None) -> None:
    """Print it for people.

    :param left_out: file with all rows that were left out.
    """
    for table in _tables(report):
        console.print(table)
    for line in report.problems[:_PROBLEMS_SHOWN]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if rows := sum(report.dropped.values()):
        where = "" if left_out is None else f"; all of them, with line and reason: {left_out}"
        # A line may stand for several rows.
        if where or rows > len(report.problems[:_PROBLEMS_SHOWN]):
            console.print(f"... {rows:,} rows left out in all{where}", markup=False, soft_wrap=True)
    for doubt in (report.doubts or [])[:_DOUBTS_SHOWN]:
        given, likely = (", ".join(labels) or "no event" for labels in (doubt.given, doubt.likely))
        console.print(
            f"{doubt.place}: labelled {given}, reads like {likely}: {doubt.text}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    for warning in report.warnings:
        note(warning, console)


def note(text: str, console: Console) -> None:
    """Print what a person should know before they train."""
    console.print(f"[yellow]note:[/] {escape(text)}", highlight=False, soft_wrap=True)


def _tables(report: ImportReport) -> Iterator[Table]:
    files = Table("file", "layout", "format", "rows", title="files")
    for file in report.files:
        files.add_row(file.name, file.layout, file.format, f"{file.rows:,}")
    yield files
    rows = Table("", "rows", title="what became of the rows")
    for name, count in _accounts(report):
        rows.add_row(name, f"{count:,}")
    yield rows
    if report.labels:
        yield _label_table(report)


def _accounts(report: ImportReport) -> Iterator[tuple[str, int]]:
    yield "read", report.rows
    yield "texts used", report.texts
    yield "repeat a text and its labels", report.repeated
    yield "repeat a text, add labels to it", report.merged
    for reason, count in report.dropped.items():
        yield f"left out: {reason}", count
    for name, count in (("markup taken off", report.html), ("opening taken off", report.openings)):
        if count:
            yield name, count
    if report.near_duplicates is not None:
        yield "nearly repeat a text (kept in its split)", report.near_duplicates
    if report.mixed:
        yield "added from the recipe's corpus", sum(report.mixed.values())
    if report.doubts is not None:
        yield f"doubtful labels, of {report.doubts_of:,} texts looked at", len(report.doubts)


def _label_table(report: ImportReport) -> Table:
    title = f"labels; split by {report.split_by}"
    if report.first:
        title += f"; {report.first} to {report.last}"
        title += f", {report.undated:,} of {report.texts:,} texts without a date" if report.undated else ""
    table = Table("label", "texts", *SPLITS, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    used = {name: count for name, count in report.labels.items() if count.all}
    ranked = sorted(used.items(), key=lambda item: -item[1].all)
    for name, count in [*ranked[:_LABELS_SHOWN], ("no event", report.without_event)]:
        table.add_row(name, *(f"{getattr(count, part):,}" for part in ("all", *SPLITS)))
    if len(ranked) > _LABELS_SHOWN:
        table.add_row(f"... {len(ranked) - _LABELS_SHOWN} more", "", "", "", "")
    return table
