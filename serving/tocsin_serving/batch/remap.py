"""Old batch output under new label names: what `tocsin score` wrote, without scoring again.

A map says which old identifier is called what now; a taxonomy gives each its plain name and its columns. Labels may be
renamed and several may become one (the highest probability stands for it: that of any of them is at least as high).
One label cannot become several, and none can vanish: that takes a model, so it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from glob import has_magic
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tocsin import InputError, Label, Taxonomy, TaxonomyError, TocsinError, UsageError
from tocsin.disk import atomic
from tocsin.toml import read_toml
from tocsin_serving.batch.columns import EVENT, FIRST_EVENT_COLUMNS, Shape
from tocsin_serving.batch.csv_format import CsvRecords, cell_encoders
from tocsin_serving.batch.dialect import USUAL, Dialect
from tocsin_serving.batch.files import PLAIN_SUFFIXES, FileFormat, Input, format_by_name, naming_faults
from tocsin_serving.batch.jsonl_format import with_fields
from tocsin_serving.batch.outputs import check_folder, plan
from tocsin_serving.batch.parquet_format import open_parquet

_NEEDED = ("events", *FIRST_EVENT_COLUMNS, "probability")

Row = dict[str, Any]


@dataclass(frozen=True)
class Renaming:
    """Old label identifier -> label of the new taxonomy.

    :raises UsageError: a new name is no label's.
    """

    renamed: Mapping[str, str]
    taxonomy: Taxonomy
    prefix: str = ""
    """What stands before the names of the columns that scoring added."""
    _labels: dict[str, Label] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if strange := {old: new for old, new in self.renamed.items() if new not in self.taxonomy.names}:
            lines = ", ".join(f'{old} = "{new}"' for old, new in strange.items())
            raise UsageError(f"the new taxonomy has no such label: {lines}. It has: {', '.join(self.taxonomy.names)}")

    @property
    def unmet(self) -> list[str]:
        """Old names of the map that no row had so far."""
        return [old for old in self.renamed if old not in self._labels]

    def label(self, old: str) -> Label:
        """The new label of an old one.

        :raises InputError: neither the map nor the taxonomy knows it.
        """
        if old not in self._labels:
            try:
                index = self.taxonomy.index(self.renamed.get(old, old))
            except TaxonomyError:
                raise InputError(
                    f"label {old!r} is not in the new taxonomy; add a line to [labels] of the map: "
                    f'{old} = "one of: {", ".join(self.taxonomy.names)}"'
                ) from None
            self._labels[old] = self.taxonomy.labels[index]
        return self._labels[old]

    def events(self, old: list[Row]) -> list[Row]:
        """A row's events under their new names, most probable first."""
        best: dict[str, Row] = {}
        for event in old:
            label = self.label(event["label"])
            columns = {name: getattr(label, name) for name in ("label", "name", *FIRST_EVENT_COLUMNS[1:])}
            if label.label not in best or event["probability"] > best[label.label]["probability"]:
                best[label.label] = columns | {"probability": event["probability"]}
        return sorted(best.values(), key=lambda event: -event["probability"])

    def scores(self, old: Mapping[str, float]) -> dict[str, float]:
        """A row's probability of every label under the new names."""
        new: dict[str, float] = {}
        for name, probability in old.items():
            label = self.label(name).label
            new[label] = max(probability, new.get(label, 0.0))
        return new

    def row(self, old: Row) -> Row:
        """The columns that change, of one row: ``events``, those of the first event, and ``scores`` if it is there."""
        events, scores = self.events(old.get(f"{self.prefix}events") or []), old.get(f"{self.prefix}scores")
        first = events[0] if events else dict.fromkeys(_NEEDED)
        changed = {name: first[name] for name in _NEEDED[1:]} | {"events": events}
        if scores is not None:
            changed["scores"] = self.scores(dict(scores))
        return {self.prefix + name: value for name, value in changed.items()}


def read_names(path: Path) -> dict[str, str]:
    """The table ``[labels]`` of a map: old identifier -> new identifier.

    :raises UsageError: it cannot be read or has no such table of names.
    """
    labels = read_toml(path, "the map of names", error=UsageError).get("labels")
    if not isinstance(labels, dict) or not all(isinstance(new, str) for new in labels.values()):
        raise UsageError(f'{path}: a table [labels] with lines like old_label = "new_label" is needed')
    return labels


def remap(
    source: Path,
    target: Path,
    renaming: Renaming,
    *,
    overwrite: bool = False,
    dialect: Dialect | None = None,
    left_out: Callable[[Sequence[str]], None] = lambda names: None,
) -> int:
    """Write a batch output anew under new names, or each of a folder or glob; each appears only when it is complete.

    :param target: of a folder or glob another folder, in which each has the name it had.
    :param dialect: of CSV, as it was given when the output was made.
    :param left_out: told the names of a folder's files that are no tables.
    :return: rows.
    :raises UsageError: the files do not go together, or an output exists.
    :raises InputError: an input is no batch output or damaged, or has a label that nothing is said about.
    """
    with naming_faults():
        several = source.is_dir() or (has_magic(str(source)) and not source.exists())
    planned = plan(source, target, left_out=left_out) if several else []
    files = [(Path(str(pair.source)), Path(str(pair.target))) for pair in planned] or [(source, target)]
    # All of them before the first is written.
    formats = [_checked(*each, overwrite=overwrite).spoken_in(dialect or USUAL) for each in files]
    for pair in planned:
        check_folder(pair)
    rows = 0
    for number, (each, read_as) in enumerate(zip(files, formats, strict=True)):
        try:
            rows += _remap_file(*each, read_as, renaming)
        except TocsinError as error:
            if not number:
                raise
            raise type(error)(
                f"{error} The {number:,} before it are written; --overwrite writes them again."
            ) from error
    return rows


def _checked(source: Path, target: Path, *, overwrite: bool) -> FileFormat:
    """What the input is, if the two go together."""
    read_as = format_by_name(source.name)
    if read_as is None or read_as.codec or target.suffix.lower() != source.suffix.lower():
        raise UsageError(f"{source} and {target} must both end in one of: {', '.join(PLAIN_SUFFIXES)}")
    with naming_faults():
        if target.exists() and not overwrite:
            raise UsageError(f"{target} exists; --overwrite replaces it.")
        if target.exists() and target.samefile(source):
            raise UsageError(f"OUTPUT is the same file as INPUT: {target}")
    return read_as


def _remap_file(source: Path, target: Path, read_as: FileFormat, renaming: Renaming) -> int:
    kinds = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}
    try:
        with closing(Input(source, read_as)) as file, atomic(target) as output:
            return kinds[read_as.kind](file, output, renaming)
    except (OSError, UnicodeEncodeError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).strip()
        raise InputError(f"{source} to {target}: {reason}. {target} was not written.") from error


def _jsonl(source: Input, output: BinaryIO, renaming: Renaming) -> int:
    rows = 0
    for number, line in enumerate(source.stream, 1):
        if line.strip():
            output.write(_jsonl_row(line.strip(), f"{source.name}:{number}", renaming))
            rows += 1
    return rows


def _jsonl_row(line: bytes, place: str, renaming: Renaming) -> bytes:
    # Where the added fields begin: what stands before is the user's and is kept byte for byte. The last one: a field of
    # the user's stands before those that were added.
    mark = line.rfind(f', "{renaming.prefix}events": '.encode())
    try:
        added = json.loads(b"{" + line[mark + 2 :]) if mark >= 0 else {}
    except ValueError as error:
        raise InputError(f"{place}: not a row that `tocsin score` wrote: {error}") from error
    _check_columns(added, place, renaming)
    changed = _placed(place, lambda: renaming.row(added))
    return with_fields(line[:mark], added | changed)


def _csv(source: Input, output: BinaryIO, renaming: Renaming) -> int:
    records = CsvRecords(source, f"{renaming.prefix}events")
    _check_columns(records.header, source.name, renaming)
    nested = _nested(records.header, renaming)
    encoding = records.encoding
    output.write(records.mark + records.separator.encode(encoding))
    write = records.dialect.row_writer(lambda line: output.write(line.encode(encoding)))
    write(records.header)
    encoders = cell_encoders(Shape(scores=True, prefix=renaming.prefix).schema, encoding)
    rows = 0
    for record in records:
        place = f"{source.name}:{record.first_line}"
        if problem := records.problem(record):
            raise InputError(f"{place}: not a row that `tocsin score` wrote: {problem}")
        changed = _csv_changes(dict(zip(records.header, record.cells, strict=True)), nested, place, renaming)
        cells = {name: encoders[name](value) for name, value in changed.items()}
        # By position, for several columns may have one name.
        write([cells.get(name, cell) for name, cell in zip(records.header, record.cells, strict=True)])
        rows += 1
    return rows


def _csv_changes(row: Mapping[str, str], nested: Sequence[str], place: str, renaming: Renaming) -> Row:
    try:
        decoded = {name: json.loads(row[name]) for name in nested if row[name]}
    except ValueError as error:
        raise InputError(f"{place}: not a row that `tocsin score` wrote: {error}") from error
    return _placed(place, lambda: renaming.row(decoded))


def _parquet(source: Input, output: BinaryIO, renaming: Renaming) -> int:
    file = open_parquet(source.stream)
    schema = file.schema_arrow
    _check_columns(schema.names, source.name, renaming)
    with file, pq.ParquetWriter(output, schema, compression="zstd") as writer:
        for batch in file.iter_batches():
            writer.write_table(_parquet_rows(pa.Table.from_batches([batch]), source.name, renaming))
        return int(file.metadata.num_rows)


def _parquet_rows(table: pa.Table, place: str, renaming: Renaming) -> pa.Table:
    nested = table.select(_nested(table.column_names, renaming))
    old: Iterator[Row] = iter(nested.to_pylist(maps_as_pydicts="strict"))
    changed = [_placed(place, lambda row=row: renaming.row(row)) for row in old]  # type: ignore[misc]
    for name in changed[0] if changed else ():
        kind = pa.list_(EVENT) if name == f"{renaming.prefix}events" else table.schema.field(name).type
        values = [list(row[name].items()) if pa.types.is_map(kind) else row[name] for row in changed]
        column = table.column_names.index(name)
        table = table.set_column(column, table.schema.field(name), pa.array(values, kind))
    return table


def _nested(names: Sequence[str], renaming: Renaming) -> list[str]:
    """Which columns hold labels within their values.

    `scores` does only where `tocsin score --scores` puts it: a column of the user's own may have that name.
    """
    events, digest, scores = (renaming.prefix + name for name in ("events", "text_sha256", "scores"))
    return [events, scores] if (digest, scores) in pairwise(names) else [events]


def _placed(place: str, work: Callable[[], Row]) -> Row:
    """Do something, and say where it went wrong."""
    try:
        return work()
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{place}: its events are not those that `tocsin score` writes") from error


def _check_columns(names: Container[str], place: str, renaming: Renaming) -> None:
    missing = [name for name in (renaming.prefix + needed for needed in _NEEDED) if name not in names]
    if missing:
        raise InputError(
            f"{place}: not an output of `tocsin score`: it has no {', '.join(missing)}. If it was made with --prefix, "
            "give the same."
        )
