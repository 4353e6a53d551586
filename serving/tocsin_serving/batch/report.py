"""A page about a job's outputs: one HTML file without scripts and without anything fetched from elsewhere.

It is made from the outputs once they are complete, not while they are written: a job that was taken up again, or that
ran on many machines, has the same report as one that ran through.
"""

from __future__ import annotations

import hashlib
import heapq
import importlib.util
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tocsin import TocsinError, UsageError
from tocsin.disk import atomic
from tocsin.errors import how_to_install
from tocsin.text import replace_lone_surrogates
from tocsin_serving.batch.arrow_text import NO_PYTHON_VALUE
from tocsin_serving.batch.csv_format import CsvRecords
from tocsin_serving.batch.files import STREAM, FileFormat, Input, Place, naming_faults, printable, readable
from tocsin_serving.batch.job import FileSummary, JobOptions
from tocsin_serving.batch.outputs import FilePair, check_apart
from tocsin_serving.batch.parquet_format import open_parquet
from tocsin_serving.batch.tally import Tally

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("report.html")
_ROWS_AT_ONCE = 512
# What an event is told by where a row is one.
_ACLED_EVENT = ("label", "event_type", "probability")
_SAMPLES = 5
_SAMPLE_CHARACTERS = 300
_BINS = 20
# Days up to which bars stand for days and for weeks; beyond, for months.
_DAYS_BY_DAY, _DAYS_BY_WEEK = 62, 366
# Days of other years are taken for marks of an unknown day: one of them would squeeze all others into a line.
DRAWN_YEARS = range(1800, 2101)
_PACKAGES = ("jinja2", "matplotlib")
# As in the template.
_TITLE = b"<title>Tocsin report</title>"


@dataclass(frozen=True, order=True)
class Sample:
    """A text that got a label."""

    order: str
    """The text's hash: taking the smallest is a random choice that comes out the same each time."""
    text: str
    probability: float
    needs_review: bool


@dataclass
class Findings:
    """What a report shows beyond the job's own counts."""

    probabilities: dict[bool, Counter[int]] = field(default_factory=lambda: {False: Counter(), True: Counter()})
    """Needs review -> bin -> labels given."""
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Label -> plain name and event type."""
    samples: dict[str, dict[str, Sample]] = field(default_factory=lambda: defaultdict(dict))
    """Label -> order -> sample."""
    days: Counter[tuple[date, str]] = field(default_factory=Counter)
    """Day and event type -> texts."""
    undated: int = 0
    """Texts with an event and no day, or one of a year that is not drawn."""
    model_versions: set[str] = field(default_factory=set)

    def add(self, rows: Sequence[dict[str, Any]], options: JobOptions) -> None:
        """Take in the output rows of a text: one, or under ACLED's names one for each event."""
        row, events = rows[0], [event for row in rows for event in _events(row, options)]
        # A JSON text may hold half a character; what was scored, and what `text_sha256` is of, is this.
        text = replace_lone_surrogates(row[_text_column(options)])
        needs_review = row[f"{options.prefix}needs_review"] in (True, "true")
        self.model_versions.add(row[f"{options.prefix}model_version"])
        for event in events:
            self._add_event(event, text, needs_review)
        if options.date_column and events:
            day = _drawn(parse_day(row.get(options.date_column)))
            self.undated += day is None
            if day is not None:
                self.days.update((day, kind) for kind in {event["event_type"] for event in events})

    def _add_event(self, event: dict[str, Any], text: str, needs_review: bool) -> None:
        label, probability = event["label"], float(event["probability"])
        self.names[label] = (event["name"], event["event_type"])
        self.probabilities[needs_review][min(int(probability * _BINS), _BINS - 1)] += 1
        sample = Sample(hashlib.sha256(text.encode()).hexdigest(), text, probability, needs_review)
        kept = self.samples[label]
        kept[sample.order] = sample
        if len(kept) > 20 * _SAMPLES:
            self.samples[label] = {one.order: one for one in heapq.nsmallest(_SAMPLES, kept.values())}

    def samples_of(self, label: str) -> list[Sample]:
        """A few texts with a label, surest first."""
        chosen = heapq.nsmallest(_SAMPLES, self.samples[label].values())
        return sorted(chosen, key=lambda sample: -sample.probability)


def check_report(path: Path, pairs: Sequence[FilePair], *, overwrite: bool, resume: bool = False) -> None:
    """Refuse a report that could not be written, before any work is done.

    :param pairs: what the job reads and writes.
    :param resume: a report that is there may be this job's own, and is then written again.
    :raises UsageError: it exists, its name is no page's, another file's of the job or cannot be used, or a package is
        missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"--report needs {' and '.join(missing)}: {how_to_install('report')}")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report writes a page: {path} should end in .html")
    with naming_faults():
        check_apart(path, pairs)
        if path.exists() and not overwrite and not (resume and _is_report(path)):
            raise UsageError(f"{path} exists; --overwrite replaces it.")
        if not path.parent.is_dir():
            raise UsageError(f"--report: there is no folder {path.parent}")


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return _TITLE in file.read(1024)


def write_report(path: Path, summaries: Sequence[FileSummary], options: JobOptions) -> None:
    """Write the page about complete outputs, which names the files that have none.

    :raises TocsinError: it cannot be made; the outputs stay.
    """
    scored = [summary for summary in summaries if summary.failure is None]
    # A failure may name a file by bytes that are no UTF-8.
    failures = [
        (summary.files.source_name, printable(str(summary.failure))) for summary in summaries if summary.failure
    ]
    try:
        findings = _read(scored, options)
        with atomic(path) as file:
            file.write(_page(scored, failures, findings, options).encode())
    except OSError as error:
        reason = error.strerror or error
        raise TocsinError(f"The report {path} cannot be made: {reason}. The outputs are complete.") from error


def _read(summaries: Sequence[FileSummary], options: JobOptions) -> Findings:
    findings = Findings()
    for files in (summary.files for summary in summaries):
        where = options.stdout_copy if files.target == STREAM else files.target
        if where is None:
            raise UsageError("What went to stdout can be reported on only if a copy is kept")
        for rows in _by_text(output_rows(where, files.target_format, options, _needed(options)), options):
            findings.add(rows, options)
    return findings


def _by_text(rows: Iterable[dict[str, Any]], options: JobOptions) -> Iterator[list[dict[str, Any]]]:
    """An output's rows, those of one text together: they are neighbours."""
    if not options.acled:
        return ([row] for row in rows)
    return (list(same) for _, same in groupby(rows, itemgetter(*_place(options))))


def _place(options: JobOptions) -> Iterator[str]:
    """The columns that tell, where a row is an event, of which text."""
    if options.acled:
        yield f"{options.prefix}document_row"
        if options.split_sentences:
            yield f"{options.prefix}sentence_number"


def output_rows(
    where: Place, file_format: FileFormat, options: JobOptions, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of an output as dictionaries; in CSV every cell is text.

    :param columns: those to read, where others can be left out; none means all.
    """
    with closing(Input(where, file_format)) as source, readable(source):
        if file_format.kind == "parquet":
            for batch in open_parquet(source.stream).iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                values = map(_values, batch.columns)
                yield from (dict(zip(batch.schema.names, row, strict=True)) for row in zip(*values, strict=True))
        elif file_format.kind == "jsonl":
            yield from map(json.loads, source.stream)
        else:
            records = CsvRecords(source, options.text_column)
            yield from (dict(zip(records.header, record.cells, strict=True)) for record in records)


def _needed(options: JobOptions) -> list[str]:
    """The output's columns that a report tells of: others may hold what Python cannot read."""
    events = _ACLED_EVENT if options.acled else ("events",)
    added = (options.prefix + name for name in (*events, "needs_review", "model_version"))
    dates = () if options.date_column is None else (options.date_column,)
    # Once each: the dates may be in the text's own column.
    return list(dict.fromkeys((*added, *_place(options), _text_column(options), *dates)))


def _text_column(options: JobOptions) -> str:
    return f"{options.prefix}sentence" if options.split_sentences else options.text_column


def _values(column: pa.Array) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except NO_PYTHON_VALUE:
        # One by one, so that a date of the year 20000 takes no other along.
        values = [_value(column.slice(row, 1)) for row in range(len(column))]
    return values


def _value(cell: pa.Array) -> object:
    try:
        return cell.to_pylist()[0]
    except NO_PYTHON_VALUE:
        return None


def _events(row: dict[str, Any], options: JobOptions) -> list[dict[str, Any]]:
    """A row's events; under ACLED's names a row is an event, and its label does for a plain name."""
    if options.acled:
        event = {name: row[options.prefix + name] for name in _ACLED_EVENT}
        return [{"name": event["label"], **event}]
    found = row[f"{options.prefix}events"]
    events: list[dict[str, Any]] = json.loads(found) if isinstance(found, str) else found
    return events


def parse_day(value: object) -> date | None:
    """The day of a date, a time, ISO 8601 or ACLED's "05 March 2024"; none of anything else."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    text = str(value).strip()
    for read in (datetime.fromisoformat, lambda text: datetime.strptime(text, "%d %B %Y")):
        try:
            return read(text).date()
        except ValueError:
            continue
    return None


def _drawn(day: date | None) -> date | None:
    """A day that a chart can show beside others; none of those that stand for an unknown one, such as 9999-12-31."""
    return day if day is not None and day.year in DRAWN_YEARS else None


def _page(
    summaries: Sequence[FileSummary], failures: Sequence[tuple[str, str]], findings: Findings, options: JobOptions
) -> str:
    """:param failures: files that were not scored, and why."""
    # Both come with an extra of their own.
    from jinja2 import Environment, StrictUndefined

    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text("utf-8"))
    tally = sum((summary.tally for summary in summaries), Tally())
    colours = _colours(tally)
    labels = sorted(findings.names, key=lambda label: (-tally.labels[label], label))
    return template.render(
        summaries=summaries,
        failures=failures,
        tally=tally,
        rows_read=sum(summary.rows_read for summary in summaries),
        rows_rejected=sum(summary.rows_rejected for summary in summaries),
        reject_reasons=sum((summary.reject_reasons for summary in summaries), Counter()).most_common(),
        languages=tally.languages.most_common(),
        model_versions=sorted(findings.model_versions),
        unit="sentences" if options.split_sentences else "texts",
        by_label=_label_chart(labels, tally, findings, colours) if labels else None,
        over_time=_time_chart(findings.days, colours) if findings.days else None,
        undated=findings.undated,
        drawn_years=DRAWN_YEARS,
        confidence=_confidence_chart(findings.probabilities) if labels else None,
        labels=[(*findings.names[label], tally.labels[label], findings.samples_of(label)) for label in labels],
        sample_characters=_SAMPLE_CHARACTERS,
    )


def _colours(tally: Tally) -> dict[str, Any]:
    from matplotlib import colormaps

    return {kind: colormaps["tab10"](index % 10) for index, kind in enumerate(sorted(tally.event_types))}


def _label_chart(labels: Sequence[str], tally: Tally, findings: Findings, colours: dict[str, Any]) -> str:
    figure = _figure(height=1.2 + 0.28 * len(labels))
    axes = figure.subplots()
    kinds = [findings.names[label][1] for label in labels]
    bars = axes.barh(
        [findings.names[label][0] for label in labels],
        [tally.labels[label] for label in labels],
        color=[colours[kind] for kind in kinds],
    )
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    axes.set_xlabel("events")
    _legend(figure, {kind: colours[kind] for kind in colours if kind in kinds})
    return _svg(figure)


def _time_chart(days: Counter[tuple[date, str]], colours: dict[str, Any]) -> str:
    name, start, width = _period(max(day for day, _ in days) - min(day for day, _ in days))
    counts: Counter[tuple[date, str]] = Counter()
    for (day, kind), count in days.items():
        counts[start(day), kind] += count
    # Matplotlib draws dates; its types do not say so.
    starts: Any = sorted({begin for begin, _ in counts})
    figure = _figure(height=3.4)
    axes = figure.subplots()
    bottom = np.zeros(len(starts))
    for kind, colour in colours.items():
        heights = np.array([counts[begin, kind] for begin in starts], dtype=float)
        axes.bar(starts, heights, width, bottom, align="edge", color=colour)
        bottom += heights
    axes.set_ylabel(f"texts per type and {name}")
    axes.margins(x=0.01)
    _legend(figure, colours)
    return _svg(figure)


def _period(span: timedelta) -> tuple[str, Callable[[date], date], float]:
    """What a bar stands for, its first day, and its width in days with a little air."""
    if span.days <= _DAYS_BY_DAY:
        return "day", lambda day: day, 0.9
    if span.days <= _DAYS_BY_WEEK:
        return "week", lambda day: day - timedelta(day.weekday()), 6.3
    return "month", lambda day: day.replace(day=1), 27.0


def _confidence_chart(probabilities: dict[bool, Counter[int]]) -> str:
    figure = _figure(height=2.8)
    axes = figure.subplots()
    edges = np.arange(_BINS) / _BINS
    colours = {"not sent to review": "#4c72b0", "sent to review": "#dd8452"}
    bottom = np.zeros(_BINS)
    for needs_review, colour in zip((False, True), colours.values(), strict=True):
        counts = np.array([probabilities[needs_review][index] for index in range(_BINS)], dtype=float)
        axes.bar(edges, counts, 0.9 / _BINS, bottom, align="edge", color=colour)
        bottom += counts
    axes.set(xlabel="probability of a label given", ylabel="events", xlim=(0, 1))
    _legend(figure, colours)
    return _svg(figure)


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(9, height), layout="constrained")


def _legend(figure: Figure, colours: dict[str, Any]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=patches, loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)


def _svg(figure: Figure) -> str:
    """A figure as markup; its words stay words, so that they can be searched and read aloud."""
    from matplotlib import rc_context

    file = io.StringIO()
    # The salt makes the same figure come out as the same bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tocsin", "text.parse_math": False}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    markup = file.getvalue()
    return markup[markup.index("<svg") :]
